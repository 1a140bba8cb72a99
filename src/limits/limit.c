/*
 * limit.c
 *		The rows of limits: what they may be, whose they are, and their state.
 *
 * A limit has one holder:
 *
 *		key							a key, or a key and its successors
 *		owner, subject				the personal keys of a role with that subject
 *		organization				the keys of all its projects
 *		organization, project		the keys of a project
 *		the last two with a subject	only those of that subject
 *
 * The state of a rate is in a slot of shared memory, under the limit's id, as
 * limiter.c has it.  A quota or balance is an account under the limit's id, as
 * account.c has it, and is leased and spent as credits are.  So a limit that
 * is replaced, or whose columns change, keeps its id, and what was spent.
 *
 * Whoever gives a holder another limit locks the holder first: there are so
 * many of them at most, and one of each unit, kind and period.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/limits_internal.h"

static const ApikeyColumn limit_columns[] = {
	[APIKEY_LIMIT_ID] = {"id", UUIDOID, false, true},
	[APIKEY_LIMIT_KEY] = {"key", UUIDOID, false},
	[APIKEY_LIMIT_ORGANIZATION] = {"organization", UUIDOID, false},
	[APIKEY_LIMIT_PROJECT] = {"project", UUIDOID, false},
	[APIKEY_LIMIT_OWNER] = {"owner", REGROLEOID, false},
	[APIKEY_LIMIT_OWNER_NAME] = {"owner_name", TEXTOID, false},
	[APIKEY_LIMIT_SUBJECT] = {"subject", TEXTOID, false},
	[APIKEY_LIMIT_UNIT] = {"unit", TEXTOID, false, true},
	[APIKEY_LIMIT_KIND] = {"kind", TEXTOID, false, true},
	[APIKEY_LIMIT_AMOUNT] = {"amount", INT8OID, true, true},
	[APIKEY_LIMIT_PERIOD] = {"period", INTERVALOID, true},
	[APIKEY_LIMIT_SHARED] = {"shared", BOOLOID, true, true},
	[APIKEY_LIMIT_OVERDRAFT] = {"overdraft", INT8OID, true, true},
	[APIKEY_LIMIT_STARTS_AT] = {"starts_at", TIMESTAMPTZOID, false, true},
	[APIKEY_LIMIT_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false, true},
	[APIKEY_LIMIT_CREATED_BY] = {"created_by", TEXTOID, false, true},
	[APIKEY_LIMIT_LIFETIME] = {"lifetime", INT8OID, false}
};
ApikeyTable apikey_limit_table = {
	.name = "apikey_limit",
	.taken = "the holder has a limit of this unit, kind and period",
	.argument = "period",
	.relabel = "period",
	.relation = APIKEY_REL_LIMIT,
	.pkey = APIKEY_REL_LIMIT_PKEY,
	.columns = limit_columns,
	.count = lengthof(limit_columns)
};
static const char *const kind_names[] = {
	[APIKEY_LIMIT_RATE] = "rate",
	[APIKEY_LIMIT_QUOTA] = "quota",
	[APIKEY_LIMIT_BALANCE] = "balance"
};

const char *
apikey_limit_kind_name(ApikeyLimitKind kind)
{
	return kind_names[kind];
}

/* The kind that a text names; -1 for none. */
int
apikey_limit_find_kind(const text *name)
{
	for (size_t i = 0; i < lengthof(kind_names); i++)
	{
		if (VARSIZE_ANY_EXHDR(name) == strlen(kind_names[i]) &&
			memcmp(VARDATA_ANY(name), kind_names[i], strlen(kind_names[i])) == 0)
			return (int) i;
	}
	return -1;
}

ApikeyLimitKind
apikey_limit_kind(const ApikeyRow *limit)
{
	int			kind = apikey_limit_find_kind(apikey_row_text(limit, APIKEY_LIMIT_KIND));

	if (kind < 0)
		elog(ERROR, "a limit is of no known kind");
	return (ApikeyLimitKind) kind;
}

int64
apikey_limit_number(const ApikeyRow *row, int column)
{
	return DatumGetInt64(row->values[column]);
}

bool
apikey_limit_exists(const pg_uuid_t *id)
{
	ApikeyRow	limit;

	return apikey_table_fetch_latest(&apikey_limit_table, id, &limit);
}

