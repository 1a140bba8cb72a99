/*
 * health.h
 *		What the checks of apikey_health tell.
 */
#ifndef APIKEY_HEALTH_H
#define APIKEY_HEALTH_H

typedef enum ApikeySeverity
{
	APIKEY_HEALTH_OK,
	APIKEY_HEALTH_WARN,
	APIKEY_HEALTH_CRITICAL
} ApikeySeverity;

/* What a check tells. */
typedef struct ApikeyFinding
{
	ApikeySeverity severity;
	char	   *value;
	const char *hint;			/* of what is not ok; or advice */
} ApikeyFinding;

static inline void
apikey_health_find(ApikeyFinding *finding, ApikeySeverity severity, char *value,
				   const char *hint)
{
	finding->severity = severity;
	finding->value = value;
	finding->hint = hint;
}

/* health_subjects.c */
extern void apikey_check_subjects(ApikeyFinding *finding);

/* health_tables.c */
extern void apikey_check_indexes(ApikeyFinding *finding);
extern void apikey_check_triggers(ApikeyFinding *finding);
extern void apikey_check_roles(ApikeyFinding *finding);
extern void apikey_check_citus(ApikeyFinding *finding);
extern void apikey_check_publications(ApikeyFinding *finding);

#endif							/* APIKEY_HEALTH_H */
