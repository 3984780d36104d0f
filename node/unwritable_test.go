package node

import (
	"testing"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// TestUnwritable: a node whose log could not take a grant is granted nothing, says why, and is when it could.
func TestUnwritable(t *testing.T) {
	const full = "the data directory takes no writes: write: no space left on device"
	d := start(t, soleConfig("scheduler"), func(d *daemon) { d.log.setUnwritable(full) })
	status := func() *duoflowv1.StatusResponse {
		answer, err := d.node.Operators().Status(t.Context(), &duoflowv1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	d.await("the reason", func() bool {
		on := status().GetJobs()[0].GetNodes()[0]
		return on.GetIneligibleReason() == "has a disk that takes no writes" && !on.GetEligible()
	})
	if got := status().GetNodes()[0].GetTrouble(); got != full {
		t.Errorf("trouble %q, want %q", got, full)
	}
	if epoch := status().GetJobs()[0].GetEpoch(); epoch != 0 {
		t.Errorf("epoch %d was granted", epoch)
	}
	d.log.setUnwritable("")
	d.await("active", func() bool { return d.active("scheduler", 1) })
	d.log.setUnwritable(full)
	d.await("the trouble", func() bool { return status().GetNodes()[0].GetTrouble() == full })
	if !d.active("scheduler", 1) {
		t.Error("a full disk ended what it has")
	}
}

func TestTrouble(t *testing.T) {
	for want, b := range map[string]beat{
		"": {}, "older": {Doubt: "older"}, "full": {Disk: "full"}, "older; full": {Doubt: "older", Disk: "full"},
	} {
		if got := b.trouble(); got != want {
			t.Errorf("%+v: %q, want %q", b, got, want)
		}
	}
}
