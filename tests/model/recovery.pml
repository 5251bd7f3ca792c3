/*
 * Sessions and recovery: what becomes of a job when broker, workers, clients and links die at any
 * moment, for spin.  run.py checks it, and that the checks can fail.
 *
 * A job is one task; its number is what workers know it by, its content what the client meant.  The
 * content travels with nothing: it is a ghost that the assertions look at, so a partition of a job whose
 * number was given twice would show.
 *
 *   safety    a partition, a completion or a result never belongs to another job than it is taken for;
 *             a submit that was repeated is one job
 *   liveness  the last client gets its result, when faults come to an end
 *
 * The rules that make it so, each of which can be taken away:
 *   EAGER     a job runs before its submit is durable
 *   FORGET    the submit is acknowledged before it is durable
 */
#ifndef BROKER_DEATHS
#define BROKER_DEATHS 1
#endif
#ifndef WORKER_DEATHS
#define WORKER_DEATHS 1
#endif
#ifndef CLIENT_DEATHS
#define CLIENT_DEATHS 1
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#define PEERS 3 /* 0: the client; then the workers */
#define JOBS 4  /* numbers 1.. */
#define NOBODY 0

mtype = { HELLO, WELCOME, SUBMIT, ACCEPTED, ATTACH, RESULT, LOST, GONE, HOLDING, ASSIGN, DONE, RELEASE };
mtype:task = { READY, ASSIGNED, HELD };

chan up[PEERS] = [4] of { mtype, byte, byte };   /* kind, session, number or content */
chan down[PEERS] = [6] of { mtype, byte, byte };

/* The journal: what of the broker is still there after its death. */
byte j_content[JOBS];
byte j_last;

/* The broker. */
byte b_session[PEERS];  /* 0: none */
byte b_content[JOBS];   /* 0: no such job */
mtype:task b_task[JOBS];
byte b_owner[JOBS];
bool b_attached[JOBS], b_told[JOBS];
byte b_last;            /* number given last */
byte b_pending;         /* content of a submit that is not yet durable */
byte b_pending_number, b_pending_session; /* under which number, and who is told */
byte sessions;          /* numbers of sessions: random in truth, never twice */

/* The client that is there now: contents count up, one a client. */
byte c_session, c_content = 1, c_number;
bool finished;
bool b_broken[PEERS];   /* the broker's end of the link has noticed that it was cut */

/* Workers. */
byte w_session[PEERS];
byte w_running[PEERS];            /* number */
byte w_content[PEERS];            /* ... and its content, when it was given */
byte w_holds[PEERS * JOBS];       /* content of the partition; 0: none */

byte broker_deaths = BROKER_DEATHS, worker_deaths = WORKER_DEATHS, client_deaths = CLIENT_DEATHS, cuts = CUTS;

#define HOLDS(w, n) w_holds[(w) * JOBS + (n)]
#define FRESH(s, p) (s == b_session[p])

inline flush(p)
{
    do
    :: nempty(up[p]) -> up[p]?_, _, _
    :: nempty(down[p]) -> down[p]?_, _, _
    :: empty(up[p]) && empty(down[p]) -> break
    od
}

/* What the broker does when a session of its is over. */
inline lose(p)
{
    b_session[p] = 0;
    if
    :: p == 0 ->
        k = 1;
        do
        :: k < JOBS -> b_attached[k] = false; k++
        :: else -> break
        od
    :: else ->
        k = 1;
        do
        :: k < JOBS ->
            if
            :: b_content[k] != 0 && b_owner[k] == p -> b_owner[k] = NOBODY; b_task[k] = READY; b_told[k] = false
            :: else
            fi;
            k++
        :: else -> break
        od
    fi;
    k = 0
}

/* A job enters the scheduler under a number. */
inline enter(number, content)
{
    b_content[number] = content;
    b_task[number] = READY;
    b_owner[number] = NOBODY;
    b_attached[number] = b_session[0] != 0;
    b_told[number] = false
}

