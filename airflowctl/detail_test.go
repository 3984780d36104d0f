package airflowctl_test

import (
	"os"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
)

// TestALifeSaysMore: what it says at length goes with its epoch, and nothing but JSON is passed on.
func TestALifeSaysMore(t *testing.T) {
	m := newMetastore(t)
	const said = `case $DUOFLOW_EPOCH in 1) echo '{"chunks": 3}' ;; 2) echo '{"chunks": ' ;; 3) yes '{}' | head -c 300000 ;; esac > "$DUOFLOW_STATUS_FILE.json.new"
[ "$DUOFLOW_EPOCH" = 4 ] || mv "$DUOFLOW_STATUS_FILE.json.new" "$DUOFLOW_STATUS_FILE.json"
echo "I run" > "$DUOFLOW_STATUS_FILE"; exec sleep 600`
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", said}, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
	})
	if d, err := j.Detail(); err != nil || d.Epoch != 0 || len(d.JSON) != 0 {
		t.Errorf("before any life: %+v, %v", d, err)
	}
	live(t, j, 1)
	if d, err := j.Detail(); err != nil || d.Epoch != 1 || string(d.JSON) != "{\"chunks\": 3}\n" || time.Since(d.At) > time.Hour {
		t.Errorf("%+v, %v", d, err)
	}
	must(t, j.Stop(t.Context(), 1, time.Second))
	for _, epoch := range []uint64{2, 3} {
		live(t, j, epoch)
		if d, err := j.Detail(); err == nil || len(d.JSON) != 0 {
			t.Errorf("epoch %d says %.20q", epoch, d.JSON)
		}
		must(t, j.Stop(t.Context(), epoch, time.Second))
	}
	live(t, j, 4)
	if d, err := j.Detail(); err != nil || d.Epoch != 4 || len(d.JSON) != 0 {
		t.Errorf("a life that says nothing at length: %+v, %v", d, err)
	}
	must(t, j.Stop(t.Context(), 4, time.Second))
}

// live starts the life of an epoch and waits until it has said what it has to.
func live(t *testing.T, j *airflowctl.Job, epoch uint64) {
	t.Helper()
	takeOver(t, j, claim(epoch, "a"))
	eventually(t, "it runs", func() bool { return j.Status().Line.Text == "I run" })
}