/* Whose a limit is. */
void
apikey_limit_holder(const ApikeyRow *limit, ApikeyLimitHolder *holder)
{
	holder->key = apikey_row_uuid(limit, APIKEY_LIMIT_KEY);
	holder->organization = apikey_row_uuid(limit, APIKEY_LIMIT_ORGANIZATION);
	holder->project = apikey_row_uuid(limit, APIKEY_LIMIT_PROJECT);
	holder->owner = limit->nulls[APIKEY_LIMIT_OWNER] ? InvalidOid :
		DatumGetObjectId(limit->values[APIKEY_LIMIT_OWNER]);
	holder->subject = apikey_row_text(limit, APIKEY_LIMIT_SUBJECT);
}

/* What verification calls the holder; who has a subject is one of its own. */
const char *
apikey_limit_holder_name(const ApikeyRow *limit)
{
	if (!limit->nulls[APIKEY_LIMIT_KEY])
		return "key";
	if (!limit->nulls[APIKEY_LIMIT_SUBJECT])
		return "subject";
	return limit->nulls[APIKEY_LIMIT_PROJECT] ? "organization" : "project";
}

static bool
any_row(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/*
 * Is there a limit in this database at all?  Sessions remember it, so that
 * where there is none, keys are not looked up for any.
 */
bool
apikey_limit_any(void)
{
	uint64		begun;
	bool		any;

	if (apikey_fact_known(APIKEY_FACT_LIMITS, &any))
		return any;
	if (apikey_catalog()->first_script)
		return false;
	begun = apikey_changes_begin();
	any = false;
	/* Anybody's, and none that a serializable transaction has read. */
	if (!apikey_table_blank(&apikey_limit_table))
		apikey_table_walk(&apikey_limit_table, APIKEY_REL_LIMIT_PKEY, NULL, 0,
						  SnapshotAny, any_row, &any);
	apikey_fact_store(APIKEY_FACT_LIMITS, begun, any);
	return any;
}

static void
null_key(ScanKey key, int column)
{
	ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column + 1,
						   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid,
						   (Datum) 0);
}

void
apikey_limit_scan_key(ScanKey key, int column, const pg_uuid_t *value)
{
	if (value == NULL)
		null_key(key, column);
	else
		ScanKeyInit(key, column + 1, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(value));
}

/* Visits the limits of a holder; what a row points to is gone when visit returns. */
void
apikey_limit_scan(const ApikeyLimitHolder *holder, ApikeyVisit visit,
				  void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData keys[5];

	apikey_limit_scan_key(&keys[0], APIKEY_LIMIT_KEY, holder->key);
	apikey_limit_scan_key(&keys[1], APIKEY_LIMIT_ORGANIZATION, holder->organization);
	apikey_limit_scan_key(&keys[2], APIKEY_LIMIT_PROJECT, holder->project);
	if (OidIsValid(holder->owner))
		ScanKeyInit(&keys[3], APIKEY_LIMIT_OWNER + 1, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(holder->owner));
	else
		null_key(&keys[3], APIKEY_LIMIT_OWNER);
	if (holder->subject != NULL)
		ScanKeyEntryInitialize(&keys[4], 0, APIKEY_LIMIT_SUBJECT + 1,
							   BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ,
							   PointerGetDatum(holder->subject));
	else
		null_key(&keys[4], APIKEY_LIMIT_SUBJECT);
	apikey_table_scan(&apikey_limit_table, APIKEY_REL_LIMIT_HOLDER, keys, 5,
					  snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/* The period of a quota that a time is in. */
void
apikey_limit_period(const ApikeyRow *limit, TimestampTz now,
					TimestampTz *begin, TimestampTz *end)
{
	apikey_period_at(DatumGetIntervalP(limit->values[APIKEY_LIMIT_PERIOD]),
					 DatumGetTimestampTz(limit->values[APIKEY_LIMIT_STARTS_AT]),
					 now, begin, end);
}

/* Raises 55000 where there is nothing that could hold a limit. */
void
apikey_limit_require_library(void)
{
	if (!apikey_preloaded())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("limits need the library \"apikey\" to be preloaded"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
}
