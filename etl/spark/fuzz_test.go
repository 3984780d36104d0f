package spark

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"runtime/metrics"
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// FuzzDecode: a file of columns that is taken is written again to the same one, but for the spelling of its first line; a length in it
// never makes it take more memory than the file is long, and what is refused gives no result.
func FuzzDecode(f *testing.F) {
	f.Add(columns(f, aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell()}, 1))
	r := aggregate.Result{Day: aggregate.NewDay(), Month: aggregate.NewMonth(), Cell: aggregate.NewCell(), Totals: tile.Totals{Rows: 2, Strikes: 9, Days: 1}}
	r.Day.Append(17000, 9, 2)
	r.Month.Append(2016, 7, 1, 9, 2)
	r.Cell.Append(2016, 7, 280, -960, 9, 2)
	f.Add(columns(f, r, 1))
	f.Add([]byte(`{"frames":[{"name":"totals","columns":["tiles","strikes","days"],"rows":1152921504606846976}]}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		before := allocated()
		got, err := decode(bytes.NewReader(file), int64(len(file)))
		if took := allocated() - before; took > uint64(64*len(file)+4<<20) {
			t.Fatalf("%d bytes of file took %d of memory", len(file), took)
		}
		if err != nil {
			return
		}
		for _, day := range got.Day.Values("day") {
			if tile.Day(day).String() == "" || int64(tile.Day(day)) != day {
				t.Fatalf("day %d was taken", day)
			}
		}
		again, err := decode(bytes.NewReader(columns(t, got, 1)), int64(len(columns(t, got, 1))))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

// allocated is how much memory was ever taken from the heap; small pieces are counted late.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// columns writes a result as job.py does, with so many rows of totals.
func columns(t testing.TB, r aggregate.Result, totals int) []byte {
	t.Helper()
	sums := aggregate.Frame{Columns: []aggregate.Column{{Name: "tiles"}, {Name: "strikes"}, {Name: "days"}}}
	for range totals {
		sums.Append(r.Totals.Rows, r.Totals.Strikes, int64(r.Totals.Days))
	}
	type frame struct {
		Name    string   `json:"name"`
		Columns []string `json:"columns"`
		Rows    int      `json:"rows"`
	}
	var head struct {
		Frames []frame `json:"frames"`
	}
	var body bytes.Buffer
	for i, one := range []aggregate.Frame{sums, r.Day, r.Month, r.Cell} {
		head.Frames = append(head.Frames, frame{[]string{nameTotals, nameDay, nameMonth, nameCell}[i], names(one), one.Len()})
		for _, c := range one.Columns {
			if err := binary.Write(&body, binary.LittleEndian, c.Values); err != nil {
				t.Fatal(err)
			}
		}
	}
	line, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(line, '\n'), body.Bytes()...)
}

// FuzzAnswer: what job.py and Spark's REST API say. A line is the answer to one request or says why there is none, and progress never
// counts other requests' jobs.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"version":"4.1.4","application":"local-1","ui":"http://host:4040"}`), []byte(`[{"jobGroup":"duoetl-1","description":"day","numTasks":8,"numCompletedTasks":3}]`))
	f.Add([]byte(`{"id":1,"error":"no such column","stopped":true}`), []byte(`[{"jobGroup":"duoetl-2","numTasks":8},{"jobGroup":"duoetl-1","numTasks":1,"numSkippedTasks":9}]`))
	f.Fuzz(func(t *testing.T, line, jobs []byte) {
		var a answer
		if json.Unmarshal(line, &a) == nil {
			if p, err := newPages(a.ready); err == nil && (p.base == "" || a.Application == "") {
				t.Fatalf("%+v: no way to the REST API, and no error", a)
			}
			text, err := json.Marshal(a)
			var back answer
			if err != nil || json.Unmarshal(text, &back) != nil || back != a {
				t.Fatalf("%+v became %+v", a, back)
			}
		}
		var all []sparkJob
		if json.Unmarshal(jobs, &all) != nil {
			return
		}
		var mine []sparkJob
		for _, j := range all {
			if j.JobGroup == "duoetl-1" {
				mine = append(mine, j)
			}
		}
		if farOf(all, "duoetl-1") != farOf(mine, "duoetl-1") {
			t.Fatalf("%+v is not %+v", farOf(all, "duoetl-1"), farOf(mine, "duoetl-1"))
		}
	})
}
