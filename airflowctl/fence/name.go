package fence

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	// MaxEpoch is the highest epoch a role can carry: 18 digits fit a bigint whatever they are.
	MaxEpoch = 999_999_999_999_999_999
	// maxName is NAMEDATALEN - 1: Postgres cuts longer names silently.
	maxName = 63
	// doctorJob is the job that Doctor plays its fence on. It has a row and roles like any other.
	doctorJob = "doctor"
)

var (
	namePattern  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)
	groupPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
	tokenPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// Claim is one grant: this node, in this life of its daemon, may run the job under this epoch.
type Claim struct {
	Epoch uint64 // from 1 to MaxEpoch
	Node  string
	Token string // 32 lower case hex digits, new at every start of the daemon
}

// validate reports every fault at once.
func (c Claim) validate() error {
	var faults []error
	if c.Epoch == 0 || c.Epoch > MaxEpoch {
		faults = append(faults, fmt.Errorf("epoch %d is not in 1..%d", c.Epoch, uint64(MaxEpoch)))
	}
	if !namePattern.MatchString(c.Node) {
		faults = append(faults, fmt.Errorf("node %q does not match %s", c.Node, namePattern))
	}
	if !tokenPattern.MatchString(c.Token) {
		faults = append(faults, errors.New("token is not 32 lower case hex digits"))
	}
	return errors.Join(faults...)
}

// RoleName returns the role of one epoch, df_<group>_<job>_e<epoch>. It is at most 63 bytes for
// every group and job that New accepts.
func RoleName(group, job string, epoch uint64) string {
	return fmt.Sprintf("df_%s_%s_e%d", group, job, epoch)
}

// ParseRole is the inverse of RoleName; ok is false for a name that RoleName never makes. It is
// unambiguous because a job name has no underscore.
func ParseRole(role string) (group, job string, epoch uint64, ok bool) {
	rest, found := strings.CutPrefix(role, "df_")
	at := strings.LastIndex(rest, "_e")
	if !found || at < 0 {
		return "", "", 0, false
	}
	epoch, err := strconv.ParseUint(rest[at+2:], 10, 64)
	if err != nil {
		return "", "", 0, false
	}
	rest = rest[:at]
	at = strings.LastIndexByte(rest, '_')
	if at < 0 {
		return "", "", 0, false
	}
	group, job = rest[:at], rest[at+1:]
	ok = groupPattern.MatchString(group) && namePattern.MatchString(job) &&
		epoch > 0 && epoch <= MaxEpoch && RoleName(group, job, epoch) == role
	if !ok {
		return "", "", 0, false
	}
	return group, job, epoch, true
}

// validateNames checks that a job and a group give usable role names for every epoch.
func validateNames(group, job string) error {
	var faults []error
	if !namePattern.MatchString(job) {
		faults = append(faults, fmt.Errorf("job %q does not match %s", job, namePattern))
	}
	if !groupPattern.MatchString(group) {
		faults = append(faults, fmt.Errorf("group %q does not match %s", group, groupPattern))
	}
	if longest := RoleName(group, job, MaxEpoch); len(longest) > maxName {
		faults = append(faults, fmt.Errorf("group %q and job %q make role names of %d bytes, Postgres takes %d",
			group, job, len(longest), maxName))
	}
	return errors.Join(faults...)
}