inline commit()
{
    j_last = b_pending_number;
    j_content[b_pending_number] = b_pending;
    b_pending = 0;
    b_pending_number = 0;
    b_pending_session = 0
}

/* A worker says that it has made this, or has it. */
inline adopt(p, n)
{
    if
    :: b_content[n] == 0 -> down[p]!RELEASE, b_session[p], n
    :: b_content[n] != 0 && (b_task[n] != HELD || b_owner[n] == p) ->
        assert(HOLDS(p, n) == 0 || HOLDS(p, n) == b_content[n]);
        b_task[n] = HELD;
        b_owner[n] = p
    :: b_content[n] != 0 && b_task[n] == HELD && b_owner[n] != p -> down[p]!RELEASE, b_session[p], n
    fi
}

inline number_of(content)
{
    n = 1;
    do
    :: n < JOBS && b_content[n] != content -> n++
    :: n == JOBS || b_content[n] == content -> break
    od
}

inline hello(p)
{
    lose(p);
    sessions++;
    b_session[p] = sessions;
    down[p]!WELCOME, sessions, 0
}

#define CURRENT(s, p) (b_session[p] != 0 && s == b_session[p])

inline worker_says(w)
{
    if
    :: up[w]?HELLO, _, _ -> hello(w)
    :: up[w]?HOLDING, s, x ->
        if
        :: CURRENT(s, w) -> adopt(w, x)
        :: else
        fi
    :: up[w]?DONE, s, x ->
        if
        :: CURRENT(s, w) -> adopt(w, x)
        :: else
        fi
    fi;
    s = 0;
    x = 0
}

#define CAN_RUN(w, n) (b_session[w] != 0 && b_content[n] != 0 && b_task[n] == READY && nfull(down[w]))

inline assign(w, job)
{
    b_task[job] = ASSIGNED;
    b_owner[job] = w;
    down[w]!ASSIGN, b_session[w], job
}

#define CAN_TELL(n) (b_session[0] != 0 && b_content[n] != 0 && b_task[n] == HELD && b_attached[n] && !b_told[n] && nfull(down[0]))

inline tell(job)
{
    b_told[job] = true;
    down[0]!RESULT, b_session[0], job
}

