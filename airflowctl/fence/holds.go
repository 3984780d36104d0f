package fence

import (
	"context"
	"fmt"
)

// Holds returns nil when the fence row is the claim's, as it was read after the call: so no later epoch had been taken when the call
// began. ErrSuperseded: it is another's. Over a connection of its own, so that nothing of a takeover waits for it.
func (f *Fencer) Holds(ctx context.Context, claim Claim) error {
	conn, err := f.dial(ctx)
	if err != nil {
		return fmt.Errorf("read fence row: %w", err)
	}
	defer discard(conn)
	health, err := f.probe(ctx, conn)
	switch {
	case err != nil:
		return fmt.Errorf("read fence row: %w", err)
	case !health.Writable:
		return fmt.Errorf("read fence row: %w", errNotWritable)
	case health.Row.Epoch != claim.Epoch || health.Row.Token != claim.Token:
		return fmt.Errorf("fence row is at epoch %d of node %s: %w", health.Row.Epoch, health.Row.Node, ErrSuperseded)
	}
	return nil
}
