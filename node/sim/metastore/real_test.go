package metastore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/node/sim/metastore"
	"github.com/duoflow/duoflow/scripts/pg"
)

// stuck is how long a real server may take for a step before the test gives up.
const stuck = 60 * time.Second

// client is a slot's client of the real server.
type client struct {
	conn    *pgconn.PgConn
	pid     uint32
	opening chan opened
	gate    chan struct{} // closed: the client goes on with its authentication
	pending chan answer
	last    metastore.Statement
	key     uint64 // of the lock that holds up its statement
	code    string
	value   string
	frozen  bool
}

type opened struct {
	conn *pgconn.PgConn
	err  error
}

type answer struct {
	results []*pgconn.Result
	err     error
}

// genuine plays a sequence on a real server.
type genuine struct {
	t       *testing.T
	server  *pg.Server
	words   words
	admin   *pgconn.PgConn // looks, and sets up
	holder  *pgconn.PgConn // holds the locks that hold up statements
	clients [slots]*client
	pids    map[metastore.PID]uint32 // of the sessions that there were
	keys    uint64
}

func (r *genuine) connectOwn() {
	r.t.Helper()
	for _, conn := range []**pgconn.PgConn{&r.admin, &r.holder} {
		made, err := pgconn.Connect(r.t.Context(), r.server.Superuser())
		if err != nil {
			r.t.Fatal(err)
		}
		*conn = made
	}
	r.must(r.admin, "SET lock_timeout = '20ms'")
}

func (r *genuine) closeOwn() {
	for _, conn := range []*pgconn.PgConn{r.admin, r.holder} {
		if conn != nil {
			closeConn(conn)
		}
	}
}

func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// must runs statements that cannot fail.
func (r *genuine) must(conn *pgconn.PgConn, sql string) []*pgconn.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return results
}

func (r *genuine) perform(o op) {
	c := r.clients[o.slot]
	switch o.kind {
	case opOpen:
		r.open(o)
	case opAnswer:
		close(c.gate)
		c.gate = nil
	case opExpire:
		r.must(r.holder, fmt.Sprintf("SELECT pg_advisory_unlock(%d)", c.key))
	case opHangup:
		r.hangup(o.slot)
	case opFreeze:
		c.frozen = true
		r.signal(c.pid, syscall.SIGSTOP)
	case opThaw:
		c.frozen = false
		r.signal(c.pid, syscall.SIGCONT)
	case opStop, opCrash:
		r.restart(o.kind == opCrash)
	default:
		r.send(c, o.request)
	}
}

func (r *genuine) signal(pid uint32, signal syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(int(pid), signal); err != nil {
		r.t.Fatalf("signal %s to backend %d: %v", signal, pid, err)
	}
}

// gated holds back what a client writes from its second message on: the answer to the server's challenge.
type gated struct {
	net.Conn
	gate    <-chan struct{}
	written int
}

func (g *gated) Write(b []byte) (int, error) {
	if g.written++; g.written == 2 {
		<-g.gate
	}
	return g.Conn.Write(b)
}

// dialOnce keeps a client that is hung up from asking the server, over another connection, to cancel its statement.
func dialOnce(gate <-chan struct{}) pgconn.DialFunc {
	dialled := false
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialled {
			return nil, errors.New("hung up")
		}
		dialled = true
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &gated{Conn: conn, gate: gate}, nil
	}
}

func (r *genuine) open(o op) {
	r.t.Helper()
	dsn := r.server.DSN(o.login.Role, o.login.Password, "postgres")
	if o.login.Role == metastore.Bootstrap {
		dsn = r.server.Superuser() // which has a password of its own
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = o.login.Application
	if o.login.As != "" {
		config.RuntimeParams["options"] = "-c role=" + o.login.As
	}
	c := &client{opening: make(chan opened, 1), code: "none"}
	gate := make(chan struct{})
	if o.login.Slow {
		c.gate = gate
	} else {
		close(gate)
	}
	config.DialFunc = dialOnce(gate)
	r.clients[o.slot] = c
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), stuck)
		defer cancel()
		conn, err := pgconn.ConnectConfig(ctx, config)
		c.opening <- opened{conn, err}
	}()
}

func (r *genuine) send(c *client, request metastore.Request) {
	if c.conn == nil {
		c.code = string(metastore.CodeClosed)
		return
	}
	c.last = request[len(request)-1]
	w := r.words
	w.pause = func() uint64 {
		r.keys++
		c.key = r.keys
		r.must(r.holder, fmt.Sprintf("SELECT pg_advisory_lock(%d)", c.key))
		return c.key
	}
	sql := w.request(request)
	pending := make(chan answer, 1)
	c.pending, c.code, c.value = pending, "none", ""
	go func() {
		results, err := c.conn.Exec(context.Background(), sql).ReadAll()
		pending <- answer{results, err}
	}()
}

