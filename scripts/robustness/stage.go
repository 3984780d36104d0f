package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/history"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// witness is the node that never has the job.
const witness = "t"

var nodeNames = []string{"a", "b", witness}

func standbyOf(active string) string {
	if active == "a" {
		return "b"
	}
	return "a"
}

func othersThan(name string) []string {
	return slices.DeleteFunc(slices.Clone(nodeNames), func(n string) bool { return n == name })
}

// stage is the cluster, its metastore, who writes beside the job, and the folder for what is seen.
type stage struct {
	*probe.Stage
	out     *folder
	tail    commitorder.Tail
	kept    []commitorder.Commit // read in the middle of a trial
	spare   int                  // port of the metastore's other address, where nobody listens
	thieves *thieves
	pulse   *pulse
	links   *links
	asked   *history.Clients // who ask the cluster who has the job
	failing *failing
	disks   map[string]*nodeDisk    // of the nodes
	clients map[string]*lab.Process // on each host that may have the job
	program string                  // of the clients
	// configure changes a node's configuration before its daemon's first start; prepare may add to them.
	configure []func(node string, config map[string]any)
	stops     []func() error
	excused   map[string]bool   // nodes whose daemon may end
	lastWords map[string]string // of a node's daemon, with which it may end even so, until all nodes are well
	frozen    map[string]bool   // hosts
	ended     []string          // daemons that ended and were not to
}

// newStage makes a cluster whose writers keep their journals in the folder.
func newStage(ctx context.Context, out *folder, progress io.Writer) (*stage, error) {
	fmt.Fprintln(progress, "robustness: setting up hosts, Postgres and three nodes")
	journal := out.journal()
	if err := os.MkdirAll(journal, 0o755); err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	set, err := probe.SetUp(ctx, probe.Options{Journal: journal, Relay: true})
	if err != nil {
		return nil, err
	}
	s := &stage{
		Stage: set, out: out, tail: commitorder.Tail{Table: probe.Table},
		clients: map[string]*lab.Process{}, excused: map[string]bool{}, lastWords: map[string]string{}, frozen: map[string]bool{},
	}
	s.thieves, s.pulse = newThieves(ctx, s), newPulse(ctx)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stage) start(ctx context.Context) error {
	// Without damping: a run makes more failovers in a minute than a site in a year, and each of them is looked at.
	s.configure = append(s.configure, func(_ string, config map[string]any) { config["calm_window"] = "0s" })
	if err := s.twoServers(); err != nil {
		return err
	}
	for _, c := range contributions {
		if c.prepare == nil {
			continue
		}
		stop, err := c.prepare(ctx, s)
		if stop != nil {
			s.stops = append(s.stops, stop)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if s.program, err = s.Lab.Build(ctx, "./scripts/robustness/client"); err != nil {
		return err
	}
	for _, name := range nodeNames {
		err := s.Cluster.Nodes[name].WriteConfig(func(config map[string]any) {
			for _, change := range s.configure {
				change(name, config)
			}
		})
		if err != nil {
			return err
		}
	}
	return s.Cluster.Start()
}

// close ends everything. It may be called once.
func (s *stage) close() error {
	s.thieves.stop()
	s.pulse.stop()
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), reviveWithin)
	defer cancel()
	return errors.Join(append(errs, s.Store.Stop(ctx))...) // after a failover it is not the lab's own any more
}

// excuse allows a daemon to end until it is started the next time.
func (s *stage) excuse(n *lab.Node) { s.excused[n.Name] = true }

// freeze freezes a host. Nothing may be started on it until it is thawed: the start would not return, nor would any other.
func (s *stage) freeze(ctx context.Context, n *lab.Node) error {
	s.frozen[n.Name] = true
	return n.Freeze(ctx)
}

func (s *stage) thawer(n *lab.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		s.frozen[n.Name] = false
		return n.Thaw(ctx)
	}
}

// reviveWithin bounds the wait for a daemon's end: a frozen one ends when it is thawed, which revive must not hold up.
const reviveWithin = 2 * time.Second

// reviver is how to undo what has ended a daemon, or is about to end it.
func (s *stage) reviver(n *lab.Node) func(context.Context) error {
	return func(ctx context.Context) error { return s.revive(ctx, n) }
}

func (s *stage) revive(ctx context.Context, n *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, reviveWithin)
	defer cancel()
	select {
	case <-n.Process().Done():
		return s.keepUp(n)
	case <-ctx.Done():
		return nil // attend starts it when it has ended
	}
}

