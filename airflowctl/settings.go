package airflowctl

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

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
	findings := []fence.Finding{in.checkPython(), in.checkHeartbeat(c.Env), in.checkExecutor()}
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
