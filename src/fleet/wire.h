/*
 * wire.h
 *		What the library "apikey" needs of libpq, as a table of functions.
 *
 * libpq is in a library of its own, "apikey_fleet": no session loads it, only
 * the one worker that speaks to the primary.  Nothing here waits or raises.
 */
#ifndef APIKEY_WIRE_H
#define APIKEY_WIRE_H

/* A connection, and what a statement has answered: libpq's own. */
typedef struct pg_conn ApikeyWireConn;
typedef struct pg_result ApikeyWireAnswer;

/* Where a connection leads. */
typedef struct ApikeyWireTarget
{
	const char *conninfo;
	const char *database;		/* unless conninfo names one that counts */
	bool		own_database;	/* it does */
	unsigned	attempt;		/* of several hosts, each is tried in turn */
	int			hosts;			/* how many those are */
	int			timeout;		/* milliseconds, for a statement there */
} ApikeyWireTarget;

typedef enum ApikeyWireStep
{
	APIKEY_WIRE_FAILED,
	APIKEY_WIRE_READS,			/* once the socket can be read, another step */
	APIKEY_WIRE_WRITES,			/* once it can be written */
	APIKEY_WIRE_DONE
} ApikeyWireStep;

typedef struct ApikeyWire
{
	/* Begins to connect; NULL for no memory or what is no conninfo. */
	ApikeyWireConn *(*connect) (const ApikeyWireTarget *target);
	/* Goes on, once the socket is as it was waited for; else the same again. */
	ApikeyWireStep (*connect_step) (ApikeyWireConn *conn, ApikeyWireStep waited);
	/* Begins a statement; false where the connection is broken. */
	bool		(*ask) (ApikeyWireConn *conn, const char *query, int count,
						const char *const *values);
	ApikeyWireStep (*ask_step) (ApikeyWireConn *conn, ApikeyWireAnswer **answer);
	int			(*socket) (ApikeyWireConn *conn);
	/* That of the database there, in which texts are sent and come; NULL: unknown. */
	const char *(*encoding) (const ApikeyWireConn *conn);
	void		(*close) (ApikeyWireConn *conn);

	/* Of an answer: NULL where it has rows, else the SQLSTATE of its error. */
	const char *(*error_code) (const ApikeyWireAnswer *answer);
	/* Is that of the statement alone: nothing was done, and the connection goes on? */
	bool		(*goes_on) (const ApikeyWireConn *conn,
							const ApikeyWireAnswer *answer);
	int			(*rows) (const ApikeyWireAnswer *answer);
	/* NULL for null. */
	const char *(*value) (const ApikeyWireAnswer *answer, int row, int column);
	void		(*free) (ApikeyWireAnswer *answer);

	/* What an error tells beside its message; NULL for nothing. */
	const char *(*detail) (const ApikeyWireAnswer *answer);

	/* Why something failed, in a buffer; of an answer, or of a connection. */
	void		(*tell) (ApikeyWireConn *conn, const ApikeyWireAnswer *answer,
						 char *buffer, size_t size);
	/* How many hosts a conninfo names, and whether a database. */
	int			(*hosts) (const char *conninfo, bool *database);
} ApikeyWire;

typedef const ApikeyWire *(*ApikeyWireGet) (void);

#endif							/* APIKEY_WIRE_H */
