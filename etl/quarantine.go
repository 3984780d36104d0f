package etl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
)

// Quarantine is what was not taken of a chunk when it was last ingested.
type Quarantine struct {
	Chunk  tile.Chunk          `json:"chunk"`
	Lines  int64               `json:"lines"`
	ByRule map[nldn.Rule]int64 `json:"by_rule"`
	Bad    []nldn.Bad          `json:"bad,omitempty"` // the lines, if they were asked for
}

// Quarantine lists the chunks that have lines in quarantine, by the ledger; with a chunk it is that one, and its lines.
func (p *Pipeline) Quarantine(ctx context.Context, only tile.Chunk) ([]Quarantine, error) {
	k, err := p.known(ctx)
	if err != nil {
		return nil, err
	}
	out := []Quarantine{}
	for at, e := range k.ledger {
		if at.step != StepIngest || only != "" && at.chunk != only {
			continue
		}
		m, found, err := p.store.Find(ctx, StepIngest, at.chunk, e.SourceHash)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		s, err := p.summaryOf(ctx, m)
		if err != nil {
			return nil, err
		}
		q := Quarantine{Chunk: at.chunk, Lines: s.Report.Quarantined, ByRule: s.Report.ByRule}
		if o, kept := object(m, extQuarantine); kept && only != "" {
			text, err := p.store.Read(ctx, o.Key, maxQuarantine+1<<20)
			if err != nil {
				return nil, err
			}
			if q.Bad, err = decodeBad(text); err != nil {
				return nil, fmt.Errorf("decode %s: %w", o.Key, err)
			}
		}
		if q.Lines > 0 || only != "" {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b Quarantine) int { return int(a.Chunk.First()) - int(b.Chunk.First()) })
	return out, nil
}

func decodeBad(text []byte) ([]nldn.Bad, error) {
	var out []nldn.Bad
	for in := json.NewDecoder(bytes.NewReader(text)); ; {
		var b nldn.Bad
		err := in.Decode(&b)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
}