active proctype broker()
{
    byte n, s, x, k;
    do
    :: atomic { nempty(up[0]) && nfull(down[0]) ->
        if
        :: up[0]?HELLO, _, _ -> hello(0)
        :: up[0]?SUBMIT, s, x ->
            if
            :: !CURRENT(s, 0)
            :: else ->
                number_of(x);
                if
                :: n < JOBS -> b_attached[n] = true; b_told[n] = false; down[0]!ACCEPTED, b_session[0], n
                :: n == JOBS && b_pending == x -> b_pending_session = s /* it is being written: the acknowledgement comes */
                :: n == JOBS && b_pending == 0 ->
                    b_last++;
                    assert(b_last < JOBS);
                    b_pending = x;
                    b_pending_number = b_last;
                    b_pending_session = s;
#ifdef EAGER
                    enter(b_last, x);
#endif
#ifdef FORGET
                    enter(b_last, x);
                    down[0]!ACCEPTED, b_session[0], b_last
#endif
                :: n == JOBS && b_pending != 0 && b_pending != x -> up[0]!SUBMIT, s, x /* behind the other one */
                fi
            fi
        :: up[0]?ATTACH, s, x ->
            if
            :: !CURRENT(s, 0)
            :: CURRENT(s, 0) && b_content[x] == 0 -> down[0]!GONE, b_session[0], x
            :: CURRENT(s, 0) && b_content[x] != 0 -> b_attached[x] = true; b_told[x] = false
            fi
        :: up[0]?LOST, s, x -> /* it could not be fetched: it is made again, and told then */
            if
            :: CURRENT(s, 0) && b_content[x] != 0 && b_told[x] ->
                b_told[x] = false;
                if
                :: b_task[x] == HELD && HOLDS(b_owner[x], x) == 0 -> b_task[x] = READY; b_owner[x] = NOBODY
                :: else
                fi
            :: else
            fi
        fi; n = 0; s = 0; x = 0 }
    :: atomic { b_pending != 0 && nfull(down[0]) -> /* durable now */
#ifndef FORGET
#ifndef EAGER
        enter(b_pending_number, b_pending);
#endif
        if
        :: b_session[0] != 0 && b_session[0] == b_pending_session -> down[0]!ACCEPTED, b_session[0], b_pending_number
        :: else
        fi;
#endif
        commit() }
    :: atomic { nempty(up[1]) && nfull(down[1]) -> worker_says(1) }
    :: atomic { nempty(up[2]) && nfull(down[2]) -> worker_says(2) }
    :: atomic { CAN_RUN(1, 1) -> assign(1, 1) }
    :: atomic { CAN_RUN(1, 2) -> assign(1, 2) }
    :: atomic { CAN_RUN(1, 3) -> assign(1, 3) }
    :: atomic { CAN_RUN(2, 1) -> assign(2, 1) }
    :: atomic { CAN_RUN(2, 2) -> assign(2, 2) }
    :: atomic { CAN_RUN(2, 3) -> assign(2, 3) }
    :: atomic { CAN_TELL(1) -> tell(1) }
    :: atomic { CAN_TELL(2) -> tell(2) }
    :: atomic { CAN_TELL(3) -> tell(3) }
    :: atomic { b_broken[0] -> b_broken[0] = false; lose(0) }
    :: atomic { b_broken[1] -> b_broken[1] = false; lose(1) }
    :: atomic { b_broken[2] -> b_broken[2] = false; lose(2) }
    :: atomic { /* nothing was heard for too long: the other end has another session, or none */
        b_session[0] != 0 && b_session[0] != c_session && empty(up[0]) && empty(down[0]) -> lose(0) }
    :: atomic { b_session[1] != 0 && b_session[1] != w_session[1] && empty(up[1]) && empty(down[1]) -> lose(1) }
    :: atomic { b_session[2] != 0 && b_session[2] != w_session[2] && empty(up[2]) && empty(down[2]) -> lose(2) }
    :: atomic { broker_deaths > 0 ->
        broker_deaths--;
        n = 0;
        do
        :: n < JOBS ->
            b_content[n] = j_content[n];
            b_task[n] = READY;
            b_owner[n] = NOBODY;
            b_attached[n] = false;
            b_told[n] = false;
            n++
        :: else -> break
        od;
        b_pending = 0;
        b_pending_number = 0;
        b_pending_session = 0;
        n = 0;
        do
        :: n < PEERS -> b_session[n] = 0; b_broken[n] = false; flush(n); n++
        :: else -> break
        od;
        n = 0 }
    :: finished -> break
    od
}

active proctype client()
{
    byte s, x, k;
    do
    :: atomic { c_session == 0 && nfull(up[0]) && empty(down[0]) && empty(up[0]) -> up[0]!HELLO, 0, 0 }
    :: atomic { nempty(down[0]) && nfull(up[0]) ->
        if
        :: down[0]?WELCOME, s, _ ->
            c_session = s;
            if
            :: c_number != 0 -> up[0]!ATTACH, s, c_number
            :: else -> up[0]!SUBMIT, s, c_content
            fi
        :: down[0]?ACCEPTED, s, x ->
            if
            :: s == c_session && s != 0 -> assert(c_number == 0 || c_number == x); c_number = x
            :: else
            fi
        :: down[0]?GONE, s, x -> assert(s != c_session || c_number != x) /* an acknowledged job is never lost */
        :: down[0]?RESULT, s, x ->
            if
            :: s == c_session && s != 0 && c_number == x ->
                assert(b_owner[x] == NOBODY || HOLDS(b_owner[x], x) == 0 || HOLDS(b_owner[x], x) == c_content);
                if
                :: b_owner[x] != NOBODY && HOLDS(b_owner[x], x) == c_content -> /* it is fetched there */
                    finished = true; break
                :: b_owner[x] == NOBODY || HOLDS(b_owner[x], x) != c_content -> up[0]!LOST, s, x
                fi
            :: else
            fi
        fi; s = 0; x = 0 }
    :: atomic { c_session != 0 && c_session != b_session[0] && empty(up[0]) && empty(down[0]) -> c_session = 0 }
    :: atomic { client_deaths > 0 -> /* another client comes, with another job */
        client_deaths--;
        c_session = 0;
        c_number = 0;
        c_content++;
        k = 0;
        do
        :: nempty(down[0]) -> down[0]?_, _, _
        :: nempty(up[0]) -> up[0]?_, _, _
        :: empty(down[0]) && empty(up[0]) -> break
        od }
    od
}

