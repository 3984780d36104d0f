package proc

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays every part itself: TestMain looks here for what it shall be.
const (
	roleEnv = "PROC_TEST_ROLE"
	markEnv = "PROC_TEST_MARK" // in the environment of a whole tree, and how the tests find it
	nameEnv = "PROC_TEST_NAME"
	modeEnv = "PROC_TEST_MODE"
	// fastExit: under the race detector each process would wait a second before it ends.
	fastExit = "GORACE=atexit_sleep_ms=0"
)

func TestMain(m *testing.M) {
	MaybeInit()
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

func play(role string) int {
	switch role {
	case "tree":
		return playTree()
	case "branch":
		sprout("")
		sprout("kill -STOP $$;")
		return 0
	case "leave":
		sprout("")
		return 3
	case "polite":
		return playPolite()
	case "echo":
		return playEcho()
	case "deaf":
		time.Sleep(time.Hour)
		return 0
	case "daemon":
		return playDaemon()
	case "clear":
		return playClear()
	}
	fmt.Fprintln(os.Stderr, "unknown role", role)
	return 99
}

// treeSize is how many processes playTree ends up with: itself, a leaf, and two of each branch.
const treeSize = 6

// playTree is the worst job: children in other groups and sessions, whose parents are gone, deaf to
// SIGTERM, some of them stopped, as it is itself in the end.
func playTree() int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	sprout("")
	for range 2 {
		if err := spawn("branch").Wait(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 98
		}
	}
	stopSelf()
	time.Sleep(time.Hour)
	return 0
}

func stopSelf() {
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(97)
	}
}

// spawn starts this binary in a session of its own.
func spawn(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return startApart(cmd)
}

// sprout starts a leaf: a process in a session of its own that ignores what can be ignored. It is a
// shell because that starts fast; script is what it does first.
func sprout(script string) {
	startApart(exec.Command("/bin/sh", "-c", "trap '' TERM HUP INT; "+script+" exec /bin/sleep 3600"))
}

func startApart(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(96)
	}
	return cmd
}

// playPolite has a child, and ends with 0 at SIGTERM.
func playPolite() int {
	sprout("")
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	fmt.Println("ready")
	<-terms
	return 0
}

// playEcho answers on fd 4 what it hears on fd 3, ignores SIGTERM, and ends with 7 at the end of 3.
func playEcho() int {
	signal.Ignore(syscall.SIGTERM)
	in, out := bufio.NewScanner(os.NewFile(3, "in")), os.NewFile(4, "out")
	for in.Scan() {
		fmt.Fprintln(out, "got", in.Text())
	}
	fmt.Fprintln(out, "end")
	return 7
}

// playDaemon starts a tree and waits to be killed.
func playDaemon() int {
	forest, err := New(Config{Name: os.Getenv(nameEnv), ForceMode: Mode(os.Getenv(modeEnv))})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	life, err := forest.Start(treeSpec("life", os.Getenv(markEnv)))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("started", life.PID(), forest.Mode())
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	fmt.Println("done", strings.TrimSpace(line), life.Kill(ctx))
	return 0
}

// playClear is a daemon that only clears.
func playClear() int {
	forest, err := New(Config{Name: os.Getenv(nameEnv), ForceMode: ModeCgroup})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), testPatience)
		defer cancel()
		err = forest.Clear(ctx)
	}
	fmt.Println(err)
	return 0
}

func treeSpec(label, mark string) Spec { return roleSpec(label, "tree", mark) }

func roleSpec(label, role, mark string) Spec {
	return Spec{
		Label: label, Args: []string{"/proc/self/exe"},
		Env: []string{roleEnv + "=" + role, markEnv + "=" + mark, fastExit},
	}
}
