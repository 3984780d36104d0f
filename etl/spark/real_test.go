//go:build spark

package spark_test

import (
	"testing"

	"github.com/duoflow/duoflow/etl/aggregate"
)

func TestLocalOverS3(t *testing.T) {
	w := newLake(t)
	inputs := w.inputs("2018", 0.01)
	want := w.duck(inputs[0], "2018")
	e := w.engine(w.config())
	for _, parts := range []int{1, 2, 8} {
		for _, in := range inputs {
			got, err := e.Partitioned(parts).Aggregate(t.Context(), aggregate.Job{Chunk: "2018", Inputs: []string{in.url}, Note: func(s string) { t.Log(s) }})
			if err != nil {
				t.Fatal(err)
			}
			if d := aggregate.Difference(want, got); d != "" {
				t.Errorf("%s in %d parts: %s", in.url, parts, d)
			}
		}
	}
}
