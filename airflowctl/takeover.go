package airflowctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/hook"
)

// Take makes the fence row and the role of the epoch. It keeps trying until ctx ends; what cannot be tried again
// (rights were taken away, the set-up is missing) is ErrRefused, so that another host gets its turn.
func (j *Job) Take(ctx context.Context, claim fence.Claim) error {
	j.setBusy(true, 0)
	j.hooks.Expect(hook.OnFence, claim.Epoch)
	credentials, err := j.fencer.Take(ctx, claim)
	if err = verdict(err); err == nil {
		j.hooks.Tell(hook.OnFence, claim.Epoch)
	} else if ctx.Err() == nil { // else the commit's outcome may be unknown
		j.hooks.Forget(hook.OnFence, claim.Epoch)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrSuperseded) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.credentials = credentials
	j.mu.Unlock()
	j.turnBroker(ctx, claim)
	return nil
}

// Drain ends the sessions of older epochs and returns nil only when none of them can commit any more.
func (j *Job) Drain(ctx context.Context, claim fence.Claim) error {
	return verdict(j.fencer.Drain(ctx, claim))
}

// Adopt hands what the dead scheduler left to the coming one. It acts as the epoch's own role, so that it is fenced
// like the job itself. A command has nothing to adopt.
func (j *Job) Adopt(ctx context.Context, claim fence.Claim) error {
	// gofail: var jobBeforeAdopt struct{}
	if j.cfg.Kind != Airflow {
		return nil
	}
	store, err := j.openMetastore(ctx)
	if loginRefused(err) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return verdict(err)
	}
	if _, err := store.Probe(ctx); err != nil {
		return verdict(err)
	}
	adopted, err := store.Adopt(ctx, claim)
	if err != nil {
		return verdict(err)
	}
	j.logger.Info("adopted", "epoch", claim.Epoch, "adopted", fmt.Sprintf("%+v", adopted))
	return nil
}

// loginRefused: the server knows no such role, password or login any more, though the take has made them. Then the server has failed
// over or was restored without the fence, and only a higher epoch helps; or it lets this host in no more, and another may do.
func loginRefused(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && strings.HasPrefix(server.Code, "28") // invalid authorization
}

func (j *Job) openMetastore(ctx context.Context) (*airflow.Metastore, error) {
	j.mu.Lock()
	credentials := j.credentials
	j.mu.Unlock()
	j.closeMetastore()
	store, err := airflow.Open(ctx, credentials, airflow.Config{AcceptRevisions: j.cfg.AcceptRevisions, Logger: j.cfg.Logger})
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.metastore = store
	return store, nil
}

// closeMetastore logs the epoch's role out, if it is logged in.
func (j *Job) closeMetastore() {
	j.mu.Lock()
	store := j.metastore
	j.metastore = nil
	j.mu.Unlock()
	if store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := store.Close(ctx); err != nil {
		j.logger.Debug("close metastore", "err", err) // the session ends with its connection either way
	}
}

// Surrender disables the epoch's own role. The tree must be empty.
func (j *Job) Surrender(ctx context.Context, claim fence.Claim) error {
	defer j.releaseBroker(ctx, claim)
	return verdict(j.fencer.Release(ctx, claim))
}

// Mirror writes the mirror rows as the epoch's own role.
func (j *Job) Mirror(ctx context.Context, claim fence.Claim) error {
	j.mu.Lock()
	store := j.metastore
	j.mu.Unlock()
	if store == nil {
		return nil // a command has no mirror; an Airflow life that is ending needs none
	}
	if err := store.Mirror(ctx, claim.Node); err != nil {
		return verdict(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mirroredAt = time.Now()
	return nil
}

// verdict says of an error whether trying again can help.
func verdict(err error) error {
	var stale *fence.StaleError
	var schema *airflow.UnknownSchemaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stale), errors.Is(err, fence.ErrSuperseded), errors.Is(err, airflow.ErrNotHolder):
		return fmt.Errorf("%w: %w", ErrSuperseded, err)
	case errors.As(err, &schema):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}
