/*
 * notify.c
 *		NOTIFY apikey, after the commit of what an event tells of.
 *
 * In the changing transaction itself a NOTIFY would make commits wait for one
 * another, and let any session that listens hold them up.  So what a
 * transaction has written is handed to the worker when it has committed.  It
 * is a hint: where the queue is full, or after a crash, some do not come.  Then
 * those who have the most in it give way, each with its newest: whoever does so
 * much that the worker cannot tell all of it has its own left out, no others'.
 *
 * Of a transaction that is prepared nothing is told: before its commit whoever
 * is told would look in vain, and nobody tells us of that.
 */
#include "postgres.h"

#include "commands/async.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events_internal.h"

#define CHANNEL			"apikey"
#define QUEUE_MAX		4096
#define SENT_AT_ONCE	256

/* An event, as it is told. */
typedef struct Notice
{
	Oid			database;
	Oid			role;			/* who has done it */
	ApikeyEvent event;
	int64		id;
	TimestampTz at;
} Notice;

/* An event of this transaction. */
typedef struct Pending
{
	ApikeyNoted noted;
	Notice		notice;
} Pending;

typedef struct Queue
{
	LWLock	   *lock;			/* guards the rest; held for a look through it */
	int			count;
	int64		dropped;		/* that could not be told */
	TimestampTz dropped_at;		/* the last time; 0: never */
	Notice		notices[QUEUE_MAX];
} Queue;

static Queue *queue = NULL;
static int	pending_beyond = 0; /* of this transaction, that find no room */

static void
make_memory(void)
{
	queue->lock = apikey_memory_lock(APIKEY_MEMORY_NOTICES);
}

const ApikeyMemoryPart apikey_notify_memory = {
	APIKEY_MEMORY_STRUCT("apikey notices", queue),
	.make = make_memory,
	.forget = apikey_notify_drop
};

/* So many are not told; the lock is held, exclusively. */
static void
drop(int count)
{
	if (count == 0)
		return;
	queue->dropped += count;
	queue->dropped_at = GetCurrentTimestamp();
}

/* An event has been written: to be told when it is committed. */
void
apikey_notify_event(ApikeyEvent event, int64 id, TimestampTz at)
{
	Pending    *new;

	if (!apikey_notify || queue == NULL)
		return;
	/* More than the queue holds would not be told. */
	if (apikey_notify_transaction.count >= QUEUE_MAX)
	{
		pending_beyond++;
		return;
	}
	new = apikey_transaction_note(&apikey_notify_transaction);
	new->notice.database = MyDatabaseId;
	new->notice.role = GetUserId();
	new->notice.event = event;
	new->notice.id = id;
	new->notice.at = at;
}

static uint64
sender_of(const Notice *notice)
{
	return (uint64) notice->database << 32 | notice->role;
}

static int
compare_senders(const void *one, const void *other)
{
	uint64		a = *(const uint64 *) one;
	uint64		b = *(const uint64 *) other;

	return a < b ? -1 : a > b;
}

/* How many find room if nobody has more than so many; senders are sorted. */
static int
room_taken(const uint64 *senders, int count, int most)
{
	int			taken = 0;
	int			of_sender = 0;

	for (int i = 0; i < count; i++)
	{
		of_sender = i > 0 && senders[i] == senders[i - 1] ? of_sender + 1 : 1;
		taken += of_sender <= most;
	}
	return taken;
}

/* What of the queue, and of what is to come into it, is each sender's. */
static uint64 senders[2 * QUEUE_MAX];	/* too large for a stack */
static int	kept_of[2 * QUEUE_MAX];	/* where the first of a sender stands */

/* Has a sender not yet so many?  It has one more then. */
static bool
keep(const Notice *notice, int count, int most)
{
	uint64		sender = sender_of(notice);
	int			low = 0;
	int			high = count;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (senders[middle] < sender)
			low = middle + 1;
		else
			high = middle;
	}
	return kept_of[low]++ < most;
}

