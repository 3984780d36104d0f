package admin

import (
	"fmt"
	"regexp"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const (
	defaultHistory = 50   // entries when the request names no limit
	maxHistory     = 1000 // entries; keeps a response below maxResponseBytes
	maxTimeoutMs   = uint64(1 * time.Hour / time.Millisecond)
)

// namePattern is that of nodes and jobs.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

// check refuses a request that no node could make sense of.
func check(request any) error {
	switch r := request.(type) {
	case *duoflowv1.SwitchoverRequest:
		return checkTransfer(r.GetJob(), r.GetTo(), r.GetTimeoutMs())
	case *duoflowv1.FailoverRequest:
		return checkTransfer(r.GetJob(), r.GetTo(), r.GetTimeoutMs())
	case *duoflowv1.HistoryRequest:
		if r.GetLimit() > maxHistory {
			return usage(fmt.Sprintf("limit %d is more than %d", r.GetLimit(), maxHistory))
		}
		return checkName("job", r.GetJob(), true)
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

func checkName(field, name string, optional bool) error {
	if optional && name == "" || namePattern.MatchString(name) {
		return nil
	}
	return usage(fmt.Sprintf("%s %q does not match %s", field, name, namePattern))
}

func usage(what string) error {
	return &Problem{Kind: duoflowv1.Problem_KIND_USAGE, What: what, Mend: "correct the request"}
}
