/*
 * Postgres, as far as the fence uses it: the fence row, the roles of the epochs, the sessions of the job. The statements
 * take, look, signal and release are those of airflowctl/fence/functions.sql; each is one step, because each is one
 * statement at the server that holds the row.
 *
 * Who includes this says LIVES, PER (sessions of a life) and what else the world has:
 *
 *   OLD        Postgres <= 15: a member may become the group by SET ROLE, also in the options of its login, and drain
 *              waits until the sessions are gone. Else >= 16: SET FALSE, and an idle session is harmless
 *   PREPARED   prepared transactions
 *   FAILOVER   the primary dies once and the standby takes over; with ASYNC, a take does not wait for the standby
 *   RESTORE    the database is restored once from a backup; roles, which are the server's, are not
 *
 * A mutant (M_...) takes one rule out. Sets of lives are bits.
 */
#define NOBODY 15
#define SESSIONS (LIVES * PER)
#define one(c) (1 << (c))
#define has(set, c) (((set) >> (c)) & 1)

byte epoch[LIVES];  /* of each life; never changed after the beginning */
byte later[LIVES];  /* lives of a later epoch, and the other lives of the same one */
byte older[LIVES];  /* lives of an earlier epoch: those a drain is about */
inline order() {
  c = 0;
  do
  :: c < LIVES -> d = 0;
     do
     :: d < LIVES ->
        later[c] = later[c] | (d != c && epoch[d] >= epoch[c] -> one(d) : 0);
        older[c] = older[c] | (epoch[d] < epoch[c] -> one(d) : 0); d++
     :: else -> break
     od;
     c++
  :: else -> break
  od;
  c = 0; d = 0
}

/* Properties. A run checks them all, or the one that CHECK names; a violation is told by its number. */
#define PROMISE 1 /* no commit after a later epoch's first, and none of two lives of one epoch */
#define I1 2      /* the row goes up only, and each epoch is one life's */
#define I2 3      /* at most the role of the row's epoch is a member */
#define I3 4      /* no commit after a later epoch's job was started */
#define I4 5      /* a role is granted once */
#define I5 6      /* a restarted daemon never resumes a grant */
#define I9 7      /* an epoch's credentials serve the one life they were made for */
#ifdef CHECK
#define checked(property) ((property) == CHECK)
#else
#define checked(property) true
#endif
inline must(property, condition) {
  if
  :: checked(property) && !(condition) -> printf("VIOLATED: property %d\n", property); assert((property) == 0)
  :: else
  fi
}

byte row = NOBODY;  /* the life whose epoch, node and token stand in the fence row */
byte members;       /* whose role is a member of the group */
byte logins;        /* whose role may log in */
byte roles;         /* whose role exists */
byte prepared;      /* whose transaction is prepared */

byte begun;         /* whose credentials were given out */
byte over;          /* whose process tree is empty */

/* For the properties only. */
byte worked;        /* who has committed something */
bit restored;

/* LOGIN: has passed the login check and is not listed yet. OPEN: has looked at its rights and is listed as idle (a Describe
   without Sync). RUN: will commit, unless it is ended before. */
mtype = { GONE, LOGIN, IDLE, OPEN, RUN };
mtype state[SESSIONS] = GONE;
byte role[SESSIONS];  /* whose role the session has */
bit ended[SESSIONS];  /* SIGTERM is on its way */
#if defined(OLD) || defined(M_SET_ROLE)
#define SETROLE
bit group[SESSIONS];  /* has done SET ROLE to the group */
#define isGroup(s) group[s]
inline forgetGroup(x) { group[x] = false }
#else
#define isGroup(s) false
inline forgetGroup(x) { skip }
#endif

#ifdef FAILOVER
byte standbyRow = NOBODY, standbyMembers, standbyLogins, standbyRoles, standbyWorked;
inline ship() {
  standbyRow = row; standbyMembers = members; standbyLogins = logins; standbyRoles = roles; standbyWorked = worked
}
#else
inline ship() { skip }
#endif

