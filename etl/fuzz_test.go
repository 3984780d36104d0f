package etl

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

const fullConfig = `
pipeline: lightning
source: {kind: bigquery, project: p, table: bigquery-public-data.noaa_lightning.lightning_%d, window: {from: 2018, to: latest}}
stages: {gcs: {bucket: g}, s3: {bucket: b, part_size: 16MiB}, work: /tmp/w}
engine: {memory: 1GiB, threads: 2}
load: {cell: 5, readers: [dash, "r 2"]}
quality: {max_bad_rows: 0.01}
`

// FuzzParseConfig: a configuration that is refused says of each problem which key it is about, and leaves nothing behind; one that is
// accepted is complete, and spelled out it means the same.
func FuzzParseConfig(f *testing.F) {
	if _, err := ParseConfig([]byte(fullConfig), "/base"); err != nil {
		f.Fatal(err) // or no run would get beyond refusals
	}
	f.Add([]byte(fullConfig))
	f.Add([]byte("source: {kind: gcs, objects: '{chunk}-*.csv'}\ndriver: airflow\nairflow: {endpoint: 'https://a:8080'}\nengine: {kind: spark, spark: {master: 'local[2]'}}\n"))
	f.Add([]byte("a: &a [1]\nb: &b [*a,*a]\npipeline: *b\n"))
	f.Add([]byte("pipeline: [x\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw, "/base")
		if err != nil {
			var p *Problems
			if !errors.As(err, &p) || len(p.List) == 0 || !reflect.DeepEqual(c, Config{}) {
				t.Fatalf("%v, with %+v", err, c)
			}
			return
		}
		if c.Pipeline == "" || c.Transfer.Parallel < 1 || c.Transfer.Tries < 1 || c.Engine.Threads < 1 || c.Engine.Memory < 1 || c.Stages.S3.PartSize < 1 ||
			!(c.Quality.MaxBadRows >= 0 && c.Quality.MaxBadRows <= 1) {
			t.Fatalf("%+v was accepted", c)
		}
		text, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(text, "/base")
		if err != nil {
			t.Fatalf("%q was accepted, and %q is not: %v", raw, text, err)
		}
		if spelled, err := json.Marshal(again); err != nil || !bytes.Equal(spelled, must(t, c)) {
			t.Fatalf("%s became %s, %v", must(t, c), spelled, err)
		}
	})
}

func must(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzDecodeBad: a file of quarantined lines is read whole, or not at all; what is read is written as the same lines.
func FuzzDecodeBad(f *testing.F) {
	f.Add([]byte(`{"file":"f","line":3,"rule":"grid","text":"20180829,-95.55,28.1,12"}` + "\n" + `{"file":"f","line":4,"rule":"date","text":""}` + "\n"))
	f.Add([]byte("{}{}\n[]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		bad, err := decodeBad(text)
		if err != nil {
			if bad != nil {
				t.Fatalf("%d lines beside %v", len(bad), err)
			}
			return
		}
		var again bytes.Buffer
		for _, b := range bad {
			again.Write(append(must(t, b), '\n'))
		}
		if back, err := decodeBad(again.Bytes()); err != nil || !reflect.DeepEqual(back, bad) {
			t.Fatalf("%+v became %+v, %v", bad, back, err)
		}
	})
}

// FuzzSummary: what ingest leaves of a chunk comes back as it was.
func FuzzSummary(f *testing.F) {
	f.Add(must(f, summary{Totals: tile.Totals{Rows: 2, Strikes: 9, Days: 1, First: 17000, Last: 17000},
		Report: nldn.Report{Lines: 3, Quarantined: 1, ByRule: map[nldn.Rule]int64{nldn.RuleGrid: 1}}}))
	f.Add([]byte(`{"Totals":{"first":"2018-02-30"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, back summary
		if json.Unmarshal(text, &s) != nil {
			return
		}
		if year := s.Totals.First.Time().Year(); year < 0 || year > 9999 {
			t.Fatalf("%+v was read of %q", s, text)
		}
		if err := json.Unmarshal(must(t, s), &back); err != nil || !bytes.Equal(must(t, back), must(t, s)) {
			t.Fatalf("%s became %s, %v", must(t, s), must(t, back), err)
		}
	})
}

// FuzzSize: a size that is read is no negative one, and is spelled so that it is read again.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"16MiB", "0", "4611686018427387904", "1TiB", "+7", "0x7", " 7 KiB", "KiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, back Size
		if err := s.UnmarshalText([]byte(text)); err != nil {
			if s != 0 || !strings.Contains(err.Error(), "16MiB") {
				t.Fatalf("%d beside %v", s, err)
			}
			return
		}
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s || s < 0 {
			t.Fatalf("%q is %d, spelled %s, which is %d: %v", text, s, s, back, err)
		}
	})
}
