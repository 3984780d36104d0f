package broker

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	// maxEpoch is the highest there is, as in package fence.
	maxEpoch = 999_999_999_999_999_999
	// tokenUsed is how many digits of a token a name carries.
	tokenUsed = 8
)

// Claim is the grant a user is made for. Token tells it from a grant of the same epoch in another life of the cluster, whose log and
// database were lost: so no name is ever used twice, and whoever deletes one that it has seen deletes no other.
type Claim struct {
	Epoch uint64
	Token string // 32 lower case hex digits
}

var (
	tokenPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
	endPattern   = regexp.MustCompile(`^[1-9][0-9]{0,17}_[0-9a-f]{8}$`)
)

func (c Claim) validate() error {
	if c.Epoch == 0 || c.Epoch > maxEpoch || !tokenPattern.MatchString(c.Token) {
		return fmt.Errorf("epoch %d is not in 1..%d, or its token is not 32 hex digits", c.Epoch, uint64(maxEpoch))
	}
	return nil
}

// userName is df_<vhost>_<job>_e<epoch>_<token>. Users are the whole server's, so the virtual host is in it: two Airflows on one
// server may well have the names of their jobs in common.
func userName(config Config, claim Claim) string {
	return fmt.Sprintf("%s%d_%s", userPrefix(config), claim.Epoch, claim.Token[:tokenUsed])
}

func userPrefix(config Config) string {
	return "df_" + plain(config.vhost()) + "_" + config.Job + "_e"
}

// ours tells whether a user is one of an epoch of this job.
func ours(config Config, user string) bool {
	end, found := strings.CutPrefix(user, userPrefix(config))
	return found && endPattern.MatchString(end)
}

// plain spells a virtual host's name with small letters, digits, dashes and dots, one name in one way: what is anything else
// becomes a dot and two hex digits. So the parts of a user's name are told apart by their underscores.
func plain(vhost string) string {
	var out strings.Builder
	for i := range len(vhost) {
		c := vhost[i]
		if (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' {
			out.WriteByte(c)
			continue
		}
		fmt.Fprintf(&out, ".%02x", c)
	}
	return out.String()
}
