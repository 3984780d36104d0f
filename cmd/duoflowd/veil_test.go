package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/airflowctl/proc"
)

// roleEnv makes this test binary a process of another kind, see play.
const roleEnv = "DUOFLOWD_TEST_ROLE"

// secretEnv is in the environment of those processes.
const secretEnv = "DUOFLOWD_TEST_SECRET"

func TestMain(m *testing.M) {
	proc.MaybeInit()
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(strings.Fields(role)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is "keep" or "keep veiled", a process with a secret; "steal PID ADDRESS", one that looks for it; "start MODE", a veiled one that
// starts a life.
func play(role []string) error {
	switch role[0] {
	case "keep":
		return keep(len(role) > 1)
	case "steal":
		return steal(role[1], role[2])
	}
	if err := veil(); err != nil {
		return err
	}
	forest, err := proc.New(proc.Config{Name: "veil-test-" + strconv.Itoa(os.Getpid()), ForceMode: proc.Mode(role[1]), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	life, err := forest.Start(proc.Spec{Label: "one", Args: []string{"sleep", "100"}, Env: os.Environ()})
	if err != nil {
		return err
	}
	return life.Kill(ctx)
}

// keep says where its secret is, and waits to be killed.
func keep(veiled bool) error {
	if veiled {
		if err := veil(); err != nil {
			return err
		}
	}
	secret := []byte(os.Getenv(secretEnv))
	fmt.Printf("%x\n", uintptr(unsafe.Pointer(&secret[0])))
	_, err := io.Copy(io.Discard, os.Stdin)
	fmt.Println(string(secret)) // it has to live until here
	return err
}

// steal says in which ways a process's secret can be had.
func steal(pid, address string) error {
	secret := os.Getenv(secretEnv)
	if text, err := os.ReadFile(filepath.Join("/proc", pid, "environ")); err == nil && bytes.Contains(text, []byte(secret)) {
		fmt.Println("environ")
	}
	if _, err := os.ReadDir(filepath.Join("/proc", pid, "fd")); err == nil {
		fmt.Println("fd")
	}
	at, err := strconv.ParseInt(address, 16, 64)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	read := make([]byte, len(secret))
	if memory, err := os.Open(filepath.Join("/proc", pid, "mem")); err == nil {
		if _, err := memory.ReadAt(read, at); err == nil && string(read) == secret {
			fmt.Println("mem")
		}
		_ = memory.Close()
	}
	clear(read)
	ours, theirs := unix.Iovec{Base: &read[0]}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(secret)}}
	ours.SetLen(len(read))
	if _, err := unix.ProcessVMReadv(number, []unix.Iovec{ours}, theirs, 0); err == nil && string(read) == secret {
		fmt.Println("readv")
	}
	return nil
}

// player starts this test binary in a role, as a user who is not root.
func player(t *testing.T, dir, role, secret string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, "player"))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), roleEnv+"="+role, secretEnv+"="+secret, "GOTRACEBACK=crash")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return cmd
}

// playground is a folder where everybody may write, with this test binary in it.
func playground(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	binary, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "player"), binary, 0o755)
	}
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestVeil: what a veiled process knows cannot be had by another one of its user, and is in no core. All of it can be had of one that
// is not veiled, so it is the veil that does it.
func TestVeil(t *testing.T) {
	dir := playground(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	soft := limit
	soft.Cur = soft.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &soft); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) })
	open, dumped := rob(t, dir, "keep")
	if !strings.Contains(open, "environ") || !strings.Contains(open, "fd") {
		t.Errorf("of a process without veil only %q can be had", open)
	}
	t.Logf("without veil: %q can be had, core: %v (limit %d)", open, dumped, int64(soft.Cur))
	if got, dumped := rob(t, dir, "keep veiled"); got != "" || dumped {
		t.Errorf("of a veiled process %q can be had, core: %v", got, dumped)
	}
}

// rob tries to have the secret of a process in every way, and then ends it so that a core is due.
func rob(t *testing.T, dir, role string) (had string, dumped bool) {
	t.Helper()
	const secret = "correct horse battery staple"
	victim := player(t, dir, role, secret)
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	thief := player(t, dir, fmt.Sprintf("steal %d %s", victim.Process.Pid, strings.TrimSpace(address)), secret)
	text, err := thief.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := victim.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // it was killed
	status := victim.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Fatalf("ended with %v", victim.ProcessState)
	}
	cores, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, core := range cores {
		if err := os.Remove(core); err != nil {
			t.Fatal(err)
		}
	}
	return string(text), status.CoreDump() || len(cores) > 0
}

// TestVeiledDaemonStartsJobs: in every mode but the one that veilBeside knows.
func TestVeiledDaemonStartsJobs(t *testing.T) {
	dir := playground(t)
	run := func(mode proc.Mode, root bool) error {
		cmd := player(t, dir, "start "+string(mode), "")
		if root {
			cmd.SysProcAttr.Credential = nil
		}
		text, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		return nil
	}
	if err := run(proc.ModeGroup, false); err != nil {
		t.Errorf("group, as a user: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	for _, mode := range []proc.Mode{proc.ModeCgroup, proc.ModePIDNS, proc.ModeGroup} {
		if err := run(mode, true); err != nil {
			t.Errorf("%s, as root: %v", mode, err)
		}
	}
	t.Logf("pidns, as a user: %v", run(proc.ModePIDNS, false))
}
