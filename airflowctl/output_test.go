package airflowctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	read := func(after Mark, n int) ([]string, Mark) {
		t.Helper()
		lines, mark, err := readOutput(path, after, n)
		if err != nil {
			t.Fatal(err)
		}
		return lines, mark
	}
	add := func(text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil || file.Close() != nil {
			t.Fatal(err)
		}
	}
	want := func(got []string, lines ...string) {
		t.Helper()
		if strings.Join(got, "|") != strings.Join(lines, "|") {
			t.Errorf("%q, want %q", got, lines)
		}
	}
	got, mark := read(Mark{}, 10)
	want(got)
	add("one\ntwo\nthr")
	got, mark = read(mark, 10)
	want(got, "one", "two")
	got, mark = read(mark, 10)
	want(got)
	add("ee\nfour\n")
	got, mark = read(mark, 1)
	want(got, "three", "four")
	got, _ = read(Mark{}, 2)
	want(got, "three", "four")

	if err := os.Rename(path, path+".1"); err != nil { // it was full
		t.Fatal(err)
	}
	add("five\n")
	got, mark = read(mark, 10)
	want(got, "five")
	for i := range 60_000 { // more than is read at once
		if i%1000 == 0 {
			add(strings.Repeat(fmt.Sprintf("line %d\n", i), 1000))
		}
	}
	got, mark = read(mark, 3)
	want(got, "line 59000", "line 59000", "line 59000")
	got, _ = read(mark, 3)
	want(got)
}