// hangup closes the client's end, whatever it waits for.
func (r *genuine) hangup(slot int) {
	c := r.clients[slot]
	r.clients[slot] = nil
	if c.gate != nil {
		close(c.gate)
	}
	if c.opening != nil {
		if got := <-c.opening; got.conn != nil {
			c.conn = got.conn
		}
	}
	if c.conn != nil {
		_ = c.conn.Conn().Close()
	}
	if c.pending != nil {
		<-c.pending
	}
}

func (r *genuine) restart(crash bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	if crash {
		if err := r.server.Kill(); err != nil {
			r.t.Fatal(err)
		}
	}
	r.closeOwn() // not before the kill: its locks hold up statements, which would go on
	if err := r.server.Restart(ctx); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range r.clients {
		if c != nil && c.gate != nil { // it finds that nobody is there any more
			close(c.gate)
			c.gate = nil
		}
	}
	r.connectOwn()
}

// listen takes what has arrived.
func (c *client) listen() {
	select {
	case got := <-c.opening:
		c.opening, c.conn, c.code = nil, got.conn, code(got.err)
		if got.conn != nil {
			c.pid = got.conn.PID()
		}
	default:
	}
	select {
	case got := <-c.pending:
		c.pending, c.code = nil, code(got.err)
		if c.code == "" {
			c.value = ""
		}
		if got.err == nil {
			c.value = c.read(got.results)
		}
	default:
	}
}

// code is the SQLSTATE, "" for no error, CodeClosed for a connection that ended without one.
func code(err error) string {
	var server *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &server):
		return server.Code
	}
	return string(metastore.CodeClosed)
}

