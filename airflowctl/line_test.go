package airflowctl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/airflowctl"
)

func TestCleanLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"\n":                              "",
		"\nsecond":                        "",
		"3 of 12 chunks, 41 %\n":          "3 of 12 chunks, 41 %",
		"no end of line":                  "no end of line",
		"first\nsecond\n":                 "first",
		"dos\r\n":                         "dos",
		"  wide\t \v\u00a0\u2003 spaces ": "wide spaces",
		"10 %\r20 %\r30 %":                "10 % 20 % 30 %",
		"\x1b[31mred\x1b[0m\a\b\x00\x7f":  "[31mred[0m",
		"c1 \u009b2J":                     "c1 2J",
		"bidi \u202e\u2066evil\u2069":     "bidi evil",
		"zero\u200bwidth\ufeff":           "zerowidth",
		"broken \xff\xc3 utf-8":           "broken \ufffd\ufffd utf-8",
		"Jahr 2019: übertragen ✓":         "Jahr 2019: übertragen ✓",
		strings.Repeat("x", 300):          strings.Repeat("x", 200),
		strings.Repeat("ü", 150):          strings.Repeat("ü", 100),
		"y" + strings.Repeat("ü", 150):    "y" + strings.Repeat("ü", 99),
		strings.Repeat("z", 199) + " end": strings.Repeat("z", 199),
		strings.Repeat("\xff", 300):       strings.Repeat("\ufffd", 66),
		strings.Repeat("\x1b", 300) + "a": "a",
	} {
		if got := airflowctl.CleanLine([]byte(text)); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func FuzzCleanLine(f *testing.F) {
	f.Add([]byte("2019: ingest 1.2 M rows (3 of 12 chunks, 41 %, about 25 s left)\nmore"))
	f.Add([]byte(strings.Repeat("ü \x1b\xff", 100)))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := airflowctl.CleanLine(text)
		if len(got) > 200 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q became %q", text, got)
		}
		if again := airflowctl.CleanLine([]byte(got)); again != got {
			t.Fatalf("%q became %q, then %q", text, got, again)
		}
	})
}

// TestReadLine: whatever a job puts at that path, we neither wait nor read what is not its own.
func TestReadLine(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte("password\n"), 0o600))
	own := os.Getuid()
	for _, tt := range []struct {
		name string
		make func(path string) error
		uid  int
		want string
		err  string
	}{
		{"none", func(string) error { return nil }, own, "", ""},
		{"plain", func(p string) error { return os.WriteFile(p, []byte("so far\nso good"), 0o600) }, own, "so far", ""},
		{"anybody's", func(p string) error { return os.WriteFile(p, []byte("so far"), 0o600) }, -1, "so far", ""},
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o600) }, own, "", ""},
		{"huge", func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("h", 1<<20)), 0o600) }, own, strings.Repeat("h", 200), ""},
		{"link", func(p string) error { return os.Symlink(secret, p) }, own, "", "open status file"},
		{"another user's", func(p string) error { return os.Link(secret, p) }, own + 1, "", "belongs to user"},
		{"pipe", func(p string) error { return unix.Mkfifo(p, 0o600) }, own, "", "not a plain file"},
		{"directory", func(p string) error { return os.Mkdir(p, 0o700) }, own, "", "not a plain file"},
	} {
		path := filepath.Join(dir, tt.name)
		must(t, tt.make(path))
		began := time.Now()
		got, err := airflowctl.ReadLine(path, tt.uid)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.name, got, err, tt.want, tt.err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %s", tt.name, took)
		}
	}
}

// teller says something else at each signal, as a job should: a file of its own is renamed into place.
const teller = `say() { printf '%s\n' "$1" > "$DUOFLOW_STATUS_FILE.new" && mv "$DUOFLOW_STATUS_FILE.new" "$DUOFLOW_STATUS_FILE"; }
say "epoch $DUOFLOW_EPOCH begins"
while ! [ -e "$STEP" ]; do sleep 0.02; done
say "epoch $DUOFLOW_EPOCH goes on"
while [ -e "$STEP" ]; do sleep 0.02; done
rm "$DUOFLOW_STATUS_FILE"
exec sleep 600`

// TestARunnerSaysWhatIsNext, and its command, beside it, what it likes.
func TestARunnerSaysWhatIsNext(t *testing.T) {
	m := newMetastore(t)
	const runner = `echo "next slot is never" > "$DUOFLOW_SCHEDULE_FILE"; echo "I run" > "$DUOFLOW_STATUS_FILE"; exec sleep 600`
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"true"}, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
		Schedule: "@yearly", Runner: []string{"sh", "-c", runner},
	})
	must(t, j.Take(t.Context(), claim(1, "a")))
	must(t, j.Start(t.Context(), claim(1, "a")))
	eventually(t, "both are said", func() bool {
		s := j.Status()
		return s.Slots == "next slot is never" && s.Line.Text == "I run"
	})
	must(t, j.Stop(t.Context(), 1, time.Second))
	if s := j.Status(); s.Slots != "" {
		t.Errorf("after its end: %q", s.Slots)
	}
}

// TestALifeSaysSomething: what it says is in the status, as long as it says so, and goes with its epoch.
func TestALifeSaysSomething(t *testing.T) {
	m := newMetastore(t)
	step := filepath.Join(t.TempDir(), "step")
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", teller}, Env: append(os.Environ(), "DUOFLOW_STATUS_FILE=/nowhere", "DUOFLOW_EPOCH=7", "STEP="+step),
		FenceDSN: m.dsn["a"], Observer: &events{},
	})
	says := func(want string) {
		t.Helper()
		eventually(t, "it says "+want, func() bool { return j.Status().Line.Text == want })
	}
	if got := j.Status().Line; got != (airflowctl.Line{}) {
		t.Errorf("before any life: %+v", got)
	}
	takeOver(t, j, claim(1, "a"))
	says("epoch 1 begins")
	first := j.Status().Line.At
	if since := time.Since(first); since < 0 || since > patience {
		t.Errorf("said %s ago", since)
	}
	must(t, os.WriteFile(step, nil, 0o600))
	says("epoch 1 goes on")
	if at := j.Status().Line.At; !at.After(first) {
		t.Errorf("said at %s, and before at %s", at, first)
	}
	must(t, os.Remove(step))
	says("")
	must(t, j.Stop(t.Context(), 1, time.Second))
	takeOver(t, j, claim(2, "a"))
	says("epoch 2 begins")
	must(t, j.Stop(t.Context(), 2, time.Second))
	says("")
}
