/*
 * Somebody is active, again and again: liveness, with raft as it should be and weak fairness.
 *
 * Two nodes, one granter (the raft leader, on the witness), the same server as in fence.pml. FAULTS faults hit nodes and
 * server; one node is always left that is able. Life c has epoch c + 1; the granter says which node it is of.
 */
#ifndef LIVES
#define LIVES 5
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#define PER 1
byte livesOf[2];  /* lives of each node */
byte nodeOf[LIVES];
#define nodeMates(c) livesOf[nodeOf[c]]

#define holder nodeOf[granted]

/* Of each node: is it off; does its daemon stand still; do the job's clients; is it cut off from the server. */
bit off[2], still[2], coldJob[2], blind[2];
#define clientLives(c) (has(begun & ~over, c) && !coldJob[nodeOf[c]] && !blind[nodeOf[c]])
#define moves(n) (!off[n] && !still[n])
#define able(n) (moves(n) && !blind[n])

#include "server.pml"

/* The log: the newest grant, and whether the daemon it was given to is the one that runs: a restarted one is another life. */
byte granted = NOBODY;
bit released, mine[2];
bit crashed[2];         /* since the daemon last looked */
bit standby[2] = true;  /* the daemon waits for a grant */
bit running[2];         /* the job runs */
bit exited[2];          /* the job has ended by itself */
bit locked;             /* somebody's idle transaction has the fence row */
byte faults;

#if defined(M_NO_UNBLOCK)
#define rowFree !locked
#else
#define rowFree true
#endif

/* A takeover is over when the log is beyond it, or its daemon has died. */
#define dropped(n, c) (crashed[n] || (moves(n) && granted != c))

proctype daemon(byte n) {
  byte c = NOBODY, s;
  bit left, first, told;
#ifdef OLD
  byte suspects;
#endif
waiting:
  atomic { granted != NOBODY && holder == n && mine[n] && !released && granted != c && moves(n) ->
    c = granted; standby[n] = false; crashed[n] = false };
taking:
  if
  :: d_step { able(n) && mayTake(c) && rowFree -> take(c); locked = false; printf("node %d takes epoch %d\n", n, epoch[c]) }
  :: able(n) && holds(c)
  :: able(n) && !(rowLower(c) && rolesLower(c)) && !holds(c) -> goto ending
  :: dropped(n, c) -> goto ending
  fi;
  first = true;
looking:
  if
  :: able(n) && row == c ->
     d_step {
#ifdef OLD
       underWay();
#endif
       look(c);
#ifndef M_NO_SIGNAL
       signal(c);
#endif
       first = false
     }
  :: able(n) && row != c -> goto ending
  :: dropped(n, c) -> goto ending
  fi;
  if
#ifdef OLD
  :: left || suspects -> goto looking
#else
  :: left -> goto looking
#endif
  :: else
  fi;
  if
  :: d_step { able(n) && holds(c) && granted == c && !crashed[n] -> begun = begun | one(c); running[n] = true; printf("node %d is active\n", n) }
  :: able(n) && !holds(c) -> goto ending
  :: dropped(n, c) -> goto ending
  fi;
  /* Active: until it is fenced, or dies, or is passed over and cannot see the fence. */
  if
  :: able(n) && row != c
  :: crashed[n]
  :: moves(n) && blind[n] && granted != c
  :: moves(n) && exited[n]
  fi;
ending:
  atomic { moves(n) -> over = over | one(c); running[n] = false; exited[n] = false; left = false; first = false; told = false;
    printf("node %d: the tree of epoch %d is empty\n", n, epoch[c]) };
  /* It is told until the log says so: the first time may be lost. */
  do
  :: atomic { mine[n] && granted == c && !released && moves(n) ->
       if
       :: !told -> told = true
#ifndef M_RELEASE_ONCE
       :: told -> released = true; printf("node %d releases epoch %d\n", n, epoch[c])
#endif
       :: released = true; printf("node %d releases epoch %d\n", n, epoch[c])
       fi }
  :: !(mine[n] && granted == c && !released) -> break
#ifdef M_RELEASE_ONCE
  :: told -> break
#endif
  od;
  atomic { standby[n] = true; told = false };
  goto waiting
}

