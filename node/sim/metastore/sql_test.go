package metastore_test

import (
	"fmt"
	"strings"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// words spells statements as a real server takes them.
type words struct {
	version int
	process func(metastore.PID) uint32
	verify  func(password string) string
	pause   func() uint64 // the key of a lock that the statement has to pass
}

func (w words) request(request metastore.Request) string {
	var all []string
	for _, statement := range request {
		all = append(all, w.sql(statement))
	}
	return strings.Join(all, "; ")
}

func (w words) sql(statement metastore.Statement) string {
	switch st := statement.(type) {
	case metastore.Begin:
		if st.Isolation == metastore.RepeatableRead {
			return "BEGIN ISOLATION LEVEL REPEATABLE READ"
		}
		return "BEGIN"
	case metastore.Commit:
		return "COMMIT"
	case metastore.Rollback:
		return "ROLLBACK"
	case metastore.PrepareTransaction:
		return fmt.Sprintf("PREPARE TRANSACTION '%s'", st.GID)
	case metastore.CommitPrepared:
		return fmt.Sprintf("COMMIT PREPARED '%s'", st.GID)
	case metastore.RollbackPrepared:
		return fmt.Sprintf("ROLLBACK PREPARED '%s'", st.GID)
	case metastore.SetRole:
		if st.Role == "" {
			return "RESET ROLE"
		}
		return "SET ROLE " + ident(st.Role)
	case metastore.LockTable:
		return "LOCK TABLE " + tableName(st.Table) + " IN ACCESS EXCLUSIVE MODE"
	case metastore.Advisory:
		if st.Session {
			return fmt.Sprintf("SELECT pg_advisory_lock(%d)", st.Key)
		}
		return fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", st.Key)
	case metastore.Terminate:
		return fmt.Sprintf("SELECT pg_terminate_backend(%d)", w.process(st.PID))
	case metastore.Cancel:
		return fmt.Sprintf("SELECT pg_cancel_backend(%d)", w.process(st.PID))
	case metastore.Insert, metastore.Update, metastore.Delete, metastore.Select:
		return w.rows(statement)
	case metastore.CreateRole, metastore.AlterRole, metastore.DropRole, metastore.GrantRole, metastore.RevokeRole:
		return w.roles(statement)
	default:
		return w.fence(statement)
	}
}

func ident(name string) string { return `"` + name + `"` }

func tableName(table string) string {
	if table == metastore.FenceTable {
		return "duoflow.fence"
	}
	return "public." + table
}

func keyName(table string) string {
	if table == metastore.FenceTable {
		return "job"
	}
	return "key"
}

func (w words) rows(statement metastore.Statement) string {
	switch st := statement.(type) {
	case metastore.Insert:
		from := ""
		if st.Pause > 0 {
			from = fmt.Sprintf(" FROM pg_advisory_xact_lock_shared(%d)", w.pause())
		}
		return fmt.Sprintf("INSERT INTO %s (%s, epoch, node, token) SELECT '%s', %d, '%s', '%s'%s",
			tableName(st.Table), keyName(st.Table), st.Row.Key, st.Row.Epoch, st.Row.Node, st.Row.Token, from)
	case metastore.Update:
		pause, below := "", ""
		if st.Pause > 0 { // asked for before any row is looked at
			pause = fmt.Sprintf(" AND (SELECT pg_advisory_xact_lock_shared(%d)) IS NOT NULL", w.pause())
		}
		if st.Below {
			below = fmt.Sprintf(" AND epoch < %d", st.Row.Epoch)
		}
		return fmt.Sprintf("UPDATE %s SET epoch = %d, node = '%s', token = '%s' WHERE %s = '%s'%s%s",
			tableName(st.Table), st.Row.Epoch, st.Row.Node, st.Row.Token, keyName(st.Table), st.Row.Key, below, pause)
	case metastore.Delete:
		return fmt.Sprintf("DELETE FROM %s WHERE %s = '%s'", tableName(st.Table), keyName(st.Table), st.Key)
	case metastore.Select:
		text := fmt.Sprintf("SELECT %s, epoch, node, token FROM %s", keyName(st.Table), tableName(st.Table))
		if st.Key != "" {
			text += fmt.Sprintf(" WHERE %s = '%s'", keyName(st.Table), st.Key)
		} else {
			text += " ORDER BY 1"
		}
		return text + [...]string{"", " FOR SHARE", " FOR UPDATE"}[st.Lock]
	}
	panic("no statement on rows")
}

func yes(set bool, word string) string {
	if set {
		return word
	}
	return "NO" + word
}

func (w words) roles(statement metastore.Statement) string {
	switch st := statement.(type) {
	case metastore.CreateRole:
		return fmt.Sprintf("CREATE ROLE %s %s %s %s PASSWORD '%s'", ident(st.Role.Name), yes(st.Role.Login, "LOGIN"),
			yes(st.Role.Inherit, "INHERIT"), yes(st.Role.CreateRole, "CREATEROLE"), w.verify(st.Role.Password))
	case metastore.AlterRole:
		text := "ALTER ROLE " + ident(st.Name)
		if st.Login != nil {
			text += " " + yes(*st.Login, "LOGIN")
		}
		if st.Inherit != nil {
			text += " " + yes(*st.Inherit, "INHERIT")
		}
		if st.Password != nil {
			text += " PASSWORD '" + w.verify(*st.Password) + "'"
		}
		return text
	case metastore.DropRole:
		return "DROP ROLE " + ident(st.Name)
	case metastore.GrantRole:
		return w.grant(st.Membership)
	case metastore.RevokeRole:
		text := "REVOKE "
		if st.AdminOnly {
			text += "ADMIN OPTION FOR "
		}
		text += ident(st.Group) + " FROM " + ident(st.Member) + grantedBy(st.Grantor)
		if st.Cascade {
			text += " CASCADE"
		}
		return text
	}
	panic("no statement on roles")
}

func grantedBy(grantor string) string {
	if grantor == "" {
		return ""
	}
	return " GRANTED BY " + ident(grantor)
}

func (w words) grant(m metastore.Membership) string {
	text := "GRANT " + ident(m.Group) + " TO " + ident(m.Member)
	switch {
	case w.version >= 16:
		text += fmt.Sprintf(" WITH ADMIN %t, INHERIT %t, SET %t", m.Admin, m.Inherit, m.Set)
	case m.Admin:
		text += " WITH ADMIN OPTION"
	}
	return text + grantedBy(m.Grantor)
}

func (w words) fence(statement metastore.Statement) string {
	switch st := statement.(type) {
	case metastore.Take:
		return fmt.Sprintf("SELECT outcome, row_epoch, row_node, row_token, highest FROM duoflow.take('%s', '%s', %d, '%s', '%s', '%s')",
			st.Job, st.Group, st.Epoch, st.Node, st.Token, w.verify(st.Password))
	case metastore.Drain:
		unlisted := "NULL"
		if st.Unlisted != nil {
			unlisted = "'{}'"
		}
		return fmt.Sprintf("SELECT holds, array_to_string(remain, ','), array_to_string(prepared, ',') FROM duoflow.drain('%s', '%s', %d, '%s', %s, %t)",
			st.Job, st.Group, st.Epoch, st.Token, unlisted, st.Force)
	case metastore.Release:
		return fmt.Sprintf("SELECT duoflow.release('%s', '%s', %d, '%s')", st.Job, st.Group, st.Epoch, st.Token)
	case metastore.Collect:
		return fmt.Sprintf("SELECT dropped FROM duoflow.collect('%s', '%s', %d, %d)", st.Job, st.Group, st.Keep, st.Most)
	case metastore.Unblock:
		return fmt.Sprintf("SELECT pid FROM duoflow.unblock(%d, '%s') WHERE fault = '' ORDER BY 1", w.process(st.PID), st.Application)
	case metastore.Probe:
		return fmt.Sprintf(`SELECT f.epoch, f.node, f.token, coalesce((SELECT max(r.epoch) FROM duoflow.epoch_roles('%[1]s', '%[2]s') r), 0)
			FROM duoflow.fence f WHERE f.job = '%[1]s'`, st.Job, st.Group)
	}
	panic(fmt.Sprintf("no words for %T", statement))
}
