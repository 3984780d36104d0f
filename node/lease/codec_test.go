package lease_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/lease"
)

// commands is one of each kind, every field set.
func commands() map[string]lease.Command {
	detect := grant(4, 5, "b", tokenB)
	detect.Grant.Detect = lease.Timing{Name: "detect", Took: 310e6}
	return map[string]lease.Command{
		"configure": configure(lease.Node{ID: "a"}, lease.Node{ID: "t", Witness: true}),
		"grant":     detect,
		"release":   release(5, tokenB),
		"observe":   observe(6, "a", tokenA),
		"ask":       ask(6, lease.Move{To: "b", Now: true}),
		"plan":      plan(6, lease.Move{To: "b"}),
		"cancel":    cancel(6),
		"pause":     pause(3, lease.PauseStopped),
		"resume":    resume(4),
		"retire":    retire("b"),
		"report":    report(6, lease.Timing{Name: "fence", Took: 1}, lease.Timing{Name: "drain", Took: 2}),
	}
}

func TestCommandRoundTrip(t *testing.T) {
	for name, c := range commands() {
		got, err := lease.DecodeCommand(c.Encode())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c)
		}
	}
}

// TestFormatIsStable holds the bytes in the log: other versions of the program must be able to read them.
func TestFormatIsStable(t *testing.T) {
	life := `"node":"b","token":"` + string(tokenB) + `"`
	want := map[string]string{
		"configure": `{"configure":{"nodes":[{"id":"a"},{"id":"t","witness":true}],"jobs":["scheduler","etl"]}}`,
		"grant": `{"grant":{"job":"scheduler","expect":4,"next":5,` + life + `,"cause":"first","detail":"why","at":7,` +
			`"detect":{"name":"detect","took":310000000}}}`,
		"release": `{"release":{"job":"scheduler","epoch":5,"token":"` + string(tokenB) + `","cause":"exited","detail":"exit code 1","at":8}}`,
		"observe": `{"observe":{"job":"scheduler","epoch":6,"node":"a","token":"` + string(tokenA) + `","at":9}}`,
		"ask":     `{"ask":{"job":"scheduler","epoch":6,"move":{"to":"b","now":true}}}`,
		"plan":    `{"ask":{"job":"scheduler","epoch":6,"move":{"to":"b"},"in":3600000000000,"by":"eve","at":10}}`,
		"cancel":  `{"ask":{"job":"scheduler","epoch":6,"move":{},"cancel":true}}`,
		"pause": `{"hold":{"job":"scheduler","order":3,"pause":{"level":"stopped","for":60000000000,"by":"eve","reason":"upgrade","at":11},` +
			`"cause":"operator","at":11}}`,
		"resume": `{"hold":{"job":"scheduler","order":4,"cause":"operator","by":"bob","at":12}}`,
		"retire": `{"retire":{"node":"b","by":"carol","at":13}}`,
		"report": `{"report":{"job":"scheduler","epoch":6,"phases":[{"name":"fence","took":1},{"name":"drain","took":2}]}}`,
	}
	for name, c := range commands() {
		if got := string(c.Encode()); got != "\x01"+want[name] {
			t.Errorf("%s\n got %q\nwant %q", name, got, "\x01"+want[name])
		}
	}
}

func TestSnapshotRoundTrip(t *testing.T) {
	for name, s := range map[string]*lease.State{
		"zero":  {},
		"fresh": cluster(t),
		"lived": cluster(t, grant(0, 1, "a", tokenA), report(1, lease.Timing{Name: "fence", Took: 1}), release(1, tokenA),
			grant(1, 2, "b", tokenB), ask(2, lease.Move{To: "a"})),
		"observed stranger": cluster(t, observe(9, "z", tokenB)),
		"paused, planned":   cluster(t, grant(0, 1, "a", tokenA), plan(1, lease.Move{To: "b"}), pause(1, lease.PauseMoves)),
		"stopped":           cluster(t, pause(0, lease.PauseStopped)),
	} {
		got, err := lease.DecodeSnapshot(s.Snapshot())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(got.Snapshot()) != string(s.Snapshot()) {
			t.Errorf("%s\n got %s\nwant %s", name, got.Snapshot(), s.Snapshot())
		}
	}
}

