package admin

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const (
	defaultHistory = 50   // entries when the request names no limit
	maxHistory     = 1000 // entries; keeps a response below maxResponseBytes
	maxTimeoutMs   = uint64(1 * time.Hour / time.Millisecond)
	maxWaitMs      = uint64(30 * 24 * time.Hour / time.Millisecond) // of a pause, and until a planned move
	defaultLines   = 100
	maxLines       = 1000
	maxReason      = 500 // bytes
	maxAddress     = 261 // bytes
	maxRuns        = 200
)

// levels are those of a pause.
var levels = []string{"moves", "grants", "stopped"}

// namePattern is that of nodes and jobs.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

// check refuses a request that no node could make sense of.
func check(request any) error {
	switch r := request.(type) {
	case *duoflowv1.SwitchoverRequest:
		return cmp.Or(checkTransfer(r.GetJob(), r.GetTo(), r.GetTimeoutMs()), checkWait("in", r.GetInMs()))
	case *duoflowv1.FailoverRequest:
		return checkTransfer(r.GetJob(), r.GetTo(), r.GetTimeoutMs())
	case *duoflowv1.RestartRequest:
		return checkTransfer(r.GetJob(), "", r.GetTimeoutMs())
	case *duoflowv1.CancelRequest:
		return checkName("job", r.GetJob(), false)
	case *duoflowv1.PauseRequest:
		return checkPause(r)
	case *duoflowv1.ResumeRequest:
		return checkName("job", r.GetJob(), false)
	case *duoflowv1.ChangeMemberRequest:
		return checkMember(r)
	case *duoflowv1.HistoryRequest:
		if r.GetLimit() > maxHistory {
			return usage(fmt.Sprintf("limit %d is more than %d", r.GetLimit(), maxHistory))
		}
		return checkName("job", r.GetJob(), true)
	case *duoflowv1.ExplainRequest:
		return checkName("job", r.GetJob(), false)
	case *duoflowv1.LogsRequest:
		if r.GetLines() > maxLines {
			return usage(fmt.Sprintf("%d lines are more than %d", r.GetLines(), maxLines))
		}
		return checkName("job", r.GetJob(), false)
	case *duoflowv1.ProgressRequest:
		if r.GetRuns() > maxRuns {
			return usage(fmt.Sprintf("%d runs are more than %d", r.GetRuns(), maxRuns))
		}
		return checkName("job", r.GetJob(), false)
	case *duoflowv1.DoctorRequest:
		return checkName("job", r.GetJob(), true)
	}
	return nil
}

func checkTransfer(job, to string, timeoutMs uint64) error {
	if timeoutMs > maxTimeoutMs {
		return usage(fmt.Sprintf("timeout of %d ms is more than %d ms", timeoutMs, maxTimeoutMs))
	}
	if err := checkName("job", job, false); err != nil {
		return err
	}
	return checkName("to", to, true)
}

func checkPause(r *duoflowv1.PauseRequest) error {
	if !slices.Contains(levels, r.GetLevel()) {
		return usage(fmt.Sprintf("level %q is none of %s", r.GetLevel(), strings.Join(levels, ", ")))
	}
	if len(r.GetReason()) > maxReason {
		return usage(fmt.Sprintf("a reason of %d bytes is more than %d", len(r.GetReason()), maxReason))
	}
	return cmp.Or(checkTransfer(r.GetJob(), "", r.GetTimeoutMs()), checkWait("for", r.GetForMs()))
}

func checkMember(r *duoflowv1.ChangeMemberRequest) error {
	if r.GetTimeoutMs() > maxTimeoutMs {
		return usage(fmt.Sprintf("timeout of %d ms is more than %d ms", r.GetTimeoutMs(), maxTimeoutMs))
	}
	add := r.GetAdd()
	if add == nil {
		return checkName("remove", r.GetRemove(), false)
	}
	return cmp.Or(checkName("name", add.GetName(), false), checkAddress("peer", add.GetPeer(), false), checkAddress("gossip", add.GetGossip(), true))
}

func checkAddress(field, addr string, optional bool) error {
	host, port, err := net.SplitHostPort(addr)
	if optional && addr == "" || err == nil && host != "" && port != "" && port != "0" && len(addr) <= maxAddress {
		return nil
	}
	return usage(fmt.Sprintf("%s %.64q is not host:port", field, addr))
}

func checkWait(field string, millis uint64) error {
	if millis > maxWaitMs {
		return usage(fmt.Sprintf("%s of %d ms is more than 30 days", field, millis))
	}
	return nil
}

func checkName(field, name string, optional bool) error {
	if optional && name == "" || namePattern.MatchString(name) {
		return nil
	}
	return usage(fmt.Sprintf("%s %q does not match %s", field, name, namePattern))
}

func usage(what string) error {
	return &Problem{Kind: duoflowv1.Problem_KIND_USAGE, What: what, Mend: "correct the request"}
}
