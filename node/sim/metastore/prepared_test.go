package metastore_test

import (
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// What a client's driver has prepared writes once more after the REVOKE, in a transaction that has its locks; the next is refused. The same
// on both.
func TestAPreparedStatementSeesARevokeOneStatementLate(t *testing.T) {
	b := newBench(t, server.Version())
	b.want(b.admin, metastore.OK, metastore.CreateRole{Role: metastore.Role{Name: "m0", Login: true, Inherit: true, Password: "pw"}},
		metastore.GrantRole{Membership: metastore.Membership{Group: group, Member: "m0", Inherit: true}})
	modelled := b.login(metastore.Login{Role: "m0", Password: "pw"})

	r := newReal(t)
	r.reset()
	conn, err := pgconn.Connect(t.Context(), r.server.DSN("m0", "pw", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	if _, err := conn.Prepare(t.Context(), "put", "INSERT INTO public.w (key, epoch, node, token) SELECT $1::text, 1, '', ''", nil); err != nil {
		t.Fatal(err)
	}
	put := func(key int, prepared bool) {
		t.Helper()
		var statement metastore.Statement = write(1, strconv.Itoa(key))
		var err error
		if prepared {
			statement = metastore.Prepared{Statement: statement}
			_, err = conn.ExecPrepared(t.Context(), "put", [][]byte{[]byte(strconv.Itoa(key))}, nil, nil).Close()
		} else {
			_, err = conn.Exec(t.Context(), script.sql(statement)).ReadAll()
		}
		if reply, _ := b.do(modelled, statement); string(reply.Code) != code(err) {
			t.Errorf("row %d, prepared %t: the model says %q, the server %q", key, prepared, reply.Code, code(err))
		}
	}
	for at, prepared := range []bool{true, false} {
		r.must(r.admin, resetGrant)
		b.want(b.admin, metastore.OK, metastore.GrantRole{Membership: metastore.Membership{Group: group, Member: "m0", Inherit: true}})
		if _, err := conn.Exec(t.Context(), "BEGIN").ReadAll(); err != nil {
			t.Fatal(err)
		}
		b.do(modelled, metastore.Begin{})
		put(10*at+1, prepared)
		put(10*at+2, prepared)
		r.must(r.admin, "REVOKE airflow FROM m0")
		b.want(b.admin, metastore.OK, metastore.RevokeRole{Group: group, Member: "m0"})
		put(10*at+3, prepared)
		put(10*at+4, prepared)
		put(10*at+5, prepared)
		if _, err := conn.Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
			t.Fatal(err)
		}
		b.do(modelled, metastore.Rollback{})
		put(10*at+6, prepared)
	}
}

// resetGrant gives the right back.
const resetGrant = "GRANT airflow TO m0"