/* What the leader holds against a holder. */
#if defined(M_REBORN_TRUSTED)
#define reborn(n) off[n]
#else
#define reborn(n) (!mine[n])
#endif
#if defined(M_BLIND_TRUSTED)
#define lost(n) (off[n] || still[n])
#else
#define lost(n) (off[n] || still[n] || blind[n])
#endif
#define suspected(n) (reborn(n) || lost(n))
#define wanted (granted == NOBODY || released || suspected(holder))
#define eligible(n) (able(n) && standby[n] && !(granted != NOBODY && holder == n && mine[n] && !released))

inline grant(n) {
  next = (granted == NOBODY -> 0 : granted + 1);
  do
  :: has(roles, next) || (roles >> next) != 0 -> next++
  :: else -> break
  od;
  assert(next < LIVES);  /* the bound of the model, never met */
  granted = next; released = false; nodeOf[next] = n; livesOf[n] = livesOf[n] | one(next); mine[n] = true;
  printf("epoch %d is granted to node %d\n", epoch[next], n); next = 0
}

proctype granter() {
  byte next;
  do
  :: atomic { wanted && eligible(0) -> grant(0) }
  :: atomic { wanted && eligible(1) -> grant(1) }
  od
}

#define spare(n) (faults < FAULTS && able(1 - n))
inline die(n) {
  off[n] = true; mine[n] = false; crashed[n] = true; running[n] = false; over = over | (begun & livesOf[n]); still[n] = false; coldJob[n] = false; exited[n] = false;
  faults++; printf("node %d dies\n", n)
}
/* What befalls a node. Doing nothing is always one of the choices, so fairness never asks for a fault or for its end. */
proctype weather(byte n) {
  do
  :: faults <= FAULTS
#ifndef SERVER_ONLY
  :: atomic { spare(n) && !off[n] -> die(n) }
  :: d_step { spare(n) && !off[n] && !still[n] -> still[n] = true; coldJob[n] = true; faults++; printf("node %d freezes\n", n) }
  :: d_step { spare(n) && !off[n] && !still[n] -> still[n] = true; faults++; printf("the daemon of node %d freezes\n", n) }
  :: d_step { spare(n) && !blind[n] -> blind[n] = true; faults++; printf("node %d loses the metastore\n", n) }
  :: d_step { faults < FAULTS && running[n] && !exited[n] -> exited[n] = true; over = over | (begun & livesOf[n]); faults++; printf("the job of node %d ends\n", n) }
  :: d_step { off[n] -> off[n] = false; printf("node %d is back\n", n) }
  :: d_step { still[n] -> still[n] = false; coldJob[n] = false; printf("node %d thaws\n", n) }
  :: d_step { blind[n] -> blind[n] = false; printf("node %d sees the metastore\n", n) }
#endif
  od
}

/* What befalls the server. */
proctype trouble() {
  byte s;
#ifdef RESTORE
  byte copy = NOBODY;
#endif
  do
  :: faults <= FAULTS
  :: d_step { faults < FAULTS && !locked -> locked = true; faults++; printf("somebody locks the row\n") }
  :: d_step { faults < FAULTS -> closeAll(); faults++; printf("the server restarts\n") }
#ifdef RESTORE
  :: d_step { faults < FAULTS && !restored -> restored = true; row = copy; closeAll(); faults++; printf("the database is restored\n") }
  :: d_step { copy == NOBODY && row != NOBODY && !restored -> copy = row }
#endif
  od
}

#define serves(n) (running[n] && able(n) && row != NOBODY && nodeOf[row] == n && !exited[n] && has(begun & ~over, row) && holds(row))
#define served (serves(0) || serves(1))
ltl somebodyServes { []<> served }

init {
  byte c, d;
  atomic {
    do
    :: c < LIVES -> epoch[c] = c + 1; c++
    :: else -> break
    od;
    order();
    c = 0;
    do
    :: c < LIVES -> run session(c, c); c++
    :: else -> break
    od;
    run daemon(0); run daemon(1); run granter(); run weather(0); run weather(1); run trouble()
  }
}