/* committed: the process of life who has committed something with the role of life as. */
inline committed(who, as) {
  must(I9, (who) == (as));
  must(PROMISE, !(worked & later[as]));
#ifndef SURVIVING
  must(I3, !(begun & later[as]));
#endif
  worked = worked | one(as)
}

/* What a take asks of the row and of the roles: a role that is not lower is of a time that a restore has undone. */
#if defined(M_NO_GUARD)
#define rowLower(c) true
#elif defined(M_NOT_STRICT)
#define rowLower(c) (row == NOBODY || epoch[row] <= epoch[c])
#else
#define rowLower(c) (row == NOBODY || epoch[row] < epoch[c])
#endif
#if defined(M_ROLES_IGNORED) || defined(M_NO_GUARD) || defined(M_NOT_STRICT) || defined(M_NODE_ROLES)
#define rolesLower(c) true
#else
#define rolesLower(c) ((roles & (later[c] | one(c))) == 0)
#endif
#if defined(M_OTHER_GRANTOR_ASSERTED)
#define revocable(c) ((members & ~nodeMates(c)) == 0)
#else
#define revocable(c) true
#endif
#define mayTake(c) (rowLower(c) && rolesLower(c) && revocable(c))
#define holds(c) (row == (c) && has(members & logins, c))

/* kept: the members that a take leaves. armed: whom it makes one. */
#if defined(M_NO_REVOKE)
#define kept(c) members
#elif defined(M_OTHER_GRANTOR)
#define kept(c) (members & ~nodeMates(c))
#else
#define kept(c) 0
#endif
#if defined(M_NODE_ROLES)
#define armed(c) nodeMates(c)
#else
#define armed(c) one(c)
#endif
#if defined(M_NO_NOLOGIN)
#define loginsKept logins
#else
#define loginsKept 0
#endif

/* take is the statement, of a life that may. */
inline take(who) {
  must(I1, row == NOBODY || epoch[row] < epoch[who] || restored);
  must(I4, !has(roles, who));
  row = who;
  members = kept(who) | armed(who);
  logins = loginsKept | armed(who);
  roles = roles | armed(who);
  must(I2, members == armed(who))
}

inline release(who) { members = members & ~one(who); logins = logins & ~one(who) }

#define listed(s) (state[s] == IDLE || state[s] == OPEN || state[s] == RUN)
#define isOlder(s, c) has(older[c], role[s])

/* signal: pg_terminate_backend for each listed session of an older epoch. It is sent, not yet obeyed. */
inline signal(who) {
  s = 0;
  do
  :: s < SESSIONS -> ended[s] = ended[s] || (listed(s) && isOlder(s, who)); s++
  :: else -> break
  od;
  s = 0
}

/* look: left becomes whether somebody may still commit. The picture is older than the signals that go out with it, so at
   the first look an idle session counts too; later "idle" means that it has the signal before it. */
#if defined(OLD) && !defined(M_IDLE_LEFT)
#define mayCommit(s) listed(s)
#elif defined(M_FIRST_LOOK)
#define mayCommit(s) (state[s] == RUN)
#else
#define mayCommit(s) (state[s] == RUN || (first && listed(s)))
#endif
inline look(who) {
  s = 0; left = 0;
  do
  :: s < SESSIONS -> left = left || (isOlder(s, who) && mayCommit(s)); s++
  :: else -> break
  od;
  s = 0;
#if defined(PREPARED) && !defined(M_PREPARED_FORGOTTEN)
  left = left || (prepared & older[who])
#endif
}

/* underWay: the logins that are not listed (<= 15). Those of the first look are waited for. */
inline underWay() {
  s = 0;
  do
  :: s < SESSIONS ->
     suspects = (state[s] == LOGIN && (first || has(suspects, s)) -> suspects | one(s) : suspects & ~one(s)); s++
  :: else -> break
  od;
  s = 0
}

