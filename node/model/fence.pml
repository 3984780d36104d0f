/*
 * The fence, with raft assumed broken: is it true that only the fence row and the roles keep the promise?
 *
 * Grants come from nowhere. Every life takes its epoch whenever it likes, in any order, two of them the same one, and may
 * stop for ever between any two steps (it need not be scheduled); its sessions at the server go on. A life is one process
 * life of the job and the daemon's work for it: take, drain, adopt, credentials, the end of its tree, release. Lives 0 and
 * 2 are of node a, 1 and 3 of node b. E0 to E3 are their epochs.
 */
#ifndef LIVES
#define LIVES 3
#endif
#ifndef PER
#define PER 1
#endif
#ifndef E0
#define E0 1
#define E1 2
#define E2 3
#define E3 4
#endif
#define nodeMates(c) ((c) % 2 == 0 -> 5 : 10)

#include "server.pml"

proctype life(byte c) {
  byte s;
  bit left, first, again;
#ifdef OLD
  byte suspects;
#endif

taking:
#if defined(M_EARLY_TERMINATE)
  atomic { signal(c) };  /* inside the transaction: what it changes is not seen by others yet */
#endif
  if
  :: d_step { mayTake(c) -> take(c); printf("life %d takes epoch %d\n", c, epoch[c]) };
#ifndef ASYNC
     if
     :: d_step { row == c -> ship() }  /* the commit waits for the standby */
     :: !again -> again = true; printf("life %d does not get the answer\n", c); goto taking
     :: row != c -> goto fenced
     fi
#endif
  :: d_step { again && holds(c) ->     /* asked again: it writes, so it waits for the standby again */
#ifndef M_NOT_SHIPPED
       ship();
#endif
       printf("life %d has epoch %d already\n", c, epoch[c]) }
  :: !mayTake(c) && !(again && holds(c)) -> goto fenced
  fi;

#if defined(M_EARLY_CREDENTIALS)
  d_step { begun = begun | one(c); printf("life %d starts its job\n", c) };
#endif
#if defined(M_EARLY_ADOPT)
  if
  :: d_step { holds(c) -> committed(c, c); printf("life %d adopts\n", c) }
  :: !holds(c) -> goto fenced
  fi;
#endif
#if !defined(M_EARLY_TERMINATE) && !defined(M_NO_DRAIN)
  first = true;
looking:
  if
  :: row == c
  :: row != c -> goto fenced
  fi;
#if defined(OLD) && !defined(M_LIST_FIRST) && !defined(M_LOGINS_IGNORED)
  d_step { underWay() };
#endif
  d_step { look(c) };
#ifndef M_NO_SIGNAL
  d_step { signal(c) };
#endif
#if defined(OLD) && defined(M_LIST_FIRST)
  d_step { underWay() };
#endif
  first = false;
  if
#ifdef OLD
  :: left || suspects -> goto looking
#elif !defined(M_NO_WAIT)
  :: left -> goto looking
#endif
  :: else
  fi;
#endif

  /* Adoption is a commit of this epoch, with its role, in a transaction that holds the row. */
  if
#if defined(M_ADOPT_UNCHECKED)
  :: d_step { committed(c, c); printf("life %d adopts\n", c) }
#else
  :: d_step { holds(c) -> committed(c, c); printf("life %d adopts\n", c) }
  :: !holds(c) -> goto fenced
#endif
  fi;
  d_step { begun = begun | one(c); printf("life %d starts its job\n", c) };

  d_step { over = over | one(c); printf("the job of life %d has ended\n", c) };
  if
  :: d_step { row == c -> release(c); printf("life %d releases epoch %d\n", c, epoch[c]) }
  :: row != c
  fi;
fenced:
  skip
}

#if defined(M_RESUME)
/* A restarted daemon finds its node's row and goes on where the dead one was, beside what that has left. */
proctype resumed(byte c) {
  d_step { holds(c) && has(begun, c) -> printf("the restarted daemon of life %d starts its job again\n", c); must(I5, false) }
}
#endif

init {
  byte c, d, s;
  atomic {
    epoch[0] = E0; epoch[1] = E1;
#if LIVES > 2
    epoch[2] = E2;
#endif
#if LIVES > 3
    epoch[3] = E3;
#endif
    order();
    do
    :: c < LIVES -> run life(c); s = 0;
       do
       :: s < PER -> run session(c * PER + s, c); s++
       :: else -> break
       od;
       c++
    :: else -> break
    od;
#ifdef FAILOVER
    run standby();
#endif
#ifdef RESTORE
    run backup();
#endif
#ifdef PREPARED
    run administrator();
#endif
#ifdef M_RESUME
    run resumed(0);
#endif
    c = 0; s = 0
  }
}
