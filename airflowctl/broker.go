package airflowctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Broker says that each epoch gets a user of its own at RabbitMQ.
type Broker struct {
	broker.Config
	// Required: no scheduler is started without one. Else it is started as Airflow is configured when RabbitMQ does not answer, which
	// is said, and what older epochs may do there is ended as soon as it answers.
	Required bool
}

const (
	// brokerWithin is how long after the fence a start waits for the broker, brokerTry how long one try may take.
	brokerWithin = 3 * time.Second
	brokerTry    = 2500 * time.Millisecond
	// brokerPause is the time between two tries while a start waits, brokerCalm afterwards.
	brokerPause = 100 * time.Millisecond
	brokerCalm  = 2 * time.Second
	// brokerLook is how often it is asked whether the user is still there.
	brokerLook = 10 * time.Second
	// brokerRelease bounds the end of an epoch's user.
	brokerRelease = time.Second
	// brokerFile is the file's name in the directory of a life.
	brokerFile = "broker"
)

// brokerTurn is one epoch's way to its user at the broker. It begins when the fence is committed, beside drain and adoption.
type brokerTurn struct {
	claim fence.Claim
	since time.Time
	// ctx ends when the epoch is over here.
	ctx context.Context
	end context.CancelFunc
	// done is closed when it is known for good how it went; then credentials or err is set, which nobody changes any more.
	done        chan struct{}
	credentials broker.Credentials
	err         error
	// last is why the newest try failed, without that the scheduler was started without; the job's lock guards both.
	last    error
	without bool
}

// turnBroker begins the turn of an epoch whose fence is committed; the same claim goes on with the one it has.
func (j *Job) turnBroker(ctx context.Context, claim fence.Claim) {
	if j.broker == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.turn != nil && j.turn.claim == claim {
		return
	}
	if j.turn != nil {
		j.turn.end()
	}
	t := &brokerTurn{claim: claim, since: time.Now(), done: make(chan struct{})}
	t.ctx, t.end = context.WithCancel(context.WithoutCancel(ctx))
	j.turn = t
	select {
	case <-j.turns: // of an epoch that is over
	default:
	}
	j.turns <- t // it has room: only this function fills it
}

// endTurn ends the turn of an epoch that is over here.
func (j *Job) endTurn(epoch uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.turn != nil && j.turn.claim.Epoch <= epoch {
		j.turn.end()
		j.turn = nil
	}
}

// keepBroker takes the broker's fence for one epoch after the other, until ctx ends.
func (j *Job) keepBroker(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-j.turns:
			stop := context.AfterFunc(ctx, t.end)
			if j.takeBroker(t) {
				j.keepUser(t)
			}
			stop()
		}
	}
}

// takeBroker tries until it is done or the epoch is over here, also when a scheduler was started without: what older epochs may
// still send has to end. It returns whether the epoch has its user.
func (j *Job) takeBroker(t *brokerTurn) bool {
	for {
		credentials, err := j.tryBroker(t)
		if t.ctx.Err() != nil {
			return false
		}
		if err == nil || errors.Is(err, fence.ErrSuperseded) {
			t.credentials, t.err = credentials, verdict(err)
			close(t.done)
			return err == nil
		}
		if !sleep(t.ctx, j.noteBroker(t, err)) {
			return false
		}
	}
}

func (j *Job) tryBroker(t *brokerTurn) (broker.Credentials, error) {
	ctx, cancel := context.WithTimeout(t.ctx, brokerTry)
	defer cancel()
	return j.broker.Take(ctx, t.user(), func(ctx context.Context) error { return j.fencer.Holds(ctx, t.claim) })
}

// keepUser makes the epoch's user again when a broker was made anew, or restored, and has forgotten it.
func (j *Job) keepUser(t *brokerTurn) {
	for sleep(t.ctx, brokerLook) {
		ctx, cancel := context.WithTimeout(t.ctx, brokerTry)
		kept, err := j.broker.Kept(ctx, t.user())
		cancel()
		if kept || err != nil {
			continue // a broker that does not answer sends nothing either, which is seen elsewhere
		}
		_, err = j.tryBroker(t)
		switch {
		case errors.Is(err, fence.ErrSuperseded):
			return
		case err != nil && t.ctx.Err() == nil:
			j.logger.Warn("broker has lost this epoch's user", "epoch", t.claim.Epoch, "err", err)
		case err == nil:
			j.logger.Warn("broker had lost this epoch's user; it is made again", "epoch", t.claim.Epoch)
		}
	}
}

