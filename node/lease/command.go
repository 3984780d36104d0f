package lease

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Command is one entry of the log. Exactly one field is set.
type Command struct {
	Configure *Configure `json:"configure,omitempty"`
	Grant     *Grant     `json:"grant,omitempty"`
	Release   *Release   `json:"release,omitempty"`
	Observe   *Observe   `json:"observe,omitempty"`
	Ask       *Ask       `json:"ask,omitempty"`
	Report    *Report    `json:"report,omitempty"`
	Hold      *Hold      `json:"hold,omitempty"`
	Retire    *Retire    `json:"retire,omitempty"`
}

// Configure states the members and the jobs of the cluster. Jobs that are already known keep their epochs; a job
// that is left out keeps them too, for an epoch is never forgotten (invariant I1). That a node is leaving is not for
// it to say, see Retire.
type Configure struct {
	Nodes []Node    `json:"nodes"`
	Jobs  []JobName `json:"jobs"`
}

// Grant gives the next epoch of a job to one life of one node.
type Grant struct {
	Job JobName `json:"job"`
	// Expect is the epoch the proposer saw; the grant is refused when the job has moved on since.
	Expect Epoch `json:"expect"`
	// Next is greater than Expect; it skips numbers when the metastore has seen higher ones.
	Next   Epoch  `json:"next"`
	Node   NodeID `json:"node"`
	Token  Token  `json:"token"`
	Cause  Cause  `json:"cause"`
	Detail string `json:"detail,omitempty"`
	At     int64  `json:"at,omitempty"`
	// Detect is how long the proposer had not heard the old holder when it decided; 0 when that is not the cause.
	Detect Timing `json:"detect"`
}

// Release says that the process tree of the epoch is empty on its holder.
type Release struct {
	Job    JobName `json:"job"`
	Epoch  Epoch   `json:"epoch"`
	Token  Token   `json:"token"`
	Cause  Cause   `json:"cause"`
	Detail string  `json:"detail,omitempty"`
	At     int64   `json:"at,omitempty"`
}

// Observe lets the log catch up with a fence row that is ahead of it.
type Observe struct {
	Job   JobName `json:"job"`
	Epoch Epoch   `json:"epoch"`
	Node  NodeID  `json:"node"`
	Token Token   `json:"token"`
	At    int64   `json:"at,omitempty"`
}

// Ask records an operator's wish to move a job. It is refused when the epoch has changed since the operator looked.
type Ask struct {
	Job   JobName `json:"job"`
	Epoch Epoch   `json:"epoch"`
	Move  Move    `json:"move"`
	// In makes it a plan, which is due after that time; see Plan. 0: at once.
	In time.Duration `json:"in,omitempty"`
	// Cancel takes back what was asked for, or planned, and not begun. Move and In mean nothing then.
	Cancel bool   `json:"cancel,omitempty"`
	By     string `json:"by,omitempty"`
	At     int64  `json:"at,omitempty"`
}

// Report adds measured phases to the history entry of the grant of an epoch.
type Report struct {
	Job    JobName  `json:"job"`
	Epoch  Epoch    `json:"epoch"`
	Phases []Timing `json:"phases"`
	// By is the raft leader, when it is the one that reports.
	By NodeID `json:"by,omitempty"`
}

// maxText bounds free text in a command, in bytes, so that one bad caller cannot bloat every node's log.
const maxText = 1024

// maxPhases bounds a Report, and maxEntryPhases all that an entry collects.
const (
	maxPhases      = 32
	maxEntryPhases = 64
	// maxWord bounds causes and names of phases, in bytes.
	maxWord = 32
)

// Text makes free text fit for a command: valid UTF-8 of at most half the bound, so that no encoding of it exceeds it.
func Text(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= maxText/2 {
		return s
	}
	cut := maxText / 2
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

var (
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)
	tokenForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ValidName reports whether s may name a node or a job.
func ValidName(s string) bool { return nameForm.MatchString(s) }

// Valid reports whether t has the form of a life's token.
func (t Token) Valid() bool { return tokenForm.MatchString(string(t)) }

// validate refuses commands that no correct node sends, whatever the state: they were damaged or forged.
func (c Command) validate() error {
	switch {
	case c.Configure != nil:
		return c.Configure.validate()
	case c.Grant != nil:
		g := c.Grant
		return cmp.Or(validLife(g.Job, g.Node, g.Token), validText(g.Detail),
			validWord(string(g.Cause)), validWord(g.Detect.Name))
	case c.Release != nil:
		r := c.Release
		return cmp.Or(validJob(r.Job), validToken(r.Token), validText(r.Detail), validWord(string(r.Cause)))
	case c.Observe != nil:
		return validLife(c.Observe.Job, c.Observe.Node, c.Observe.Token)
	case c.Ask != nil:
		return cmp.Or(validJob(c.Ask.Job), validText(c.Ask.By), validWait(c.Ask.In))
	case c.Hold != nil:
		return c.Hold.validate()
	case c.Retire != nil:
		return c.Retire.validate()
	case c.Report != nil:
		return cmp.Or(validJob(c.Report.Job), validPhases(c.Report.Phases), validReporter(c.Report.By))
	}
	return fmt.Errorf("command is empty")
}

func validReporter(by NodeID) error {
	if by == "" {
		return nil
	}
	return validNode(by)
}

func validNode(node NodeID) error {
	if !ValidName(string(node)) {
		return fmt.Errorf("node name %q: want %s", node, nameForm)
	}
	return nil
}

func validPhases(phases []Timing) error {
	if len(phases) > maxPhases {
		return fmt.Errorf("report of %d phases: at most %d", len(phases), maxPhases)
	}
	for _, p := range phases {
		if err := validWord(p.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c Configure) validate() error {
	for i, n := range c.Nodes {
		if err := validNode(n.ID); err != nil {
			return err
		}
		for _, other := range c.Nodes[:i] {
			if other.ID == n.ID && other != n {
				return fmt.Errorf("node %s is named twice and differently", n.ID)
			}
		}
	}
	for _, j := range c.Jobs {
		if err := validJob(j); err != nil {
			return err
		}
	}
	return nil
}

func validLife(job JobName, node NodeID, token Token) error {
	return cmp.Or(validNode(node), validJob(job), validToken(token))
}

func validJob(job JobName) error {
	if !ValidName(string(job)) {
		return fmt.Errorf("job name %q: want %s", job, nameForm)
	}
	return nil
}

func validToken(token Token) error {
	if !token.Valid() {
		return fmt.Errorf("token: want 32 lower-case hexadecimal digits")
	}
	return nil
}

func validText(text string) error {
	if len(text) > maxText {
		return fmt.Errorf("text of %d bytes: at most %d", len(text), maxText)
	}
	return nil
}

func validWord(word string) error {
	if len(word) > maxWord {
		return fmt.Errorf("word of %d bytes: at most %d", len(word), maxWord)
	}
	return nil
}