/* may: session s has the rights of the group now. */
#define may(s) (isGroup(s) || has(members, role[s]))
#if defined(M_SHARED_FILE)
#define fileOf(c) (row != NOBODY && has(nodeMates(c) & begun, row) -> row : c)
#else
#define fileOf(c) (c)
#endif
/* clientLives: the client of life c can send something. */
#ifndef clientLives
#define clientLives(c) has(begun & ~over, c)
#endif

inline close(x) { state[x] = GONE; ended[x] = false; role[x] = 0; forgetGroup(x) }

/* A session of life c: its client does whatever it likes, and so does the server's scheduler. One that has the signal ends
   before it does anything new, but finishes what runs, or not. */
proctype session(byte s; byte c) {
  do
  :: d_step { state[s] == GONE && clientLives(c) && has(logins, fileOf(c)) ->
       role[s] = fileOf(c); state[s] = LOGIN; printf("a session of life %d logs in for epoch %d\n", c, epoch[role[s]]) }
  :: d_step { state[s] == LOGIN -> state[s] = IDLE; printf("the session of life %d is listed\n", c) }
#ifdef SETROLE
  :: d_step { state[s] == LOGIN && !isGroup(s) && may(s) -> group[s] = true; printf("life %d becomes the group in its login\n", c) }
  :: d_step { state[s] == IDLE && !ended[s] && !isGroup(s) && may(s) -> group[s] = true; printf("life %d becomes the group\n", c) }
#endif
  :: d_step { state[s] == IDLE && !ended[s] && may(s) && clientLives(c) ->
       state[s] = OPEN; printf("life %d describes a statement\n", c) }
  :: d_step { (state[s] == OPEN || (state[s] == IDLE && may(s))) && !ended[s] && clientLives(c) ->
       state[s] = RUN; printf("life %d has a statement running\n", c) }
  :: d_step { state[s] == RUN -> committed(c, role[s]); state[s] = IDLE; printf("life %d, epoch %d, commits\n", c, epoch[role[s]]) }
#ifdef PREPARED
  :: d_step { state[s] == RUN && !has(prepared, role[s]) -> prepared = prepared | one(role[s]); state[s] = IDLE;
       printf("life %d prepares a transaction\n", c) }
  /* COMMIT PREPARED looks at no right: the owner always may. */
  :: d_step { state[s] == IDLE && !ended[s] && has(prepared, role[s]) -> committed(c, role[s]); prepared = prepared & ~one(role[s]);
       printf("life %d commits what it had prepared\n", c) }
#endif
  :: d_step { state[s] == IDLE || state[s] == OPEN || (state[s] == RUN && ended[s]) -> close(s); printf("a session of life %d ends\n", c) }
  od
}

inline closeAll() {
  s = 0;
  do
  :: s < SESSIONS -> close(s); s++
  :: else -> break
  od;
  s = 0
}

#ifdef FAILOVER
proctype standby() {
  byte s;
  do
  :: d_step { standbyRow != row -> ship(); printf("the standby follows\n") }
  :: break
  od;
  atomic {
    row = standbyRow; members = standbyMembers; logins = standbyLogins; roles = standbyRoles;
#ifdef SURVIVING
    worked = standbyWorked;
#endif
    closeAll();
    printf("the primary dies; the row is that of life %d\n", row)
  }
}
#endif

#if defined(RESTORE) && !defined(FAULTS)
proctype backup() {
  byte copy, s;
  copy = row;
  d_step { restored = true; row = copy; closeAll(); printf("the database is restored; the row is that of life %d\n", row) }
}
#endif

#ifdef PREPARED
proctype administrator() {
  do
  :: d_step { prepared != 0 -> prepared = 0; printf("prepared transactions are rolled back\n") }
  od
}
#endif
