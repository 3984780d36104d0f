package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// pointsAddress is where a daemon with failpoints listens, on its own host's loopback.
const pointsAddress = "127.0.0.1:7409"

// shot is one node that is told of one point, and what is done so that it passes it.
type shot struct {
	*stage
	point   point
	what    string // kill, freeze, late
	node    *lab.Node
	active  *lab.Node
	process *lab.Process // of the node's daemon

	late  time.Duration
	skips int
	kills bool // of the active host; else the job is switched over
}

func (s *shot) draw(dice *rand.Rand) {
	s.late = between(dice, 50*time.Millisecond, latest)
	if s.point.by == byLiving {
		s.skips = dice.IntN(skipMost)
	}
	s.kills = s.node != s.active && s.point.at == onStandby && dice.IntN(2) == 0
}

// term is what gofail is told.
func (s *shot) term() string {
	act := "1*" + s.what
	if s.what == "late" {
		act = fmt.Sprintf("1*sleep(%q)", s.late)
	}
	if s.skips > 0 {
		act = fmt.Sprintf("%d*off->%s", s.skips, act)
	}
	return act
}

// fire tells the node, lets the job move until the point was passed, and notes whether it was. What it returns may be called after
// any error too.
func (s *shot) fire(ctx context.Context) (mend func(context.Context) error, err error) {
	said, err := size(s.node.LogPath())
	if err != nil {
		return s.mend, err
	}
	told := s.tell(ctx, http.MethodPut, s.term())
	hit, err := s.atOnce(ctx, said, told)
	if err == nil && !hit {
		hit, err = s.provoke(ctx, said)
	}
	if err != nil {
		return s.mend, err
	}
	result := "missed"
	if hit {
		result = "hit"
	}
	if err := s.out.write(pointsName, fmt.Sprintf("%s %s %s %s\n", s.point.name, s.what, s.node.Name, result)); err != nil {
		return s.mend, err
	}
	if !hit {
		return s.mend, fmt.Errorf("%w: %s on %s was not passed", errMissed, s.point.name, s.node.Name)
	}
	return s.mend, nil
}

// atOnce reports whether the node died at the point before it could answer to being told of it.
func (s *shot) atOnce(ctx context.Context, said int64, told error) (bool, error) {
	if told == nil {
		return false, nil
	}
	select {
	case <-s.process.Done():
	case <-time.After(reviveWithin):
	case <-ctx.Done():
	}
	if hit, err := s.wasHit(ctx, said); !hit || err != nil {
		return false, errors.Join(told, err)
	}
	return true, nil
}

// provoke moves the job until the point is hit, or too much time has gone by.
func (s *shot) provoke(ctx context.Context, said int64) (hit bool, err error) {
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	to := standbyOf(s.active.Name)
	for limit := time.Now().Add(hitWithin); time.Now().Before(limit); {
		if !s.kills && s.point.by != byLeaving {
			if err := s.askFor(ctx, to); err != nil {
				return false, err
			}
			to = standbyOf(to)
		}
		for again := time.Now().Add(askEvery); time.Now().Before(again); {
			if hit, err = s.wasHit(ctx, said); hit || err != nil {
				return hit, err
			}
			if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// begin does what is done once.
func (s *shot) begin(ctx context.Context) error {
	if s.kills {
		s.excuse(s.active)
		return s.active.Kill(ctx)
	}
	if s.point.by == byLeaving {
		s.excuse(s.node)
		return s.process.Signal(syscall.SIGTERM)
	}
	return nil
}

// wasHit looks into the daemon's log, where one that dies or freezes at a point says so; of a late one the count is asked for.
func (s *shot) wasHit(ctx context.Context, said int64) (bool, error) {
	if s.what != "late" {
		text, err := os.ReadFile(s.node.LogPath())
		if err != nil {
			return false, fmt.Errorf("read the daemon's log: %w", err)
		}
		return strings.Contains(string(text[min(said, int64(len(text))):]), "failpoint: "+s.point.name+":"), nil
	}
	text, err := s.ask(ctx, http.MethodGet, "/count", "")
	if err != nil {
		return false, nil // it does not answer for now, so it is not known to have passed
	}
	count, err := strconv.Atoi(strings.TrimSpace(text))
	return count > s.skips, err
}

// mend undoes all of it.
func (s *shot) mend(ctx context.Context) error {
	if s.what == "freeze" {
		if err := s.process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	var errs []error
	if !s.process.Ended() {
		// One that was told to die may do so while it is told not to.
		if err := s.tell(ctx, http.MethodPut, "off"); err != nil && !s.process.Ended() && s.point.by != byLeaving {
			errs = append(errs, err)
		}
	}
	switch {
	case s.point.by == byLeaving:
		errs = append(errs, s.revive(ctx, s.node))
	case s.what == "kill" && s.process.Ended():
		s.excuse(s.node)
		errs = append(errs, s.keepUp(s.node))
	}
	if s.kills {
		errs = append(errs, s.revive(ctx, s.active))
	}
	return errors.Join(errs...)
}

func (s *shot) tell(ctx context.Context, method, term string) error {
	_, err := s.ask(ctx, method, "", term)
	return err
}

// ask speaks with gofail in the daemon, over the loopback of its host.
func (s *shot) ask(ctx context.Context, method, below, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.dial}}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+pointsAddress+"/"+s.point.name+below, strings.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("ask for failpoint %s: %w", s.point.name, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask %s for failpoint %s: %w", s.node.Name, s.point.name, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = errors.New(answer.Status)
	}
	if err != nil {
		return "", fmt.Errorf("ask %s for failpoint %s: %w: %s", s.node.Name, s.point.name, err, text)
	}
	return string(text), nil
}

// dial opens a connection as a program on the node's host does.
func (s *shot) dial(_ context.Context, network, address string) (conn net.Conn, err error) {
	doErr := s.Lab.Net.Do(s.node.Name, func() error {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err = dialer.Dial(network, address)
		return err
	})
	return conn, doErr
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look at the daemon's log: %w", err)
	}
	return info.Size(), nil
}
