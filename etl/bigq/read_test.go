package bigq

import (
	"strings"
	"testing"

	"cloud.google.com/go/storage"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// read adds up the files, as the pipeline would: through S3's side of package objects is not needed for it.
func (s *scene) read(files []objects.Source, chunk tile.Chunk) (tile.Totals, string) {
	s.t.Helper()
	client := s.storage()
	var into tile.Table
	header := ""
	for _, f := range files {
		r, err := client.Bucket(f.Bucket).Object(f.Name).Generation(f.Generation).ReadCompressed(true).NewReader(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		report, err := nldn.Read(s.t.Context(), f.Name, r, nldn.Options{Chunk: chunk}, &into, func(b nldn.Bad) error {
			s.t.Errorf("bad line: %+v", b)
			return nil
		})
		_ = r.Close() // only read
		if err != nil {
			s.t.Fatal(err)
		}
		header = report.Header
		if !strings.HasSuffix(f.Name, ".csv.gz") {
			s.t.Errorf("name %s", f.Name)
		}
	}
	into.Sort()
	return into.Totals(), header
}

// expect is what the generator makes of the chunk.
func expect(t *testing.T, chunk tile.Chunk) tile.Totals {
	t.Helper()
	var rows tile.Table
	_, err := synth.Generate(t.Context(), synth.Spec{Year: chunk.Year(), Scale: scale}, func(r tile.Row) error {
		if chunk.Contains(r.Day) {
			rows.Append(r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows.Totals()
}

func (s *scene) storage() *storage.Client {
	s.t.Helper()
	s.t.Setenv("STORAGE_EMULATOR_HOST", s.box.Endpoints().GCS)
	c, err := storage.NewClient(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}
