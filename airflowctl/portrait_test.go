package airflowctl

import (
	"os"
	"os/signal"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/shim"
)

func TestPortraitOfThisProcess(t *testing.T) {
	p, err := lookAt(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.threads) < 2 || p.stopped() || !strings.Contains(p.threads[0], "thread ") {
		t.Errorf("%+v", p)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, shim.Dump)
	defer signal.Stop(c)
	if p, err = lookAt(os.Getpid()); err != nil || !p.catches(shim.Dump) {
		t.Errorf("handler of %v not seen in %x (%v)", shim.Dump, p.caught, err)
	}
	if (portrait{caught: 1<<48 | 1<<50}).catches(shim.Dump) {
		t.Error("its neighbours are taken for the signal")
	}
	for state, want := range map[string]bool{"T (stopped)": true, "t (tracing stop)": true, "S (sleeping)": false, "": false} {
		if (portrait{state: state}).stopped() != want {
			t.Errorf("stopped in state %q: %v", state, !want)
		}
	}
}

func TestKernelStack(t *testing.T) {
	text := "[<0>] do_wait+0x5f/0x120\n[<0>] kernel_wait4+0xa2/0x150\n[<0>] entry_SYSCALL_64_after_hwframe+0x76/0x7e\n"
	if got := kernelStack(text); got != "do_wait < kernel_wait4 < entry_SYSCALL_64_after_hwframe" {
		t.Errorf("got %q", got)
	}
	if got := kernelStack("[<0>] 0xffffffff\n\n"); got != "0xffffffff" {
		t.Errorf("got %q", got)
	}
}
