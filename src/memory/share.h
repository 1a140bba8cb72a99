/*
 * share.h
 *		How a room that many take of is shared.
 */
#ifndef APIKEY_SHARE_H
#define APIKEY_SHARE_H

/*
 * Of a room that transactions hold as long as they are open, and of which so
 * much is held in all, in a database and by a role: may that role take one more?
 * Nothing of it can be called back, so each leaves room for who comes next: a
 * database takes no more than it leaves to others, and a role in it a fourth of
 * what its database may take yet.
 */
static inline bool
apikey_share_leaves_room(int room, int all, int of_database, int of_role)
{
	int			left = room - all - of_database;

	return left > 0 && of_role < Max(left / 4, 1);
}

#endif							/* APIKEY_SHARE_H */
