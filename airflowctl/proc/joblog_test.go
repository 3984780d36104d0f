package proc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func openTestLog(t *testing.T, cfg JobLogConfig) *JobLog {
	t.Helper()
	log, err := OpenJobLog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	log.now = func() time.Time { return time.Date(2026, 11, 24, 1, 2, 3, 4e6, time.UTC) }
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func write(t *testing.T, log *LifeLog, text string) {
	t.Helper()
	if n, err := log.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestJobLogWritesWholeLines(t *testing.T) {
	log := openTestLog(t, JobLogConfig{Dir: filepath.Join(t.TempDir(), "a", "b"), Base: "etl", MaxBytes: 1 << 20})
	active, spare := log.Life("e12"), log.Life("warm")
	write(t, active, "one\ntw")
	write(t, spare, "other\n")
	write(t, active, "o\n\n")
	const at = "2026-11-24T01:02:03.004Z "
	want := at + "e12 one\n" + at + "warm other\n" + at + "e12 two\n" + at + "e12 \n"
	if got := read(t, log.Path()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := active.Tail(2); !slices.Equal(got, []string{"two", ""}) {
		t.Errorf("tail %q", got)
	}
	if got := spare.Tail(100); !slices.Equal(got, []string{"other"}) {
		t.Errorf("tail of the other %q", got)
	}
	if got := spare.Tail(-1); len(got) != 0 {
		t.Errorf("tail of -1: %q", got)
	}
}

func TestJobLogRotatesAtLines(t *testing.T) {
	dir := t.TempDir()
	cfg := JobLogConfig{Dir: dir, Base: "job", MaxBytes: 100, Keep: 2}
	log := openTestLog(t, cfg)
	life := log.Life("x")
	for i := range 20 { // 36 bytes each: two fit
		write(t, life, fmt.Sprintf("line %03d\n", i))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var text string
	for _, entry := range slices.Backward(entries) { // job.log.2, job.log.1, job.log
		names = append(names, entry.Name())
		part := read(t, filepath.Join(dir, entry.Name()))
		if int64(len(part)) > cfg.MaxBytes || !strings.HasSuffix(part, "\n") {
			t.Errorf("%s has %d bytes", entry.Name(), len(part))
		}
		text += part
	}
	if !slices.Equal(names, []string{"job.log.2", "job.log.1", "job.log"}) {
		t.Errorf("files %q", names)
	}
	var got []string
	for line := range strings.Lines(text) {
		got = append(got, strings.TrimSpace(line[len(line)-4:]))
	}
	if want := []string{"014", "015", "016", "017", "018", "019"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

func TestJobLogAppendsAfterReopen(t *testing.T) {
	cfg := JobLogConfig{Dir: t.TempDir(), Base: "job", MaxBytes: 100, Keep: 1}
	for i := range 3 {
		log, err := OpenJobLog(cfg)
		if err != nil {
			t.Fatal(err)
		}
		write(t, log.Life("x"), fmt.Sprintf("line %03d\n", i))
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Life("x").Write([]byte("late\n")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	}
	path := filepath.Join(cfg.Dir, "job.log")
	if old := read(t, path+".1"); strings.Count(old, "\n") != 2 {
		t.Errorf("first file: %q", old)
	}
	if now := read(t, path); !strings.HasSuffix(now, "line 002\n") {
		t.Errorf("second file: %q", now)
	}
}

func TestJobLogKeepsNoOldFile(t *testing.T) {
	cfg := JobLogConfig{Dir: t.TempDir(), Base: "job", MaxBytes: 1}
	life := openTestLog(t, cfg).Life("x")
	write(t, life, "a line longer than the limit\nand another\n")
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files: %v", len(entries), err)
	}
	if got := read(t, filepath.Join(cfg.Dir, "job.log")); !strings.HasSuffix(got, "x and another\n") {
		t.Errorf("got %q", got)
	}
}

func TestJobLogGoesOnAfterAnError(t *testing.T) {
	cfg := JobLogConfig{Dir: t.TempDir(), Base: "job", MaxBytes: 1, Keep: 1}
	log := openTestLog(t, cfg)
	life := log.Life("x")
	write(t, life, "one\n")
	block := log.Path() + ".1"
	if err := os.MkdirAll(filepath.Join(block, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if n, err := life.Write([]byte("two\n")); err == nil || n != 4 {
		t.Errorf("rotation onto a directory: %d, %v", n, err)
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	write(t, life, "three\n")
	if got := read(t, log.Path()); !strings.HasSuffix(got, "x three\n") {
		t.Errorf("got %q", got)
	}
	if got := life.Tail(9); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("tail %q", got)
	}
}

// TestJobLogOfAStuckDisk: a pipe that nobody reads is as patient as a frozen file system. Who writes is held up once, what
// is too much is counted, and when the disk answers again the rest is there, in order, with a word about what is not.
func TestJobLogOfAStuckDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "job.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	log := openTestLog(t, JobLogConfig{Dir: dir, Base: "job", MaxBytes: 1 << 30})
	life, filler := log.Life("x"), strings.Repeat("y", 1000)
	const lines = 3000 // three times what may wait
	held, problems := 0, 0
	for i := range lines {
		began := time.Now()
		if _, err := fmt.Fprintf(life, "%d %s\n", i, filler); err != nil {
			if !errors.Is(err, errBehind) {
				t.Fatal(err)
			}
			problems++
		}
		if time.Since(began) >= patience {
			held++
		}
	}
	if held > 3 { // once, and twice by a machine that does other things as well
		t.Errorf("who wrote was held up %d times", held)
	}
	lost := log.Lost()
	if problems == 0 || uint64(problems) != lost {
		t.Errorf("%d lines refused, %d counted", problems, lost)
	}
	if err := disk.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	read := bufio.NewScanner(disk)
	for i := range lines - problems {
		if !read.Scan() || !strings.HasPrefix(read.Text(), fmt.Sprintf("2026-11-24T01:02:03.004Z x %d y", i)) {
			t.Fatalf("line %d is %.50q", i, read.Text())
		}
	}
	for life.log.isBehind() {
		time.Sleep(time.Millisecond)
	}
	write(t, life, "after\n")
	note := fmt.Sprintf("2026-11-24T01:02:03.004Z duoflow: %d lines before this one are lost", lost)
	if !read.Scan() || read.Text() != note || !read.Scan() || !strings.HasSuffix(read.Text(), " x after") {
		t.Errorf("after the gap: %q", read.Text())
	}
}

func (l *JobLog) isBehind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.behind
}

// TestJobLogOfAFullDisk: lines are lost and counted, and the job's log goes on when there is room.
func TestJobLogOfAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/full", filepath.Join(dir, "job.log")); err != nil {
		t.Fatal(err)
	}
	log := openTestLog(t, JobLogConfig{Dir: dir, Base: "job", MaxBytes: 1 << 20})
	life := log.Life("x")
	for range 5 {
		if _, err := life.Write([]byte("gone\n")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
	}
	if got := log.Lost(); got != 5 {
		t.Errorf("%d lost", got)
	}
	room, err := os.Create(filepath.Join(dir, "room"))
	if err != nil {
		t.Fatal(err)
	}
	_ = log.file.Close()
	log.file = room
	write(t, life, "after\n")
	if got := read(t, room.Name()); !strings.Contains(got, "duoflow: 5 lines before this one are lost\n") || !strings.HasSuffix(got, "x after\n") {
		t.Errorf("got %q", got)
	}
}

func TestTailIsBounded(t *testing.T) {
	life := openTestLog(t, JobLogConfig{Dir: t.TempDir(), Base: "job", MaxBytes: 1 << 20}).Life("x")
	for i := range tailLines + 7 {
		write(t, life, fmt.Sprintf("%d %s\n", i, strings.Repeat("y", 2*tailWidth)))
	}
	tail := life.Tail(10 * tailLines)
	if len(tail) != tailLines || !strings.HasPrefix(tail[0], "7 ") ||
		!strings.HasPrefix(tail[tailLines-1], fmt.Sprint(tailLines+6)) {
		t.Errorf("%d lines, from %.5q to %.5q", len(tail), tail[0], tail[len(tail)-1])
	}
	if len(tail[0]) != tailWidth {
		t.Errorf("a line of %d bytes", len(tail[0]))
	}
}

func TestJobLogSharedByLives(t *testing.T) {
	cfg := JobLogConfig{Dir: t.TempDir(), Base: "job", MaxBytes: 4 << 10, Keep: 100}
	log := openTestLog(t, cfg)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			life := log.Life(fmt.Sprint("life", i))
			for range 200 {
				if _, err := life.Write([]byte("hello\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, entry := range entries {
		for line := range strings.Lines(read(t, filepath.Join(cfg.Dir, entry.Name()))) {
			n++
			if !strings.HasSuffix(line, " hello\n") {
				t.Fatalf("mixed line %q", line)
			}
		}
	}
	if n != 800 {
		t.Errorf("%d lines", n)
	}
}

func TestJobLogConfigIsChecked(t *testing.T) {
	for _, cfg := range []JobLogConfig{
		{Base: "a", MaxBytes: 1}, {Dir: t.TempDir(), MaxBytes: 1}, {Dir: t.TempDir(), Base: "../a", MaxBytes: 1},
		{Dir: t.TempDir(), Base: "a"}, {Dir: t.TempDir(), Base: "a", MaxBytes: 1, Keep: -1},
	} {
		if _, err := OpenJobLog(cfg); err == nil {
			t.Errorf("%+v: accepted", cfg)
		}
	}
}