// read words the answer to the last statement as play.value does.
func (c *client) read(results []*pgconn.Result) string {
	last := results[len(results)-1]
	field := func(row [][]byte, at int) string { return string(row[at]) }
	switch c.last.(type) {
	case metastore.Insert, metastore.Update, metastore.Delete:
		return strconv.FormatInt(last.CommandTag.RowsAffected(), 10)
	case metastore.Commit:
		return strconv.FormatBool(last.CommandTag.String() == "COMMIT")
	case metastore.PrepareTransaction:
		return strconv.FormatBool(last.CommandTag.String() == "PREPARE TRANSACTION")
	case metastore.Terminate, metastore.Cancel, metastore.Release:
		return strconv.FormatBool(field(last.Rows[0], 0) == "t")
	case metastore.Collect:
		return field(last.Rows[0], 0)
	case metastore.Take, metastore.Probe:
		var all []string
		for _, row := range last.Rows {
			for at := range row {
				all = append(all, field(row, at))
			}
		}
		return strings.Join(all, " ")
	case metastore.Select:
		return fmt.Sprint(rowsOf(last))
	case metastore.Drain:
		return fmt.Sprintf("%t [%s] [%s]", field(last.Rows[0], 0) == "t", field(last.Rows[0], 1), field(last.Rows[0], 2))
	case metastore.Unblock:
		var all []string
		for _, row := range last.Rows {
			all = append(all, field(row, 0))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return ""
}

func rowsOf(result *pgconn.Result) []metastore.Row {
	var out []metastore.Row
	for _, row := range result.Rows {
		epoch, _ := strconv.ParseUint(string(row[1]), 10, 64)
		out = append(out, metastore.Row{Key: string(row[0]), Epoch: epoch, Node: string(row[2]), Token: string(row[3])})
	}
	return out
}

const lookSQL = `SELECT pid, coalesce(state, ''), array_to_string(pg_blocking_pids(pid), ',') FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND coalesce(state, '') NOT IN ('', 'starting');
SELECT format('role %s login=%s inherit=%s createrole=%s', rolname, CASE WHEN rolcanlogin THEN 'true' ELSE 'false' END,
    CASE WHEN rolinherit THEN 'true' ELSE 'false' END, CASE WHEN rolcreaterole THEN 'true' ELSE 'false' END)
  FROM pg_roles WHERE oid >= 16384;
SELECT gid FROM pg_prepared_xacts ORDER BY 1;
SELECT DISTINCT relation::regclass::text FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation' AND relation IN ('duoflow.fence'::regclass, 'w'::regclass)`

func (r *genuine) membersSQL() string {
	options := "'false', 'false'"
	if r.words.version >= 16 {
		options = "m.inherit_option::text, m.set_option::text"
	}
	return fmt.Sprintf(`; SELECT format('member %%s in %%s by %%s admin=%%s inherit=%%s set=%%s', b.rolname, g.rolname, x.rolname, m.admin_option::text, %s)
  FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles b ON b.oid = m.member LEFT JOIN pg_roles x ON x.oid = m.grantor
  WHERE b.oid >= 16384 OR g.oid >= 16384`, options)
}

// view is what can be seen of the server, in the words of play.view. locked says that somebody may have locked a table.
func (r *genuine) view(locked bool) string {
	for _, c := range r.clients {
		if c != nil {
			c.listen()
		}
	}
	sql := lookSQL + r.membersSQL()
	if !locked {
		for _, table := range []string{metastore.FenceTable, work} {
			sql += "; " + words{}.rows(metastore.Select{Table: table})
		}
	}
	results, err := r.ask(sql)
	if code(err) == string(metastore.CodeLockTimeout) {
		return "busy"
	} else if err != nil {
		r.t.Fatal(err)
	}
	var out strings.Builder
	r.viewSessions(&out, results[0])
	var lines, prepared []string
	if locked {
		r.viewTable(&out, metastore.FenceTable, results[3], "duoflow.fence")
		r.viewTable(&out, work, results[3], "w")
	} else {
		fmt.Fprintf(&out, "%s %v\n%s %v\n", metastore.FenceTable, rowsOf(results[5]), work, rowsOf(results[6]))
	}
	for _, row := range append(results[1].Rows, results[4].Rows...) {
		lines = append(lines, string(row[0]))
	}
	for _, row := range results[2].Rows {
		prepared = append(prepared, string(row[0]))
	}
	slices.Sort(lines)
	fmt.Fprintf(&out, "%s\nprepared %v\n", strings.Join(lines, "\n"), prepared)
	return out.String()
}

func (r *genuine) ask(sql string) ([]*pgconn.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	return r.admin.Exec(ctx, sql).ReadAll()
}

// viewTable does not wait for a lock that somebody has got meanwhile: the next look tells.
func (r *genuine) viewTable(out *strings.Builder, table string, locked *pgconn.Result, name string) {
	if slices.ContainsFunc(locked.Rows, func(row [][]byte) bool { return string(row[0]) == name }) {
		fmt.Fprintf(out, "%s locked\n", table)
		return
	}
	results, err := r.ask(words{}.rows(metastore.Select{Table: table}))
	switch code(err) {
	case "":
		fmt.Fprintf(out, "%s %v\n", table, rowsOf(results[0]))
	case string(metastore.CodeLockTimeout):
		fmt.Fprintf(out, "%s busy\n", table)
	default:
		r.t.Fatal(err)
	}
}

func (r *genuine) viewSessions(out *strings.Builder, result *pgconn.Result) {
	sessions := map[uint32]slotLine{}
	holder := r.holder.PID()
	for _, row := range result.Rows {
		line, pid := slotLine{there: true, state: string(row[1])}, number(string(row[0]))
		for _, blocker := range strings.Split(string(row[2]), ",") {
			switch by := number(blocker); {
			case blocker == "":
			case by == holder:
				line.paused = true
			default:
				line.blockers = append(line.blockers, r.slotOf(by))
			}
		}
		sessions[pid] = line
	}
	delete(sessions, holder)
	for i, c := range r.clients {
		var line slotLine
		if c != nil {
			line = sessions[c.pid]
			delete(sessions, c.pid)
			if c.frozen {
				line.blockers = nil
			}
			line.code, line.value = c.code, r.named(c)
		}
		if line.code != "" {
			line.value = ""
		}
		out.WriteString(line.text(i))
	}
	fmt.Fprintf(out, "orphans %d\n", len(sessions))
}

func number(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

func (r *genuine) slotOf(pid uint32) int {
	for i, c := range r.clients {
		if c != nil && c.pid == pid && pid != 0 {
			return i
		}
	}
	return -1
}

// named puts slots in the place of process ids in an answer.
func (r *genuine) named(c *client) string {
	switch c.last.(type) {
	case metastore.Unblock:
		return fmt.Sprint(r.slotsOf(strings.Fields(strings.Trim(c.value, "[]"))))
	case metastore.Drain:
		if parts := strings.SplitN(c.value, " ", 3); len(parts) == 3 {
			pids := strings.Split(strings.Trim(parts[1], "[]"), ",")
			gids := strings.ReplaceAll(parts[2], ",", " ")
			return fmt.Sprintf("%s %v %s", parts[0], r.slotsOf(slices.DeleteFunc(pids, func(s string) bool { return s == "" })), gids)
		}
	}
	return c.value
}

func (r *genuine) slotsOf(pids []string) []int {
	var out []int
	for _, pid := range pids {
		out = append(out, r.slotOf(number(pid)))
	}
	slices.Sort(out)
	return out
}
