package airflowctl

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// slowestHeartbeat bounds Airflow's scheduler_heartbeat_sec: one that makes no progress for 15 s is taken for hung, and two
// beats in a row may be late.
const slowestHeartbeat = 7 * time.Second

// checkSettings looks at what Airflow is configured to do on this host, which may make a takeover pointless or a healthy
// scheduler look hung. A command has no settings of ours.
func (c Config) checkSettings() []fence.Finding {
	if c.Kind != Airflow {
		return nil
	}
	in := findInstall(c)
	findings := []fence.Finding{in.checkPython(), in.checkRelease(c.AcceptRevisions), in.checkHeartbeat(c.Env), in.checkExecutor()}
	if c.Broker != nil {
		findings = append(findings, in.checkCelery())
	}
	return findings
}

func (in install) checkPython() fence.Finding {
	f := fence.Finding{Name: "Airflow's interpreter", OK: true, Detail: in.python}
	if info, err := os.Stat(in.python); in.python == "" || err != nil || info.Mode()&0o111 == 0 {
		f.OK, f.Detail = false, fmt.Sprintf("%q is no program on this host", in.python)
		f.Mend = "set the job's python to the interpreter Airflow is installed for"
	}
	return f
}

// checkRelease tells of an Airflow with tables that nobody has looked at before a takeover meets them: that refuses them after the fence,
// and nobody runs the scheduler then. It is advice, as its tables may be as known all the same.
func (in install) checkRelease(accepted []string) fence.Finding {
	release := in.release()
	f := fence.Finding{Name: "Airflow's release", OK: true, Detail: cmp.Or(release, "not found among the interpreter's packages")}
	known := func(line string) bool { return strings.HasPrefix(release+".", line+".") }
	if release == "" || len(accepted) > 0 || slices.ContainsFunc(airflow.Releases(), known) {
		return f
	}
	f.Detail = fmt.Sprintf("%s, not one of %s: if its tables are not as theirs, a takeover is refused", release, strings.Join(airflow.Releases(), ", "))
	f.Mend = "try it on a copy of the metastore; if SELECT version_num FROM alembic_version differs there, name it in the job's accept_revisions"
	return f
}

// checkHeartbeat refuses a heartbeat so slow that a healthy scheduler would be killed as hung.
func (in install) checkHeartbeat(env []string) fence.Finding {
	const airflowsOwn = "5"
	text := cmp.Or(valueOf(env, "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC"), option(in.config, "scheduler", "scheduler_heartbeat_sec"), airflowsOwn)
	f := fence.Finding{Name: "scheduler_heartbeat_sec", OK: true, Detail: text + " s"}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds <= 0 || time.Duration(seconds*float64(time.Second)) > slowestHeartbeat {
		f.OK, f.Detail = false, fmt.Sprintf("%s s: a scheduler without progress for 15 s is taken for hung", text)
		f.Mend = fmt.Sprintf("set [scheduler] scheduler_heartbeat_sec to at most %.0f; Airflow's own is %s", slowestHeartbeat.Seconds(), airflowsOwn)
	}
	return f
}

// checkExecutor says what a failover does to the tasks that run: nothing can be mended here, but nobody should be surprised.
func (in install) checkExecutor() fence.Finding {
	executor := cmp.Or(in.executor, "LocalExecutor")
	f := fence.Finding{Name: "executor", OK: true, Detail: executor}
	if strings.Contains(executor, "LocalExecutor") || strings.Contains(executor, "SequentialExecutor") {
		f.Detail += ": tasks run inside the scheduler and end with it; their next try is on the node that takes over"
	}
	return f
}

// checkCelery refuses users at a broker for an executor that sends nothing: the scheduler would end at its start.
func (in install) checkCelery() fence.Finding {
	executor := cmp.Or(in.executor, "LocalExecutor")
	f := fence.Finding{Name: "broker's executor", OK: true, Detail: executor}
	if !strings.Contains(executor, "Celery") {
		f.OK, f.Detail = false, executor+" sends nothing to a broker"
		f.Mend = "remove the job's broker section, or set [core] executor to CeleryExecutor"
	}
	return f
}

func valueOf(env []string, name string) string {
	value := ""
	for _, entry := range env { // the last one counts
		if v, found := strings.CutPrefix(entry, name+"="); found {
			value = v
		}
	}
	return value
}
