package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/duoflow/duoflow/etl/tile"
)

// Input is something that a step reads; what makes it another one is part of it.
type Input struct {
	Name       string `json:"name"`                 // gs://bucket/name, or a key
	Generation int64  `json:"generation,omitempty"` // of GCS; 0 = none
	Size       int64  `json:"size"`
	CRC32C     uint32 `json:"crc32c"`
}

// Input is what a step that reads the source notes of it.
func (s Source) Input() Input {
	return Input{Name: "gs://" + s.Bucket + "/" + s.Name, Generation: s.Generation, Size: s.Size, CRC32C: s.CRC32C}
}

// Input is what a step that reads the object notes of it.
func (o Object) Input() Input { return Input{Name: o.Key, Size: o.Size, CRC32C: o.CRC32C} }

// Manifest says that a step of a chunk is done, and what came of it. It is written last, and once.
type Manifest struct {
	Step      string     `json:"step"`
	Chunk     tile.Chunk `json:"chunk"`
	Hash      string     `json:"hash"`  // of the inputs, by Hash
	Epoch     uint64     `json:"epoch"` // under which it was written; 0 = without a cluster
	Inputs    []Input    `json:"inputs"`
	Objects   []Object   `json:"objects"`
	Rows      int64      `json:"rows"` // 0 = not counted by this step
	Strikes   int64      `json:"strikes"`
	Synthetic bool       `json:"synthetic"`
}

// maxManifest is in bytes; a year of hourly shards is not a tenth of it.
const maxManifest = 16 << 20

// Hash is of a step's inputs, in whatever order they come. what is anything else on which the result depends, such as the
// version of a parser. 32 hexadecimal digits.
func Hash(what string, inputs []Input) string {
	sorted := slices.Clone(inputs)
	slices.SortFunc(sorted, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", what)
	for _, in := range sorted {
		fmt.Fprintf(sum, "%q %d %d %08x\n", in.Name, in.Generation, in.Size, in.CRC32C)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// StepKey is the key of a file that a step makes of a chunk: <step>/<chunk>/<crc32c>-<size><ext>.
func StepKey(step string, chunk tile.Chunk, crc uint32, size int64, ext string) string {
	return fmt.Sprintf("%s/%s/%08x-%d%s", step, chunk, crc, size, ext)
}

func manifestKey(step string, chunk tile.Chunk, hash string) string {
	return path.Join(step, string(chunk), hash, "_SUCCESS.json")
}

func (m Manifest) check() error {
	var all []error
	for _, one := range []struct{ key, value string }{{"step", m.Step}, {"chunk", string(m.Chunk)}, {"hash", m.Hash}} {
		if one.value == "" || strings.ContainsAny(one.value, "/ \n") || one.value[0] == '.' {
			all = append(all, fmt.Errorf("%s: %q", one.key, one.value))
		}
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// Commit writes the manifest, unless one of the same step, chunk and inputs is there: that one is returned then, and holds,
// whatever this one says.
func (s *Store) Commit(ctx context.Context, m Manifest) (Manifest, error) {
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	key := manifestKey(m.Step, m.Chunk, m.Hash)
	if len(data) > maxManifest {
		return Manifest{}, fmt.Errorf("manifest %s: %d bytes, at most %d", key, len(data), maxManifest)
	}
	_, err = s.Put(ctx, key, data)
	if errors.Is(err, ErrExists) {
		var found bool
		if m, found, err = s.Find(ctx, m.Step, m.Chunk, m.Hash); err == nil && !found {
			err = &Fault{Op: "commit " + s.URL(key), Err: errors.New("the manifest that was in the way is gone")}
		}
	}
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Find reads the manifest of a step that is done with these inputs; false if it is not. One GET.
func (s *Store) Find(ctx context.Context, step string, chunk tile.Chunk, hash string) (Manifest, bool, error) {
	key := manifestKey(step, chunk, hash)
	data, err := s.Read(ctx, key, maxManifest)
	if errors.Is(err, ErrNotFound) {
		return Manifest{}, false, nil
	}
	if err != nil {
		return Manifest{}, false, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, false, fmt.Errorf("read %s: %w", s.URL(key), err)
	}
	for _, o := range m.Objects {
		if o.Key == "" || o.Size < 0 {
			return Manifest{}, false, fmt.Errorf("read %s: it names object %q with %d bytes", s.URL(key), o.Key, o.Size)
		}
	}
	if m.Step != step || m.Chunk != chunk || m.Hash != hash {
		return Manifest{}, false, fmt.Errorf("read %s: it is of step %q, chunk %q, hash %q", s.URL(key), m.Step, m.Chunk, m.Hash)
	}
	return m, true, nil
}

// Has tells whether a step is done with these inputs: one HEAD.
func (s *Store) Has(ctx context.Context, step string, chunk tile.Chunk, hash string) (bool, error) {
	key := manifestKey(step, chunk, hash)
	err := s.patience.again(ctx, "head "+s.URL(key), func(ctx context.Context) error {
		ctx, cancel := s.limited(ctx, 0)
		defer cancel()
		_, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.config.Bucket, Key: aws.String(s.full(key))})
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