func TestDecodeCommandIsStrict(t *testing.T) {
	tests := []struct{ name, entry, want string }{
		{"empty", "", "decode command: empty"},
		{"format byte alone", "\x01", "decode command: EOF"},
		{"no kind", "\x01{}", "decode command: 0 kinds are set, want exactly 1"},
		{"kind is null", "\x01{\"grant\":null}", "0 kinds are set"},
		{"null", "\x01null", "0 kinds are set"},
		{"two kinds", "\x01{\"ask\":{},\"report\":{}}", "2 kinds are set, want exactly 1"},
		{"unknown kind", "\x01{\"pause\":{}}", `unknown field "pause": not known to this version of duoflowd; upgrade this node`},
		{"unknown field", "\x01{\"ask\":{\"job\":\"etl\",\"why\":\"x\"}}", `unknown field "why"`},
		{"unknown field further in", "\x01{\"ask\":{\"move\":{\"when\":1}}}", `unknown field "when"`},
		{"trailing bytes", "\x01{\"ask\":{}} x", "decode command: 1 trailing bytes"},
		{"second command", "\x01{\"ask\":{}}{\"ask\":{}}", "10 trailing bytes"},
		{"cut short", "\x01{\"ask\":{\"job\":\"e", "decode command: unexpected EOF"},
		{"negative epoch", "\x01{\"ask\":{\"epoch\":-1}}", "cannot unmarshal number -1"},
		{"epoch too large", "\x01{\"ask\":{\"epoch\":18446744073709551616}}", "cannot unmarshal number"},
		{"not an object", "\x01[]", "cannot unmarshal array"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := lease.DecodeCommand([]byte(tt.entry))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want error %q", c, err, tt.want)
			}
			var unknown *lease.UnknownFormatError
			if errors.As(err, &unknown) {
				t.Errorf("%v: this is damage, not a newer version", err)
			}
		})
	}
}

func TestDecodeSnapshotIsStrict(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"empty", "", "decode snapshot: empty"},
		{"unknown field", "\x01{\"clock\":1}", `unknown field "clock"`},
		{"trailing bytes", "\x01{}{}", "2 trailing bytes"},
		{"nodes not sorted", `1{"nodes":[{"id":"b"},{"id":"a"}]}`, "not in order"},
		{"jobs not sorted", `1{"jobs":[{"name":"b","phase":"vacant"},{"name":"a","phase":"vacant"}]}`, "not in order"},
		{"vacant with an epoch", `1{"jobs":[{"name":"b","epoch":3,"phase":"vacant"}]}`, "job b: phase vacant at epoch 3"},
		{"granted without one", `1{"jobs":[{"name":"b","epoch":0,"phase":"granted"}]}`, "job b: phase granted at epoch 0"},
		{"witness holds", `1{"nodes":[{"id":"t","witness":true}],"jobs":[{"name":"b","epoch":3,"holder":"t","phase":"granted"}]}`,
			"job b: I7: witness t holds epoch 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(tt.data)
			if len(data) > 0 {
				data[0] = 1
			}
			if s, err := lease.DecodeSnapshot(data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want error %q", s, err, tt.want)
			}
		})
	}
}

// TestUnknownFormat: an entry of a newer version is told apart from damage, for the node must stop and say so.
func TestUnknownFormat(t *testing.T) {
	for format := range 256 {
		if format == 1 {
			continue
		}
		_, command := lease.DecodeCommand([]byte{byte(format), '{', '}'})
		_, snapshot := lease.DecodeSnapshot([]byte{byte(format), '{', '}'})
		for what, err := range map[string]error{"command": command, "snapshot": snapshot} {
			var unknown *lease.UnknownFormatError
			if !errors.As(err, &unknown) || unknown.Format != byte(format) || unknown.What != what {
				t.Errorf("%s of format %d: %v, want an UnknownFormatError that names both", what, format, err)
			}
		}
	}
	err := &lease.UnknownFormatError{What: "command", Format: 2}
	if !strings.Contains(err.Error(), "format 2 is not known") || !strings.Contains(err.Error(), "upgrade this node") {
		t.Errorf("%q says neither what nor what to do", err)
	}
}
