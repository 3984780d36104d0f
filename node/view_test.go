package node

import (
	"testing"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func TestADeadHolderIsNotShownAsTheActiveOne(t *testing.T) {
	for want, on := range map[string]*duoflowv1.JobOnNode{
		"active":                           {State: "active", Epoch: 5},
		"active in epoch 4, which is over": {State: "active", Epoch: 4},
		"standby":                          {State: "standby", Epoch: 3},
		"active in epoch 6":                {State: "active", Epoch: 6},
		"":                                 {},
	} {
		if got := stateText(on, 5); got != want {
			t.Errorf("%v: %q, want %q", on, got, want)
		}
	}
}
