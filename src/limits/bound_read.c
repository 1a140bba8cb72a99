/*
 * bound_read.c
 *		Reading what a key is bound by.
 *
 * Its list is in the order in which limits refuse: by holder, in each rates before
 * quotas and balances, and then by unit.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys.h"
#include "limits/limits_internal.h"
#include "limits/tally.h"

/* The list while it is being read. */
typedef struct Gathering
{
	ApikeyBounds *bounds;
	Oid			charged;		/* the key is to it: see status.c */
	uint8		holder;
	uint8		rank;			/* the short form, a project's, an
								 * organization's */
} Gathering;

/* Adds to a list that has room. */
static ApikeyBound *
add_bound(Gathering *gathering, const pg_uuid_t *id, ApikeyLimitKind kind)
{
	ApikeyBounds *bounds = gathering->bounds;
	ApikeyBound *bound = &bounds->list[bounds->count++];

	memset(bound, 0, sizeof(*bound));
	bound->id = *id;
	bound->holder = gathering->holder;
	bound->rank = gathering->rank;
	bound->kind = kind;
	bound->charged = bound->hint.role = gathering->charged;
	return bound;
}

static void
set_rate(ApikeyBound *bound)
{
	bound->rate.tokens = bound->amount;
	bound->rate.window = ((int64) bound->period.day * USECS_PER_DAY +
						  bound->period.time) * APIKEY_LIMITER_UNITS;
}

/*
 * A limit's slot is in the name of the role that made it: whoever owns a key can be
 * bound by any number of limits of others.  Of a role that is gone, or has another
 * name by now, it stays in the name that it is in.
 */
static void
charge_maker(ApikeyBound *bound, const ApikeyRow *limit)
{
	const text *maker = apikey_row_text(limit, APIKEY_LIMIT_CREATED_BY);
	Oid			role = apikey_role_named(text_to_cstring(maker));

	if (OidIsValid(role))
		bound->hint.role = role;
}

/* Fills in what the row of a limit says. */
void
apikey_bound_set_from_limit(ApikeyBound *bound, const ApikeyRow *limit)
{
	charge_maker(bound, limit);
	text_to_cstring_buffer(apikey_row_text(limit, APIKEY_LIMIT_UNIT),
						   bound->unit, sizeof(bound->unit));
	bound->of_requests = strcmp(bound->unit, APIKEY_REQUESTS) == 0;
	bound->amount = DatumGetInt64(limit->values[APIKEY_LIMIT_AMOUNT]);
	bound->overdraft = DatumGetInt64(limit->values[APIKEY_LIMIT_OVERDRAFT]);
	bound->starts_at = DatumGetTimestampTz(limit->values[APIKEY_LIMIT_STARTS_AT]);
	bound->periodic = !limit->nulls[APIKEY_LIMIT_PERIOD];
	if (bound->periodic)
		bound->period = *DatumGetIntervalP(limit->values[APIKEY_LIMIT_PERIOD]);
	if (bound->kind == APIKEY_LIMIT_RATE)
		set_rate(bound);
	bound->shared = bound->kind == APIKEY_LIMIT_RATE &&
		apikey_row_bool(limit, APIKEY_LIMIT_SHARED);
	bound->has_lifetime = !limit->nulls[APIKEY_LIMIT_LIFETIME];
	if (bound->has_lifetime)
		bound->lifetime = DatumGetInt64(limit->values[APIKEY_LIMIT_LIFETIME]);
}

/* Makes a bound of a limit, whosever it is. */
void
apikey_bound_of_limit(ApikeyBound *bound, const ApikeyRow *limit)
{
	memset(bound, 0, sizeof(*bound));
	bound->id = *apikey_row_id(limit);
	bound->kind = apikey_limit_kind(limit);
	apikey_bound_set_from_limit(bound, limit);
}

static bool
gather_limit(const ApikeyRow *limit, void *state)
{
	Gathering  *gathering = state;

	if (!limit->nulls[APIKEY_LIMIT_OWNER] &&
		!apikey_role_stands(DatumGetObjectId(limit->values[APIKEY_LIMIT_OWNER]),
							apikey_row_text(limit, APIKEY_LIMIT_OWNER_NAME)))
		return true;
	/* Nobody can set so many; by a restore or a subscription they may come. */
	gathering->bounds->more = gathering->bounds->count == APIKEY_BOUNDS_MAX;
	if (gathering->bounds->more)
		return false;
	apikey_bound_set_from_limit(add_bound(gathering, apikey_row_id(limit),
										  apikey_limit_kind(limit)), limit);
	return true;
}

/*
 * Has a key been replaced since it was read?  Then its limits are its
 * successor's, and it may have seemed to have none.
 */
static bool
replaced_since(ApikeyRow *last)
{
	ApikeyRow	row;

	if (!last->nulls[APIKEY_KEY_ROTATED_TO] ||
		!apikey_key_fetch_latest(apikey_row_id(last), &row))
		return false;
	*last = row;
	return !last->nulls[APIKEY_KEY_ROTATED_TO];
}

/* Where the state of a key's rate limit is. */
static const pg_uuid_t *
rate_account(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_RATE_ACCOUNT] ? apikey_row_id(key) :
		DatumGetUUIDP(key->values[APIKEY_KEY_RATE_ACCOUNT]);
}

/* The short form, in the key's own row. */
static void
gather_short(Gathering *gathering, const ApikeyRow *key)
{
	ApikeyRate	rate;
	ApikeyBound *bound;

	if (apikey_key_rate(key, &rate))
	{
		bound = add_bound(gathering, rate_account(key), APIKEY_LIMIT_RATE);
		bound->short_form = bound->of_requests = bound->periodic = true;
		strcpy(bound->unit, APIKEY_REQUESTS);
		bound->amount = rate.tokens;
		bound->rate = rate;
		bound->period = *DatumGetIntervalP(key->values[APIKEY_KEY_RATE_WINDOW]);
	}
	if (apikey_key_account(key) != NULL)
	{
		bound = add_bound(gathering, apikey_key_account(key),
						  APIKEY_LIMIT_BALANCE);
		bound->short_form = bound->of_requests = true;
		strcpy(bound->unit, APIKEY_REQUESTS);
	}
}