/* Puts into the queue, which is too small for all, what is each sender's part. */
static void
enqueue_shares(const Pending *pending, int pending_count)
{
	int			before = queue->count;
	int			count = before + pending_count;
	int			most = 0;

	for (int i = 0; i < count; i++)
	{
		senders[i] = sender_of(i < before ? &queue->notices[i] :
							   &pending[i - before].notice);
		kept_of[i] = 0;
	}
	qsort(senders, count, sizeof(uint64), compare_senders);
	for (int step = QUEUE_MAX; step > 0; step /= 2)
	{
		if (room_taken(senders, count, most + step) <= QUEUE_MAX)
			most += step;
	}
	queue->count = 0;
	for (int i = 0; i < count && queue->count < QUEUE_MAX; i++)
	{
		Notice		notice = i < before ? queue->notices[i] :
			pending[i - before].notice;

		if (keep(&notice, count, most))
			queue->notices[queue->count++] = notice;
	}
	drop(count - queue->count);
}

/* Hands over what the transaction has committed. */
static void
enqueue_pending(void)
{
	const Pending *pending = (const Pending *) apikey_notify_transaction.noted;
	int			count = apikey_notify_transaction.count;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	if (queue->count + count > QUEUE_MAX)
		enqueue_shares(pending, count);
	else
	{
		for (int i = 0; i < count; i++)
			queue->notices[queue->count++] = pending[i].notice;
	}
	drop(pending_beyond);
	LWLockRelease(queue->lock);
	apikey_seat_call(MyDatabaseId);
}

static void
on_transaction_end(ApikeyEnd end)
{
	if (end == APIKEY_END_COMMIT && apikey_notify_transaction.count > 0)
		enqueue_pending();
	pending_beyond = 0;
}

ApikeyTransactionPart apikey_notify_transaction = {
	.size = sizeof(Pending),
	.end = on_transaction_end
};

/* The databases of what is to be told. */
List *
apikey_notify_databases(void)
{
	Oid			last = InvalidOid;
	List	   *databases = NIL;

	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < queue->count; i++)
	{
		if (queue->notices[i].database != last)
			databases = list_append_unique_oid(databases,
											   queue->notices[i].database);
		last = queue->notices[i].database;
	}
	LWLockRelease(queue->lock);
	return databases;
}

/* Is something to be told in a database? */
bool
apikey_notify_waiting(Oid database)
{
	bool		waiting = false;

	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < queue->count && !waiting; i++)
		waiting = queue->notices[i].database == database;
	LWLockRelease(queue->lock);
	return waiting;
}

/* Takes what is to be told in a database, so many at most; NULL for none. */
static int
take(Oid database, Notice *taken)
{
	int			count = 0;
	int			kept = 0;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	for (int i = 0; i < queue->count; i++)
	{
		if (queue->notices[i].database == database &&
			(taken == NULL || count < SENT_AT_ONCE))
		{
			if (taken != NULL)
				taken[count] = queue->notices[i];
			count++;
		}
		else
			queue->notices[kept++] = queue->notices[i];
	}
	queue->count = kept;
	if (taken == NULL)
		drop(count);
	LWLockRelease(queue->lock);
	return count;
}

/* Drops what is to be told in a database that no worker can reach. */
void
apikey_notify_drop(Oid database)
{
	if (queue != NULL)
		take(database, NULL);
}

static void
send(const Notice *taken, int count)
{
	for (int i = 0; i < count; i++)
		Async_Notify(CHANNEL,
					 psprintf("{\"event\": \"%s\", \"at\": %s, \"event_id\": " INT64_FORMAT "}",
							  apikey_event_name(taken[i].event),
							  apikey_json_time(taken[i].at), taken[i].id));
	apikey_step_commit();
}

/*
 * For the worker: tells what is to be told.  Anybody can fill the server's queue:
 * what finds no room there is not told.  It is taken when all else is there that
 * somebody may keep us from; for a database without our tables it is dropped.
 */
void
apikey_notify_send(void)
{
	Notice		taken[SENT_AT_ONCE];
	int			count;

	if (!apikey_step_begin())
	{
		apikey_notify_drop(MyDatabaseId);
		return;
	}
	count = take(MyDatabaseId, taken);
	PG_TRY();
	{
		send(taken, count);
	}
	PG_CATCH();
	{
		LWLockAcquire(queue->lock, LW_EXCLUSIVE);
		drop(count);
		LWLockRelease(queue->lock);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* For apikey_health(): what there is to notify, and what was not. */
void
apikey_notify_read(ApikeyNotices *notices)
{
	LWLockAcquire(queue->lock, LW_SHARED);
	notices->waiting = 0;
	for (int i = 0; i < queue->count; i++)
		notices->waiting += queue->notices[i].database == MyDatabaseId;
	notices->dropped = queue->dropped;
	notices->dropped_at = queue->dropped_at;
	LWLockRelease(queue->lock);
}
