package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/klauspost/compress/gzip"

	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

// shards writes rows as CSV into objects of GCS, one after the other.
type shards struct {
	gcs          *fakestorage.Server
	bucket, name string // name may hold the * of shards
	columns      []column
	header       bool
	limit        int64 // rows of a shard; 0: no limit

	buffer []byte
	object bytes.Buffer
	pack   *gzip.Writer
	rows   int64 // of the open shard
	files  int64 // done
	total  int64
}

// newShards checks where to: the bucket must exist.
func newShards(gcs *fakestorage.Server, uri string) (*shards, error) {
	bucket, name, ok := strings.Cut(strings.TrimPrefix(uri, "gs://"), "/")
	if !strings.HasPrefix(uri, "gs://") || !ok || bucket == "" || name == "" {
		return nil, &refused{"invalid", "Invalid destination URI: " + uri}
	}
	if strings.Count(name, "*") > 1 || strings.Contains(bucket, "*") {
		return nil, &refused{"invalid", "Invalid destination URI, at most one * and not in the bucket: " + uri}
	}
	if _, err := gcs.Backend().GetBucket(bucket); err != nil {
		return nil, &refused{"notFound", fmt.Sprintf("Not found: Bucket %s", bucket)}
	}
	return &shards{gcs: gcs, bucket: bucket, name: name}, nil
}

// taken tells whether an object has a name that a shard could get.
func (s *shards) taken() (bool, error) {
	before, after, _ := strings.Cut(s.name, "*")
	list, err := s.gcs.ListObjectsWithOptionsPaginated(s.bucket, fakestorage.ListOptions{Prefix: before})
	if err != nil {
		return false, fmt.Errorf("list gs://%s/%s: %w", s.bucket, before, err)
	}
	return slices.ContainsFunc(list.Objects, func(o fakestorage.ObjectAttrs) bool { return strings.HasSuffix(o.Name, after) }), nil
}

func (s *shards) add(r tile.Row) error {
	if s.pack == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	for i, c := range s.columns {
		if i > 0 {
			s.buffer = append(s.buffer, ',')
		}
		s.buffer = c.csv(s.buffer, r)
	}
	s.buffer = append(s.buffer, '\n')
	s.rows++
	s.total++
	if s.limit > 0 && s.rows >= s.limit {
		return s.end()
	}
	if len(s.buffer) < 1<<16 {
		return nil
	}
	return s.flush()
}

func (s *shards) flush() error {
	_, err := s.pack.Write(s.buffer)
	s.buffer = s.buffer[:0]
	return err
}

func (s *shards) begin() (err error) {
	s.object.Reset()
	if s.pack, err = synth.NewPacker(&s.object); err != nil {
		return err
	}
	if s.header {
		for i, c := range s.columns {
			if i > 0 {
				s.buffer = append(s.buffer, ',')
			}
			s.buffer = append(s.buffer, c.name...)
		}
		s.buffer = append(s.buffer, '\n')
	}
	return nil
}

// end stores the open shard.
func (s *shards) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.pack.Close(); err != nil {
		return err
	}
	s.pack, s.rows = nil, 0
	name := strings.Replace(s.name, "*", fmt.Sprintf("%012d", s.files), 1)
	s.files++
	// GCS unpacks what is marked so for readers that do not say that they take gzip; a copy has to.
	return putGCS(s.gcs, Object{Bucket: s.bucket, Name: name, Content: s.object.Bytes(), ContentType: "text/csv", ContentEncoding: "gzip"})
}

// close stores what is open; a table without rows still gives one file.
func (s *shards) close() error {
	if s.pack == nil && s.files > 0 {
		return nil
	}
	if s.pack == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	return s.end()
}

// write copies the days, each in the order given, none for the table's own.
func (s *shards) write(ctx context.Context, from source, days []synth.DayTotal, orders []order) error {
	var rows []tile.Row
	for _, d := range days {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(orders) == 0 {
			if err := from.day(d.Day, s.add); err != nil {
				return err
			}
			continue
		}
		rows = rows[:0]
		if err := from.day(d.Day, func(r tile.Row) error { rows = append(rows, r); return nil }); err != nil {
			return err
		}
		slices.SortStableFunc(rows, func(a, b tile.Row) int {
			for _, o := range orders {
				if n := o(a, b); n != 0 {
					return n
				}
			}
			return 0
		})
		for _, r := range rows {
			if err := s.add(r); err != nil {
				return err
			}
		}
	}
	return s.close()
}