static void
gather(Gathering *gathering, ApikeyBoundHolder as, int rank,
	   const ApikeyLimitHolder *holder)
{
	gathering->holder = as;
	gathering->rank = rank;
	apikey_limit_scan(holder, gather_limit, gathering);
}

/*
 * What a key is bound by itself, or as the last that has replaced it.  Its limits
 * are looked for after its row was read, so that none is missed that has gone to
 * a successor meanwhile.  Where that last one is too far away it is not known.
 */
static void
gather_own(Gathering *gathering, const ApikeyRow *key, bool any)
{
	ApikeyLimitHolder holder = {0};
	ApikeyRow	from = *key;
	ApikeyRow	last;
	int			before;

	do
	{
		gathering->bounds->count = 0;
		gathering->bounds->more = false;
		gathering->bounds->far = !apikey_chain_last(&from, &last);
		if (gathering->bounds->far)
			return;
		gather_short(gathering, &last);
		before = gathering->bounds->count;
		if (!any)
			return;
		holder.key = apikey_row_id(&last);
		gather(gathering, APIKEY_HOLDER_KEY, 0, &holder);
		from = last;
	} while (gathering->bounds->count == before && replaced_since(&from));
}

/* The limits of the tenant that a key is in, and of its subject there. */
static void
gather_tenants(Gathering *gathering, const ApikeyTenant *tenant,
			   const text *subject)
{
	ApikeyLimitHolder holder = {
		.organization = apikey_tenant_organization(tenant),
		.project = apikey_tenant_project(tenant)
	};

	gather(gathering, APIKEY_HOLDER_PROJECT, 0, &holder);
	holder.subject = subject;
	if (subject != NULL)
		gather(gathering, APIKEY_HOLDER_SUBJECT, 0, &holder);
	holder.project = NULL;
	if (subject != NULL)
		gather(gathering, APIKEY_HOLDER_SUBJECT, 1, &holder);
	holder.subject = NULL;
	gather(gathering, APIKEY_HOLDER_ORGANIZATION, 0, &holder);
}

/* The order in which limits refuse. */
static int
compare_bounds(const void *one, const void *two)
{
	const ApikeyBound *a = one;
	const ApikeyBound *b = two;
	int			result;

	if (a->holder != b->holder)
		return a->holder < b->holder ? -1 : 1;
	if (a->short_form != b->short_form)
		return a->short_form ? -1 : 1;
	if ((a->kind == APIKEY_LIMIT_RATE) != (b->kind == APIKEY_LIMIT_RATE))
		return a->kind == APIKEY_LIMIT_RATE ? -1 : 1;
	result = strcmp(a->unit, b->unit);
	if (result == 0)
		result = (int) a->rank - (int) b->rank;
	if (result == 0)
		result = (int) a->kind - (int) b->kind;
	return result != 0 ? result : memcmp(&a->id, &b->id, sizeof(pg_uuid_t));
}

/* What is of each of a list what it is by the others, and by the key. */
static void
finish_bounds(ApikeyBounds *bounds, const pg_uuid_t *key)
{
	for (int i = 0; i < bounds->count; i++)
	{
		apikey_tally_tag(key, &bounds->list[i].id, &bounds->list[i].tag);
		bounds->list[i].first_of_unit = true;
		for (int j = 0; j < i; j++)
		{
			if (strcmp(bounds->list[i].unit, bounds->list[j].unit) == 0)
				bounds->list[i].first_of_unit = false;
		}
	}
}

/*
 * What a key is bound by; NULL for nothing.  Its tenant is NULL for a personal
 * key.
 */
ApikeyBounds *
apikey_bounds_read(const ApikeyRow *key, const ApikeyTenant *tenant)
{
	bool		any = apikey_limit_any();
	const text *subject = apikey_row_text(key, APIKEY_KEY_SUBJECT);
	Gathering	gathering = {.charged = apikey_status_charged(key)};
	ApikeyLimitHolder holder = {0};

	if (!any && key->nulls[APIKEY_KEY_RATE_LIMIT] &&
		apikey_key_account(key) == NULL && key->nulls[APIKEY_KEY_ROTATED_TO])
		return NULL;
	gathering.bounds = palloc(APIKEY_BOUNDS_BYTES(APIKEY_BOUNDS_MAX));
	gather_own(&gathering, key, any);
	if (any)
	{
		holder.owner = apikey_key_owner(key);
		holder.subject = subject;
		if (tenant != NULL)
			gather_tenants(&gathering, tenant, subject);
		else if (apikey_key_project(key) == NULL && subject != NULL)
			gather(&gathering, APIKEY_HOLDER_SUBJECT, 0, &holder);
	}
	if (gathering.bounds->count == 0 && !gathering.bounds->far)
		return NULL;
	qsort(gathering.bounds->list, gathering.bounds->count, sizeof(ApikeyBound),
		  compare_bounds);
	finish_bounds(gathering.bounds, apikey_row_id(key));
	return gathering.bounds;
}

/* The rate_limit that a key is bound by; NULL for none. */
const ApikeyRate *
apikey_bounds_own_rate(const ApikeyBounds *bounds)
{
	return bounds != NULL && bounds->count > 0 && bounds->list[0].short_form &&
		bounds->list[0].kind == APIKEY_LIMIT_RATE ? &bounds->list[0].rate : NULL;
}