proctype worker(byte w)
{
    byte s, x;
    do
    :: atomic { w_session[w] == 0 && nfull(up[w]) && empty(down[w]) && empty(up[w]) -> up[w]!HELLO, 0, 0 }
    :: atomic { nempty(down[w]) && len(up[w]) <= 1 && w_running[w] == 0 -> /* what comes while it runs waits */
        if
        :: down[w]?WELCOME, s, _ ->
            w_session[w] = s;
            x = 1; /* at most what a channel takes: jobs are few */
            do
            :: x < JOBS && HOLDS(w, x) != 0 -> up[w]!HOLDING, s, x; x++
            :: x < JOBS && HOLDS(w, x) == 0 -> x++
            :: x == JOBS -> break
            od
        :: down[w]?ASSIGN, s, x ->
            if
            :: s == w_session[w] && s != 0 && HOLDS(w, x) != 0 -> up[w]!DONE, s, x /* it had made it before */
            :: s == w_session[w] && s != 0 && HOLDS(w, x) == 0 -> w_running[w] = x; w_content[w] = b_content[x]
            :: else
            fi
        :: down[w]?RELEASE, s, x ->
            if
            :: s == w_session[w] && s != 0 -> HOLDS(w, x) = 0
            :: else
            fi
        fi; s = 0; x = 0 }
    :: atomic { w_running[w] != 0 && nfull(up[w]) -> /* it ends, whoever is there to hear of it */
        HOLDS(w, w_running[w]) = w_content[w];
        if
        :: w_session[w] != 0 -> up[w]!DONE, w_session[w], w_running[w]
        :: else
        fi;
        w_running[w] = 0;
        w_content[w] = 0 }
    :: atomic { w_session[w] != 0 && w_session[w] != b_session[w] && empty(up[w]) && empty(down[w]) -> w_session[w] = 0 }
    :: atomic { worker_deaths > 0 ->
        worker_deaths--;
        w_session[w] = 0;
        w_running[w] = 0;
        w_content[w] = 0;
        x = 0;
        do
        :: x < JOBS -> HOLDS(w, x) = 0; x++
        :: else -> break
        od;
        do
        :: nempty(down[w]) -> down[w]?_, _, _
        :: nempty(up[w]) -> up[w]?_, _, _
        :: empty(down[w]) && empty(up[w]) -> break
        od;
        x = 0 }
    :: finished -> break
    od
}

/* Links lose all that is under way; the ends notice in their own time. */
active proctype network()
{
    byte p;
    do
    :: atomic { cuts > 0 ->
        cuts--;
        if :: p = 0 :: p = 1 :: p = 2 fi;
        flush(p);
        if
        :: b_broken[p] = true
        :: p == 0 -> c_session = 0
        :: p != 0 -> w_session[p] = 0
        fi;
        p = 0 }
    :: finished -> break
    :: cuts == 0 -> break
    od
}

init {
    atomic {
        run worker(1);
#if WORKERS > 1
        run worker(2)
#endif
    }
}

ltl ends { <> finished }
