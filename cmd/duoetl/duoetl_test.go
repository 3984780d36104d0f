package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

type result struct {
	code     int
	out, err string
}

func duoetl(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, &app{out: &out, err: &errs, env: func(string) string { return "" }})
	return result{code, out.String(), errs.String()}
}

func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	for _, part := range parts {
		if !strings.Contains(r.err, part) {
			t.Errorf("error output lacks %q:\n%s", part, r.err)
		}
	}
}

func TestUsageIsCode2(t *testing.T) {
	duoetl(t, "rum").want(t, etl.ExitUsage, "unknown command")
	duoetl(t, "run", "--no-such").want(t, etl.ExitUsage, "unknown flag")
	duoetl(t, "run", "-o", "xml").want(t, etl.ExitUsage, `output "xml" is unknown`)
	duoetl(t, "run", "--chunk", "18").want(t, etl.ExitUsage, `chunk "18" is neither a year`)
	duoetl(t, "run", "--chunk", "2018", "--from", "2017").want(t, etl.ExitUsage, "not both")
	duoetl(t, "step", "cook", "--chunk", "2018").want(t, etl.ExitUsage, `step "cook" is unknown`)
	duoetl(t, "step", "copy").want(t, etl.ExitUsage, "step needs --chunk")
	duoetl(t, "backfill").want(t, etl.ExitUsage, "needs --from and --to")
	duoetl(t, "reset", "--chunk", "2018").want(t, etl.ExitUsage, "confirm with --yes")
}

func TestAConfigurationSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etl.yaml")
	text := "drivers: builtin\ndriver: airflow\nengine: {kind: sparrow}\nsource: {kind: gcs, objects: x, window: {from: 2019, to: 2018}}\nstages: {s3: {part_size: 1MiB}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	duoetl(t, "run", "--config", path).want(t, etl.ExitUsage, "drivers: unknown key", `airflow.endpoint: "" is not like https://host:8080`, "there are duckdb and spark",
		"2018 ends before 2019 begins", "stages.gcs.bucket: missing", "stages.s3.part_size")
	duoetl(t, "run", "--config", path+"x").want(t, etl.ExitFailed, "read configuration")
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, cmd := range newRoot(&app{env: func(string) string { return "" }}).Commands() {
		r := duoetl(t, cmd.Name(), "--help")
		if r.code != etl.ExitOK || !strings.Contains(r.out, "Examples:\n  duoetl ") || !strings.Contains(r.out, "--output") {
			t.Errorf("%s --help: code %d\n%s", cmd.Name(), r.code, r.out)
		}
	}
}

func TestSynthWritesWhatItSays(t *testing.T) {
	dir := t.TempDir()
	r := duoetl(t, "synth", "--from", "2018", "--to", "2018", "--scale", "0.001", "--dir", dir, "-o", "json")
	r.want(t, etl.ExitOK)
	var all []struct {
		File      string      `json:"file"`
		Totals    tile.Totals `json:"totals"`
		Synthetic bool        `json:"synthetic"`
	}
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		t.Fatal(err)
	}
	want, err := synth.Expect(synth.Spec{Year: 2018, Scale: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Totals != want.Totals || !all[0].Synthetic {
		t.Errorf("got %+v, want %+v", all, want.Totals)
	}
	if s, err := os.Stat(all[0].File); err != nil || s.Size() == 0 {
		t.Errorf("the file: %v", err)
	}
}

func TestTheExampleIsAConfiguration(t *testing.T) {
	c, err := etl.LoadConfig(filepath.Join(shared.home, "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Source.Window.RefreshLast != 2 || c.Stages.S3.PartSize != 16<<20 || c.Engine.Memory != 512<<20 || len(c.Load.Readers) != 1 {
		t.Errorf("read as %+v", c)
	}
}
