package metastore

import (
	"slices"
	"strconv"
)

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// Row is a row of any table. The fence's row has its job as Key; a job's work has what the test likes.
type Row struct {
	Key         string // primary key
	Epoch       uint64
	Node, Token string
}

// Table is a table and who may do what with it.
type Table struct {
	Name   string
	Rights []Right
}

// Right gives a role rights on a table.
type Right struct {
	Role                           string
	Select, Insert, Update, Delete bool
	Lock                           bool // UPDATE of one column that is shown only: enough for FOR SHARE and FOR UPDATE
}

type right struct {
	oid OID
	Right
}

type table struct {
	name   string
	rights []right
	rows   []*row // by key, then in the order of their making
}

// row is one row through its life, from an insert to a delete. One that is made again is another row.
type row struct {
	table    string
	key      string
	id       uint64
	versions []version
	writer   *tx // who has changed it and not ended
	next     Row // what the writer made of it
	deleting bool
	lockers  []locker // the writer among them
}

type version struct {
	at      seq
	row     Row
	deleted bool
}

type locker struct {
	tx        *tx
	exclusive bool
}

func newRow(table, key string, id uint64) *row { return &row{table: table, key: key, id: id} }

func newTable(t Table, c *catalog) *table {
	out := &table{name: t.Name}
	for _, r := range t.Rights {
		out.rights = append(out.rights, right{c.mustOID(r.Role), r})
	}
	return out
}

func (t *table) drop(r *row) {
	t.rows = slices.DeleteFunc(t.rows, func(o *row) bool { return o == r })
}

func (t *table) add(r *row) {
	at, _ := slices.BinarySearchFunc(t.rows, r, func(a, b *row) int {
		if a.key != b.key {
			if a.key < b.key {
				return -1
			}
			return 1
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	t.rows = slices.Insert(t.rows, at, r)
}

// all lists the rows with a key, "" = every row.
func (t *table) all(key string) []*row {
	if key == "" {
		return t.rows
	}
	var out []*row
	for _, r := range t.rows {
		if r.key == key {
			out = append(out, r)
		}
	}
	return out
}

// at is what a snapshot of a transaction sees of a row.
func (r *row) at(t *tx, snapshot seq) (Row, bool) {
	if r.writer != nil && r.writer == t {
		return r.next, !r.deleting
	}
	for i := len(r.versions) - 1; i >= 0; i-- {
		if v := r.versions[i]; v.at <= snapshot {
			return v.row, !v.deleted
		}
	}
	return Row{}, false
}

// newest is the last committed version.
func (r *row) newest() version { return r.versions[len(r.versions)-1] }

func (r *row) lockedBy(t *tx, atLeastExclusive bool) bool {
	return slices.ContainsFunc(r.lockers, func(l locker) bool { return l.tx == t && (l.exclusive || !atLeastExclusive) })
}

// inTheWay is the first other transaction whose lock conflicts.
func (r *row) inTheWay(t *tx, exclusive bool) *tx {
	for _, l := range r.lockers {
		if l.tx != t && (exclusive || l.exclusive) {
			return l.tx
		}
	}
	return nil
}

func (r *row) lock(t *tx, exclusive bool) {
	for i := range r.lockers {
		if r.lockers[i].tx == t {
			r.lockers[i].exclusive = r.lockers[i].exclusive || exclusive
			return
		}
	}
	r.lockers = append(r.lockers, locker{t, exclusive})
	t.locked = append(t.locked, r)
}

func (r *row) write(t *tx, next Row, deleted bool) {
	if r.writer == nil {
		t.writes = append(t.writes, r)
	}
	r.writer, r.next, r.deleting = t, next, deleted
}

// Rows is what a new transaction of a superuser would see in a table, by key.
func (s *Server) Rows(name string) []Row {
	var out []Row
	for _, r := range s.table(name).rows {
		if row, ok := r.at(nil, s.visible); ok {
			out = append(out, row)
		}
	}
	return out
}
