package metastore_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node/sim/metastore"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/pg/pgtest"
)

// server is the real one.
var server *pg.Server

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, &server, pg.Options{Settings: map[string]string{
		"max_prepared_transactions": "20", "deadlock_timeout": "1h", "autovacuum": "off",
		"checkpoint_timeout": "1h",
	}}))
}

// verifier is a SCRAM secret whose check costs nothing.
func verifier(password string) string {
	salt := []byte("metastore-model!")
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		panic(err)
	}
	mac := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$1:" + encode(salt) + "$" + encode(stored[:]) + ":" + encode(mac("Server Key"))
}

// modelConfig is the model of what prepareSQL and reset make.
func modelConfig(version int) metastore.Config {
	return metastore.Config{
		Version: version, Password: "pw",
		Roles: []metastore.Role{
			{Name: group, Inherit: true}, {Name: metastore.Fencer, Inherit: true, CreateRole: true},
			{Name: "fencer", Login: true, Password: "pw"},
			{Name: "m0", Login: true, Inherit: true, Password: "pw"}, {Name: "m1", Login: true, Inherit: true, Password: "pw"},
		},
		Memberships: []metastore.Membership{
			{Group: group, Member: metastore.Fencer, Admin: true},
			{Group: metastore.SignalBackend, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.ReadAllStats, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.Fencer, Member: "fencer", Set: true},
			{Group: group, Member: "m0", Inherit: true, Set: true},
			{Group: group, Member: "m1", Inherit: true, Grantor: metastore.Fencer},
		},
		Tables: config(version).Tables,
	}
}

func resetSQL(version int) string {
	revoke := "format('REVOKE %I FROM %I', r.g, r.m)"
	options := func(_, _, admin bool) string {
		if admin {
			return " WITH ADMIN OPTION"
		}
		return ""
	}
	if version >= 16 {
		revoke = "format('REVOKE %I FROM %I GRANTED BY %I CASCADE', r.g, r.m, r.x)"
		options = func(inherit, set, admin bool) string {
			return fmt.Sprintf(" WITH INHERIT %t, SET %t, ADMIN %t", inherit, set, admin)
		}
	}
	return `DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT g.rolname g, b.rolname m, x.rolname x FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles b ON b.oid = a.member
      LEFT JOIN pg_roles x ON x.oid = a.grantor WHERE b.oid >= 16384 OR g.oid >= 16384 LOOP EXECUTE ` + revoke + `; END LOOP;
  FOR r IN SELECT rolname FROM pg_roles WHERE oid >= 16384 AND rolname NOT IN ('airflow', 'duoflow') LOOP EXECUTE format('DROP ROLE %I', r.rolname); END LOOP;
END $$;
ALTER ROLE airflow NOLOGIN INHERIT PASSWORD NULL; ALTER ROLE duoflow NOLOGIN INHERIT CREATEROLE PASSWORD NULL;
CREATE ROLE fencer LOGIN NOINHERIT PASSWORD '` + verifier("pw") + `';
CREATE ROLE m0 LOGIN PASSWORD '` + verifier("pw") + `'; CREATE ROLE m1 LOGIN PASSWORD '` + verifier("pw") + `';
GRANT airflow TO duoflow` + options(false, false, true) + `;
GRANT pg_signal_backend TO duoflow` + options(true, true, false) + `; GRANT pg_read_all_stats TO duoflow` + options(true, true, false) + `;
GRANT duoflow TO fencer` + options(false, true, false) + `;
GRANT airflow TO m0` + options(true, true, false) + `; GRANT airflow TO m1` + options(true, false, false) + ` GRANTED BY duoflow;
DELETE FROM duoflow.fence; DELETE FROM duoflow.event; DELETE FROM public.w;
INSERT INTO duoflow.fence (job) VALUES ('` + job + `')`
}

