package gossip

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	tellEvery = 5 * time.Second // for each reason, one line of the log
	maxError  = 300             // bytes of what memberlist says in it: some of that quotes the stranger
)

// ear hears what memberlist logs, which is the only place where it says whom it did not listen to. All of it goes to the log at
// debug level; packets and streams that were turned away are also told of as a warning, by reason and not more often than every
// tellEvery, so that a flood cannot fill the log.
type ear struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	counts map[string]*count
}

type count struct {
	untold int
	told   time.Time
}

// Write implements io.Writer, for one line.
func (e *ear) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	e.log.Debug(text)
	if reason, peer := refusal(text); reason != "" {
		e.note(reason, peer, text)
	}
	return len(line), nil
}

func (e *ear) note(reason, peer, text string) {
	if untold := e.add(reason); untold > 0 {
		if len(text) > maxError {
			text = text[:maxError] + "..."
		}
		e.log.Warn("turned away", "port", "gossip", "reason", reason, "count", untold, "peer", peer, "err", text)
	}
}

// add counts, and returns how many there are to tell of; 0 when it is too early to.
func (e *ear) add(reason string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.counts[reason]
	if c == nil {
		c = &count{}
		e.counts[reason] = c
	}
	c.untold++
	now := e.now()
	if !c.told.IsZero() && now.Sub(c.told) < tellEvery {
		return 0
	}
	untold := c.untold
	c.told, c.untold = now, 0
	return untold
}

// sayings are parts of memberlist's words for what it did not listen to, the first that fits counts. An empty reason is no refusal:
// who went away, as probes of ports do, and what we could not send.
var sayings = []struct{ words, reason string }{
	{"unacceptable label", "cluster"}, // first: the stranger chose the label that follows
	{"Failed to send", ""}, {"Failed to forward", ""}, {"Failed to encode", ""}, {"Failed to push", ""},
	{"Got ping for unexpected node", ""}, {"queue full", ""}, {"Too many pending", ""},
	{"could decrypt", "key"}, {"not encrypted", "key"}, {"Decrypt packet failed", "key"},
	{"timeout", "silent"},
	{"larger than limit", "message"},
	{"EOF", ""}, {"connection reset", ""}, {"broken pipe", ""},
	{"failed to receive", "message"}, {"Failed to receive", "message"}, {"Failed to read", "message"}, {"Failed to decode", "message"},
	{"Failed to decompress", "message"}, {"label", "message"}, {"invalid msgType", "message"}, {"not supported", "message"},
	{"too short", "message"}, {"missing message type", "message"}, {"truncated", "message"}, {"push/pull merge", "message"},
}

// refusal sorts a line of memberlist's; the reason is empty when nobody was turned away.
func refusal(text string) (reason, peer string) {
	at := strings.LastIndex(text, "from=")
	if at < 0 || !strings.HasPrefix(text, "[ERR]") && !strings.HasPrefix(text, "[WARN]") {
		return "", ""
	}
	for _, s := range sayings {
		if strings.Contains(text[:at], s.words) {
			return s.reason, text[at+len("from="):]
		}
	}
	return "", ""
}
