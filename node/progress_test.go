package node

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// talkative is a job that says something at length.
type talkative struct {
	stubJob
	detail airflowctl.Detail
	runs   []fence.PastRun
	broken error
}

func (j *talkative) Detail() (airflowctl.Detail, error) { return j.detail, j.broken }

func (j *talkative) Runs(_ context.Context, limit int) ([]fence.PastRun, error) {
	return j.runs[:min(limit, len(j.runs))], nil
}

func TestProgress(t *testing.T) {
	n, _ := rivalled(t, granted("scheduler", 2))
	at := time.UnixMilli(1_790_000_000_000)
	job := &talkative{
		detail: airflowctl.Detail{Epoch: 4, JSON: []byte(`{"a": 1}`), At: time.Now().Add(-time.Minute)},
		runs:   []fence.PastRun{{Slot: at, Epoch: 4, Node: "a", State: "started", Began: at}, {Slot: at, Epoch: 3, Node: "b", State: "failed", Began: at, Ended: at.Add(time.Second), Exit: 3}},
	}
	n.seats[0].hosted = job
	answer, err := n.Operators().Progress(t.Context(), &duoflowv1.ProgressRequest{Job: "scheduler", Runs: 5})
	if err != nil {
		t.Fatal(err)
	}
	runs := answer.GetRuns()
	if answer.GetNode() != "a" || answer.GetEpoch() != 4 || answer.GetDetail() != `{"a": 1}` || answer.GetDetailAgeMs() < 60_000 || len(runs) != 2 ||
		runs[0].GetEndedUnixMs() != 0 || runs[1].GetEndedUnixMs() != 1_790_000_001_000 || runs[1].GetExit() != 3 {
		t.Errorf("%v", answer)
	}
	job.detail = airflowctl.Detail{}
	if answer, err := n.Operators().Progress(t.Context(), &duoflowv1.ProgressRequest{Job: "scheduler"}); err != nil || answer.DetailAgeMs != nil || len(answer.GetRuns()) != 0 {
		t.Errorf("a job that says nothing: %v, %v", answer, err)
	}
	job.broken = errors.New("no JSON")
	if _, err := n.Operators().Progress(t.Context(), &duoflowv1.ProgressRequest{Job: "scheduler"}); kindOf(err) != duoflowv1.Problem_KIND_FAILED {
		t.Errorf("a job that says nonsense: %v", err)
	}
	if _, err := n.Operators().Progress(t.Context(), &duoflowv1.ProgressRequest{Job: "etl"}); kindOf(err) != duoflowv1.Problem_KIND_USAGE {
		t.Errorf("a job that is not here: %v", err)
	}
}

func TestBackup(t *testing.T) {
	n, log := rivalled(t, granted("scheduler", 2))
	answer, err := n.Operators().Backup(t.Context(), &duoflowv1.BackupRequest{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := lease.DecodeSnapshot(answer.GetState())
	if err != nil {
		t.Fatal(err)
	}
	if job, _ := state.Job("scheduler"); job.Epoch != 1 || answer.GetIndex() != 2 || answer.GetLife() != "0" || !answer.GetView().GetAuthoritative() {
		t.Errorf("%v", answer)
	}
	log.leaderless = true
	if _, err := n.Operators().Backup(t.Context(), &duoflowv1.BackupRequest{}); kindOf(err) != duoflowv1.Problem_KIND_NO_QUORUM {
		t.Errorf("without a majority: %v", err)
	}
	local, err := n.Operators().Backup(t.Context(), &duoflowv1.BackupRequest{Local: true})
	if err != nil || !bytes.Equal(local.GetState(), answer.GetState()) {
		t.Errorf("of this node alone: %v", err)
	}
}
