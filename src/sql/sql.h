/*
 * sql.h
 *		The door of sql/: the functions, triggers and views that SQL calls.
 */
#ifndef APIKEY_SQL_H
#define APIKEY_SQL_H

/* instead.c */
extern void apikey_instead_init(void);

#endif							/* APIKEY_SQL_H */