// reset brings the real server back to the beginning of a sequence.
func (r *genuine) reset() {
	r.t.Helper()
	r.leave()
	for {
		left := r.must(r.admin, fmt.Sprintf(`SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND pid NOT IN (pg_backend_pid(), %d)`, r.holder.PID()))
		if len(left[0].Rows) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, row := range r.must(r.admin, "SELECT gid FROM pg_prepared_xacts")[0].Rows {
		r.must(r.admin, fmt.Sprintf("ROLLBACK PREPARED '%s'", row[0]))
	}
	r.must(r.holder, "SELECT pg_advisory_unlock_all()")
	r.must(r.admin, resetSQL(r.words.version))
}

// leave hangs up every client.
func (r *genuine) leave() {
	for slot, c := range r.clients {
		if c == nil {
			continue
		}
		if c.frozen {
			_ = syscall.Kill(int(c.pid), syscall.SIGCONT)
		}
		if c.conn != nil {
			closeSoon(c.conn)
		}
		r.hangup(slot)
	}
}

func closeSoon(conn *pgconn.PgConn) { _ = conn.Conn().Close() }

func environment(name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return n
}

// newReal prepares the server for sequences.
func newReal(t *testing.T) *genuine {
	t.Helper()
	_ = os.Getenv(pg.BinEnv) // tells go's test cache that the result depends on it
	r := &genuine{t: t, server: server, pids: map[metastore.PID]uint32{}}
	r.connectOwn()
	t.Cleanup(func() { r.leave(); r.closeOwn() })
	verifiers := map[string]string{"pw": verifier("pw"), "other": verifier("other")}
	r.words = words{
		version: server.Version(), process: func(pid metastore.PID) uint32 { return r.pids[pid] },
		verify: func(password string) string { return verifiers[password] },
	}
	r.must(r.admin, "CREATE TABLE IF NOT EXISTS public.w (key text PRIMARY KEY, epoch bigint NOT NULL, node text NOT NULL, token text NOT NULL)")
	setup := fence.Setup{Jobs: []string{job}, Group: group, Fencers: []string{"fencer"}}
	if err := fence.Init(t.Context(), server.Superuser(), setup); err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	reserve = 5 * time.Minute // of go test's own limit
	fewest  = 20              // sequences, whatever the time
)

// The model and the real server are given the same random operations and must look the same after each. SEED=n plays one sequence,
// SEQUENCES=n as many, from FIRST=n on, of OPERATIONS=n each.
func TestTheModelIsLikeTheRealServer(t *testing.T) {
	r := newReal(t)
	counts := map[string]int{}
	first, sequences := environment("FIRST", 1), environment("SEQUENCES", 200)
	if seed := environment("SEED", 0); seed != 0 {
		first, sequences = seed, 1
	}
	began := time.Now()
	for seed := first; seed < first+sequences; seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 0))}
		left := environment("OPERATIONS", 50)
		r.sequence(fmt.Sprintf("SEED=%d", seed), counts, func(p *play) (o op, kind string, more bool) {
			if left--; left < 0 {
				return op{}, "", false
			}
			o, kind = g.next(p)
			return o, kind, true
		})
		if t.Failed() {
			break
		}
		if end, some := t.Deadline(); some && time.Until(end) < reserve && seed-first >= fewest {
			sequences = seed - first + 1 // the machine is very slow: what is left is for the other tests
		}
	}
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%s %d", kind, counts[kind]))
	}
	t.Logf("%d sequences on Postgres %d in %s: %s", sequences, server.Version(), time.Since(began), strings.Join(lines, ", "))
}

func TestStoriesGoTheSameWay(t *testing.T) {
	r := newReal(t)
	all := stories()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		ops := all[name]
		r.sequence(name, map[string]int{}, func(p *play) (o op, kind string, more bool) {
			for len(ops) > 0 && ops[0].kind == opSend && p.seats[ops[0].slot].closed {
				ops = ops[1:] // that version did not let it in, or has ended it
			}
			if len(ops) == 0 {
				return op{}, "", false
			}
			o, ops = ops[0], ops[1:]
			return o, o.kind, true
		})
	}
}

// sequence plays operations on both until there are no more, or the two differ.
func (r *genuine) sequence(name string, counts map[string]int, next func(*play) (o op, kind string, more bool)) {
	r.t.Helper()
	r.reset()
	clear(r.pids)
	plays := []*play{newPlay(modelConfig(r.words.version), metastore.Row{Key: job})}
	var done []string
	for o, kind, more := next(plays[0]); more; o, kind, more = next(plays[0]) {
		counts[kind]++
		done = append(done, o.String())
		for _, p := range plays {
			p.do(action{op: &o})
		}
		if o.kind == opOpen && r.clients[o.slot] != nil {
			r.hangup(o.slot)
		}
		r.perform(o)
		if plays = r.compare(plays); plays == nil {
			r.t.Errorf("%s on Postgres %d, after\n%s", name, r.words.version, strings.Join(done, "\n"))
			return
		}
		for i, c := range r.clients {
			if c != nil && c.pid != 0 {
				r.pids[plays[0].seats[i].pid] = c.pid
			}
		}
		answered := "answer none"
		if s := plays[0].seats[o.slot]; s.heard {
			answered = "answer " + string(s.reply.Code)
		}
		counts[answered]++
	}
}

// compare returns the plays that look like the real server, once it does.
func (r *genuine) compare(plays []*play) []*play {
	r.t.Helper()
	var all []*play
	locked := false
	for _, p := range plays {
		locked = locked || p.locked() // before
		all = append(all, p.settled()...)
	}
	for _, p := range all {
		locked = locked || p.locked()
	}
	var view string
	patience := time.Duration(environment("PATIENCE", int(stuck/time.Second))) * time.Second
	pause := time.Millisecond / 2
	for began := time.Now(); time.Since(began) < patience; time.Sleep(pause) {
		pause = min(2*pause, 20*time.Millisecond)
		view = r.view(locked)
		var like []*play
		for _, p := range all {
			if p.view() == view {
				like = append(like, p)
			}
		}
		if like != nil {
			return like
		}
	}
	for _, p := range all {
		r.t.Errorf("the model:\n%s", p.view())
	}
	r.t.Errorf("the server:\n%s", view)
	return nil
}
