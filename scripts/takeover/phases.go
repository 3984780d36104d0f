package takeover

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/duoflow/duoflow/scripts/lab"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Phase is a part of a takeover as the nodes measured it, each on its own clock.
type Phase struct {
	Name string
	Took time.Duration
}

// Phases asks the cluster for its own account of the beginning of an epoch of the scheduler, and waits for it.
func (m *Managed) Phases(ctx context.Context, epoch uint64) ([]Phase, error) {
	for {
		text, code, err := m.Cluster.Ctl(ctx, "history", "-o", "json")
		if err != nil {
			return nil, err
		}
		var history duoflowv1.HistoryResponse
		if code == 0 {
			err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal([]byte(text), &history)
			if err != nil {
				return nil, fmt.Errorf("read history: %w", err)
			}
		}
		if found := phasesOf(&history, epoch); len(found) > 1 {
			return found, nil
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for the phases of epoch %d: %w", epoch, err)
		}
	}
}

func phasesOf(history *duoflowv1.HistoryResponse, epoch uint64) []Phase {
	for _, e := range history.GetEntries() {
		if e.GetJob() != Job || e.GetEpoch() != epoch || e.GetKind() != "grant" {
			continue
		}
		var out []Phase
		for _, p := range e.GetPhases() {
			out = append(out, Phase{p.GetName(), time.Duration(p.GetMillis() * float64(time.Millisecond))})
		}
		return out
	}
	return nil
}