// user is the claim as the broker knows it.
func (t *brokerTurn) user() broker.Claim {
	return broker.Claim{Epoch: t.claim.Epoch, Token: t.claim.Token}
}

// noteBroker says once of each reason that the broker is not fenced, and when to try again.
func (j *Job) noteBroker(t *brokerTurn, err error) time.Duration {
	j.mu.Lock()
	known := t.last != nil && t.last.Error() == err.Error()
	t.last = err
	j.mu.Unlock()
	if !known {
		j.logger.Warn("broker is not fenced", "epoch", t.claim.Epoch, "err", err)
	}
	if time.Since(t.since) < brokerWithin {
		return brokerPause
	}
	return brokerCalm
}

// awaitBroker returns the credentials a scheduler is to be started with; found is false when it is to be started as configured.
func (j *Job) awaitBroker(ctx context.Context, claim fence.Claim) (credentials broker.Credentials, found bool, err error) {
	if j.broker == nil {
		return credentials, false, nil
	}
	j.mu.Lock()
	t := j.turn
	j.mu.Unlock()
	if t == nil || t.claim != claim {
		return credentials, false, fmt.Errorf("broker: no turn for epoch %d", claim.Epoch)
	}
	timer := time.NewTimer(time.Until(t.since.Add(brokerWithin)))
	defer timer.Stop()
	select {
	case <-t.done:
		return t.credentials, t.err == nil, t.err
	case <-ctx.Done():
		return credentials, false, ctx.Err()
	case <-timer.C:
		return credentials, false, j.withoutBroker(t)
	}
}

// withoutBroker decides what a broker that does not answer means.
func (j *Job) withoutBroker(t *brokerTurn) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	why := t.last
	if why == nil {
		why = fmt.Errorf("no answer within %s", brokerWithin)
	}
	if j.cfg.Broker.Required {
		return fmt.Errorf("broker is not fenced: %w: %w", ErrRefused, why)
	}
	t.without = true
	j.logger.Error("BROKER NOT FENCED: the scheduler is started with the broker URL of Airflow's own configuration; "+
		"a later epoch cannot take that away from it", "epoch", t.claim.Epoch, "err", why)
	return nil
}

// brokerLine is what people are told of the broker; "" = nothing is wrong. The job's lock is held.
func (j *Job) brokerLine() string {
	t := j.turn
	if t == nil {
		return ""
	}
	over := false
	select {
	case <-t.done:
		over = true
	default:
	}
	switch {
	case t.without && over:
		return "UNSAFE: this scheduler sends without a user of its epoch; older epochs are cut off; a switchover mends it"
	case t.without && t.last != nil:
		return CleanLine([]byte("UNSAFE: broker not fenced: " + t.last.Error()))
	case t.without:
		return "UNSAFE: broker not fenced: it does not answer"
	}
	return ""
}

// writeBroker puts the URL where the life looks for it, as its service file: once, at a path of its own, for its user alone.
func (j *Job) writeBroker(l *life, credentials broker.Credentials) error {
	uid, gid, err := j.cfg.owner()
	if err != nil {
		return fmt.Errorf("look up user %s: %w", j.cfg.User, err)
	}
	if err := fence.WriteServiceFile(filepath.Join(l.dir, brokerFile), []byte(credentials.URL()), uid, gid); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// releaseBroker deletes the user of an epoch that is over in order; the next epoch would do it too.
func (j *Job) releaseBroker(ctx context.Context, claim fence.Claim) {
	if j.broker == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, brokerRelease)
	defer cancel()
	if err := j.broker.Release(ctx, broker.Claim{Epoch: claim.Epoch, Token: claim.Token}); err != nil {
		j.logger.Warn("broker user is left behind", "epoch", claim.Epoch, "err", err)
	}
}

// checkBroker says whether the broker could be fenced. One that does not answer is a finding for the doctor only: at a daemon's
// start it may be down together with everything else.
func (j *Job) checkBroker(ctx context.Context, silence bool) []fence.Finding {
	if j.broker == nil {
		return nil
	}
	f := fence.Finding{Name: "broker", OK: true, Detail: "each epoch gets a user at " + j.cfg.Broker.AMQP}
	err := j.broker.Check(ctx)
	var lack *broker.LackError
	switch {
	case errors.As(err, &lack):
		f.OK, f.Detail, f.Mend = false, lack.What, lack.Mend
	case err != nil && silence:
		f.OK, f.Detail, f.Mend = false, err.Error(), "see that RabbitMQ's management API answers this host, and who duoflowd is there"
	case err != nil:
		j.logger.Warn("broker does not answer; rights are not checked", "err", err)
		return nil
	}
	return []fence.Finding{f}
}
