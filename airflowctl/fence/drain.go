package fence

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	drainName = "duoflow_drain"
	drainSQL  = `SELECT d.holds, d.remain, d.prepared, d.unlisted
FROM duoflow.drain($1::text, $2::text, $3::bigint, $4::text, $5::int[], $6::boolean) d`

	// drainPause lies between two looks; pg_terminate_backend's own wait has steps of 100 ms.
	drainPause = 4 * time.Millisecond
	// secondLook is how soon the first look is followed by one that knows who has the signal.
	secondLook = time.Millisecond
	// unlistedGrace is how long a login under way may take before it is ended (Postgres <= 15).
	unlistedGrace = 250 * time.Millisecond
	// drainAlarm is when a drain that still waits is logged; it then goes on waiting.
	drainAlarm = time.Second

	// keepEpochs is how many epochs below the row Collect leaves their role, for the history.
	keepEpochs = 8
	// collectBatch bounds how long one Collect statement holds the job's row.
	collectBatch = 20
)

// ErrSuperseded says that the row no longer is this claim: a newer epoch was taken, or this one
// never was.
var ErrSuperseded = errors.New("fence row is not at this claim")

// left is what one look of a drain found.
type left struct {
	holds    bool
	remain   []int32
	prepared []string
	unlisted []int32
}

func (l left) empty() bool { return len(l.remain)+len(l.prepared)+len(l.unlisted) == 0 }

func (l left) String() string {
	return fmt.Sprintf("sessions %v, prepared transactions %v, logins under way %v", l.remain, l.prepared, l.unlisted)
}

// Drain ends every session of the job's older epochs and returns nil only when it has seen, later
// than the commit of the take, that none of them can commit anything any more. It waits as long as
// ctx lets it and never takes a timeout for success. ErrSuperseded: the row moved on. Call it after
// Take, and before anything acts under the new epoch.
func (f *Fencer) Drain(ctx context.Context, claim Claim) error {
	if err := claim.validate(); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	began, alarmed := time.Now(), false
	var seen left
	var suspects []int32 // logins that were under way at the first look; nil = not looked yet
	for pause := secondLook; ; pause = drainPause {
		found, err := f.drainOnce(ctx, claim, suspects, time.Since(began) > unlistedGrace)
		switch {
		case err != nil && (!repeatable(err) || ctx.Err() != nil):
			return fmt.Errorf("drain below epoch %d (last seen: %s): %w", claim.Epoch, seen, f.explain(errors.Join(ctx.Err(), err)))
		case err == nil && !found.holds:
			return fmt.Errorf("drain below epoch %d: %w", claim.Epoch, ErrSuperseded)
		case err == nil && found.empty():
			// gofail: var fenceDrained struct{}
			f.log.Info("older epochs drained", "epoch", claim.Epoch, "took", time.Since(began))
			return nil
		case err == nil:
			seen, suspects = found, append([]int32{}, found.unlisted...)
		}
		if !alarmed && time.Since(began) > drainAlarm {
			alarmed = true
			f.log.Warn("drain still waits", "epoch", claim.Epoch, "reason", seen.String(), "err", err)
		}
		sleep(ctx, pause)
	}
}

func (f *Fencer) drainOnce(ctx context.Context, claim Claim, suspects []int32, force bool) (found left, err error) {
	conn, err := f.command(ctx)
	if err != nil {
		return left{}, err
	}
	defer f.giveBack(conn)
	// gofail: var fenceBeforeDrain struct{}
	err = conn.QueryRow(ctx, drainName, f.config.Job, f.config.Group, claim.Epoch, claim.Token, suspects, force).
		Scan(&found.holds, &found.remain, &found.prepared, &found.unlisted)
	// gofail: var fenceAfterLook struct{}
	return found, err
}

// Release gives the claim back once its process tree is empty: its role loses group and login. The
// row keeps the epoch, which is used up. ErrSuperseded: the row is another claim's, and with it the
// role of this one is disarmed already or was never made.
func (f *Fencer) Release(ctx context.Context, claim Claim) error {
	if err := claim.validate(); err != nil {
		return fmt.Errorf("release fence: %w", err)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		held, err := f.releaseOnce(ctx, claim)
		switch {
		case err == nil && held:
			f.log.Info("fence released", "node", claim.Node, "epoch", claim.Epoch)
			return nil
		case err == nil:
			return fmt.Errorf("release epoch %d: %w", claim.Epoch, ErrSuperseded)
		case !repeatable(err) || !sleep(ctx, pause):
			return fmt.Errorf("release epoch %d: %w", claim.Epoch, err)
		}
	}
}

func (f *Fencer) releaseOnce(ctx context.Context, claim Claim) (held bool, err error) {
	conn, err := f.command(ctx)
	if err != nil {
		return false, err
	}
	defer f.giveBack(conn)
	// gofail: var fenceBeforeRelease struct{}
	err = conn.QueryRow(ctx, "SELECT duoflow.release($1::text, $2::text, $3::bigint, $4::text)",
		f.config.Job, f.config.Group, claim.Epoch, claim.Token).Scan(&held)
	// gofail: var fenceAfterRelease struct{}
	return held, err
}

// Collect drops the roles of epochs that lie more than a margin below the row and returns how many.
// Roles with a session and roles that own something stay; Check reports the latter. Not for the
// critical path: it holds the job's row while it works, in short pieces.
func (f *Fencer) Collect(ctx context.Context) (int, error) {
	return f.collect(ctx, keepEpochs)
}

func (f *Fencer) collect(ctx context.Context, keep int64) (int, error) {
	total := 0
	for {
		dropped, err := f.collectOnce(ctx, keep)
		total += dropped
		if err != nil {
			return total, fmt.Errorf("collect roles: %w", err)
		}
		if dropped < collectBatch {
			return total, nil
		}
	}
}

func (f *Fencer) collectOnce(ctx context.Context, keep int64) (dropped int, err error) {
	conn, err := f.command(ctx)
	if err != nil {
		return 0, err
	}
	defer f.giveBack(conn)
	err = conn.QueryRow(ctx, "SELECT c.dropped FROM duoflow.collect($1::text, $2::text, $3::bigint, $4::int) c",
		f.config.Job, f.config.Group, keep, collectBatch).Scan(&dropped)
	return dropped, err
}
