package release_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/cmd/release"
)

func TestText(t *testing.T) {
	if got := release.Text("1.2.3+abc"); got != "1.2.3+abc" {
		t.Errorf("what the linker said became %q", got)
	}
	if got := release.Text(""); !strings.HasPrefix(got, release.Number) {
		t.Errorf("without the linker it is %q", got)
	}
}

func TestOf(t *testing.T) {
	commit := strings.Repeat("0123456789", 4)
	for _, tt := range []struct {
		commit string
		dirty  bool
		want   string
	}{
		{commit, false, release.Number + "+012345678901"},
		{commit, true, release.Number + "+012345678901.dirty"},
		{"abc", false, release.Number + "+abc"},
		{"", false, release.Number},
	} {
		if got := release.Of(tt.commit, tt.dirty); got != tt.want {
			t.Errorf("%q, dirty %v: %q, not %q", tt.commit, tt.dirty, got, tt.want)
		}
	}
}
