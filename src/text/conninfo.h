/*
 * conninfo.h
 *		What may stand in a setting that names a server.
 */
#ifndef APIKEY_CONNINFO_H
#define APIKEY_CONNINFO_H

typedef enum ApikeyConninfo
{
	APIKEY_CONNINFO_OK,
	APIKEY_CONNINFO_BROKEN,		/* libpq would not read it */
	APIKEY_CONNINFO_SECRET		/* there is a password in it */
} ApikeyConninfo;

/* conninfo.c */
extern ApikeyConninfo apikey_conninfo_check(const char *conninfo);

#endif							/* APIKEY_CONNINFO_H */