// keepUp starts a daemon that has ended, as systemd does.
func (s *stage) keepUp(n *lab.Node) error {
	if !n.Process().Ended() || s.frozen[n.Name] {
		return nil
	}
	if !s.excused[n.Name] && !s.ownWords(n) {
		s.ended = append(s.ended, fmt.Sprintf("%s: %v", n.Name, n.Process().Err()))
	}
	s.excused[n.Name] = false
	return n.Start()
}

// ownWords reports whether a daemon has ended with the words that it may end with.
func (s *stage) ownWords(n *lab.Node) bool {
	words, text := s.lastWords[n.Name], tail(n.LogPath())
	return words != "" && strings.Contains(text, words)
}

// tail is the end of a file, as far as it can be read.
func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-500):])
}

// attend starts every daemon and every client that has ended.
func (s *stage) attend() error {
	var errs []error
	for _, name := range nodeNames {
		n := s.Cluster.Nodes[name]
		errs = append(errs, s.keepUp(n))
		if name == witness || s.frozen[name] || s.clients[name] != nil && !s.clients[name].Ended() {
			continue
		}
		lives := filepath.Join(n.DataDir(), "jobs", probe.Job, "lives")
		client, err := n.Host.Start(lab.Spec{
			Name: "client", Args: []string{s.program, name, lives, s.out.journal()},
		})
		s.clients[name] = client
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// await waits until the cluster agrees on an active instance and that instance commits rows; until all nodes are well, with
// whole. Daemons that have ended are started meanwhile.
func (s *stage) await(ctx context.Context, whole bool) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	for {
		if err := s.attend(); err != nil {
			return lab.Active{}, err
		}
		active, missing := s.look(ctx, whole)
		if active.Node != "" {
			s.thieves.rob(active)
		}
		if missing == "" {
			missing = s.idle(ctx, active)
		}
		if missing == "" {
			if whole {
				clear(s.lastWords)
			}
			return active, nil
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return active, &unservedError{missing, err}
		}
	}
}

// look says who is active, and what the cluster lacks; empty when nothing.
func (s *stage) look(ctx context.Context, whole bool) (active lab.Active, missing string) {
	status, err := s.Cluster.Status(ctx)
	if err != nil {
		return active, err.Error()
	}
	if !status.GetView().GetAuthoritative() {
		return active, "no majority: " + status.GetView().GetReason()
	}
	j := status.GetJobs()[0]
	states := []string{}
	for _, on := range j.GetNodes() {
		if on.GetState() == "active" && on.GetNode() == j.GetHolder() {
			active = lab.Active{Node: on.GetNode(), Epoch: j.GetEpoch()}
		}
		states = append(states, on.GetNode()+" "+on.GetState())
	}
	if active.Node == "" {
		return active, "nobody is active: " + strings.Join(states, ", ")
	}
	if !whole {
		return active, ""
	}
	for _, n := range status.GetNodes() {
		if n.GetTrouble() != "" || !n.GetConnected() || n.LastBeatAgeMs == nil || n.GetLastBeatAgeMs() > 1000 {
			return active, fmt.Sprintf("node %s: connected %v, last beat %d ms ago, trouble %q",
				n.GetName(), n.GetConnected(), n.GetLastBeatAgeMs(), n.GetTrouble())
		}
	}
	if want := standbyOf(active.Node) + " standby"; !slices.Contains(states, want) {
		return active, "no standby: " + strings.Join(states, ", ")
	}
	return active, ""
}

// unservedError says what the cluster lacked when the patience of await was over.
type unservedError struct {
	missing string
	err     error
}

func (e *unservedError) Error() string { return e.missing }
func (e *unservedError) Unwrap() error { return e.err }

// idle says so when the job itself, nobody else, has not committed under the active epoch within the last second. The look at that is
// given a second too: one that hangs says more than that nothing was seen for all the time. The limit is by now(), which the index
// takes: clock_timestamp() differs from row to row, so that each look read the whole table, after an hour half a million rows.
func (s *stage) idle(ctx context.Context, active lab.Active) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var recent bool
	err := s.Pool.QueryRow(ctx, `SELECT count(*) > 0 FROM public.probe
		WHERE epoch = $1 AND pid > 0 AND at > now() - interval '1 second'`, active.Epoch).Scan(&recent)
	switch {
	case err != nil:
		return fmt.Sprintf("epoch %d on %s is active, whether it commits is not known: %v", active.Epoch, active.Node, err)
	case !recent:
		return fmt.Sprintf("epoch %d on %s is active and commits nothing", active.Epoch, active.Node)
	}
	return ""
}
