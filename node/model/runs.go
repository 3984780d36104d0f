package main

// property numbers are those of server.pml; served is the one that is not an assertion.
type property int

const (
	promise property = iota + 1
	rowRises
	oneMember
	notAfterStart
	roleOnce
	neverResumed
	oneLife
	served
)

// kept is the property of a run that must find nothing.
const kept property = 0

func (p property) String() string {
	return [...]string{"", "promise", "I1", "I2", "I3", "I4", "I5", "I9", "served"}[p]
}

// search is one search of one model.
type search struct {
	name  string
	model string
	// world are the definitions the model is searched with; the first of a mutant is what it takes out.
	world []string
	// breaks is the property that must be violated: that and no other is checked. kept: all are, and hold.
	breaks property
}

const (
	fence  = "fence.pml"
	active = "active.pml"
)

// three are lives of which two have the same epoch, as two raft leaders may grant it.
var three = []string{"LIVES=3", "E0=1", "E1=2", "E2=2", "E3=3"}

func with(world []string, more ...string) []string { return append(more, world...) }

// worlds are what must hold.
var worlds = []search{
	{"four lives, two of one epoch", fence, []string{"LIVES=4", "E0=1", "E1=2", "E2=2", "E3=3"}, kept},
	{"two sessions of each life", fence, []string{"LIVES=3", "PER=2"}, kept},
	{"Postgres <= 15", fence, []string{"LIVES=3", "OLD"}, kept},
	{"prepared transactions", fence, []string{"LIVES=3", "PREPARED"}, kept},
	{"failover to a synchronous standby", fence, []string{"LIVES=3", "FAILOVER"}, kept},
	{"failover without the last commits: what is left", fence, []string{"LIVES=3", "FAILOVER", "ASYNC", "SURVIVING"}, kept},
	{"restored from a backup", fence, []string{"LIVES=3", "RESTORE"}, kept},
	{"restored, Postgres <= 15", fence, with(three, "RESTORE", "OLD"), kept},
	{"served, after two faults", active, []string{"LIVES=4", "FAULTS=2"}, kept},
	{"served, Postgres <= 15", active, []string{"LIVES=4", "FAULTS=1", "OLD"}, kept},
	{"served, after restart, lock and restore", active, []string{"LIVES=4", "FAULTS=2", "RESTORE", "SERVER_ONLY"}, kept},
}

// mutants are what must be violated.
var mutants = []search{
	{"no REVOKE", fence, with(three, "M_NO_REVOKE"), promise},
	{"REVOKE by another grantor, not asserted", fence, with(three, "M_OTHER_GRANTOR"), promise},
	{"a role per node, enabled again", fence, with(three, "M_NODE_ROLES"), promise},
	{"no guard: a late take of an older epoch", fence, with(three, "M_NO_GUARD"), promise},
	{"no guard: the row goes back", fence, with(three, "M_NO_GUARD"), rowRises},
	{"<= for <", fence, with(three, "M_NOT_STRICT"), promise},
	{"terminate inside the transaction", fence, with(three, "M_EARLY_TERMINATE"), promise},
	{"no drain", fence, with(three, "M_NO_DRAIN"), promise},
	{"terminate and do not wait", fence, with(three, "M_NO_WAIT"), promise},
	{"wait and do not terminate", fence, with(three, "M_NO_SIGNAL"), promise},
	{"the first look is believed", fence, with(three, "M_FIRST_LOOK"), promise},
	{"SET ROLE allowed", fence, with(three, "M_SET_ROLE"), promise},
	{"an idle session may be the group (<= 15)", fence, with(three, "M_IDLE_LEFT", "OLD"), promise},
	{"logins under way are not looked for (<= 15)", fence, with(three, "M_LOGINS_IGNORED", "OLD"), promise},
	{"the list first, the logins second (<= 15)", fence, with(three, "M_LIST_FIRST", "OLD"), promise},
	{"prepared transactions are forgotten", fence, with(three, "M_PREPARED_FORGOTTEN", "PREPARED"), promise},
	{"a role of a later time is no obstacle", fence, []string{"M_ROLES_IGNORED", "LIVES=3", "RESTORE"}, promise},
	{"a repeated take does not wait for the standby", fence, with(three, "M_NOT_SHIPPED", "FAILOVER"), promise},
	{"no synchronous standby (A1 broken)", fence, with(three, "ASYNC", "FAILOVER"), promise},
	{"credentials before the drain", fence, with(three, "M_EARLY_CREDENTIALS"), promise},
	{"adopt before the drain", fence, with(three, "M_EARLY_ADOPT"), promise},
	{"adopt without a look at the fence", fence, with(three, "M_ADOPT_UNCHECKED"), promise},
	{"one service file for all lives of a node", fence, with(three, "M_SHARED_FILE"), oneLife},
	{"a restarted daemon resumes", fence, with(three, "M_RESUME"), neverResumed},

	{"nobody ends an idle session (<= 15)", active, []string{"M_NO_SIGNAL", "OLD", "LIVES=4", "FAULTS=1"}, served},
	{"terminate without NOLOGIN (<= 15)", active, []string{"M_NO_NOLOGIN", "OLD", "LIVES=4", "FAULTS=1"}, served},
	{"another grantor, asserted", active, []string{"M_OTHER_GRANTOR_ASSERTED", "LIVES=4", "FAULTS=1"}, served},
	{"a lock on the row is waited for", active, []string{"M_NO_UNBLOCK", "LIVES=4", "FAULTS=1"}, served},
	{"a holder without metastore is trusted", active, []string{"M_BLIND_TRUSTED", "LIVES=4", "FAULTS=1"}, served},
	{"a restarted holder is trusted", active, []string{"M_REBORN_TRUSTED", "LIVES=4", "FAULTS=1"}, served},
	{"a release is told once", active, []string{"M_RELEASE_ONCE", "LIVES=4", "FAULTS=1"}, served},
}

func (s search) live() bool { return s.model == active }
