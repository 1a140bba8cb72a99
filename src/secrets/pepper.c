/*
 * pepper.c
 *		The server's secret that stored digests are keyed with.
 *
 * apikey.pepper_file has one pepper a line, or apikey.pepper_command prints
 * them so: the first is current, the others are still accepted.  With neither
 * setting the pepper is the empty one, and keys made under that keep verifying
 * ever after; but where one is named that cannot be used, or both are, nothing
 * is decided, and never by the empty pepper.
 *
 * They are read when a digest is first needed and again after each reload of
 * the server's configuration.  The server's start and the launcher look too, to
 * tell the log at once where they cannot be used; where the library is
 * preloaded only these run the command, and sessions take what it printed from
 * the vault (vault.c).
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "secrets/source.h"

#define PEPPER_BYTES_MIN	32

static const ApikeyPepper empty_pepper = {.fingerprint = APIKEY_UNPEPPERED};

static ApikeyPepper *peppers = NULL;	/* current first */
static int	pepper_count = 0;
static char problem[MAXPGPATH + 256];	/* why it cannot be used; or empty */
static bool loaded = false;
static bool passing = false;	/* what is wrong may be right the next time */
static TimestampTz loaded_for = 0;	/* the configuration's time of reload */
static uint64 loaded_from = 0;	/* the vault's generation */

/* They are to be read again. */
void
apikey_pepper_forget(void)
{
	loaded = false;
}

static void
drop_peppers(void)
{
	for (int i = 0; i < pepper_count; i++)
	{
		explicit_bzero(peppers[i].bytes, peppers[i].len);
		pfree(peppers[i].bytes);
	}
	pepper_count = 0;
}

/* Takes a line as the next pepper. */
static const char *
add_pepper(const char *line, size_t len, int number)
{
	ApikeyPepper *pepper;

	if (len < PEPPER_BYTES_MIN)
		return "holds a pepper of less than 32 bytes.";
	if (peppers == NULL)
		peppers = MemoryContextAlloc(TopMemoryContext, sizeof(ApikeyPepper));
	else
		peppers = repalloc(peppers, (pepper_count + 1) * sizeof(ApikeyPepper));
	pepper = &peppers[pepper_count];
	pepper->bytes = MemoryContextAlloc(TopMemoryContext, len);
	memcpy(pepper->bytes, line, len);
	pepper->len = len;
	pepper->line = number;
	pepper_count++;
	pepper->fingerprint = apikey_digest_fingerprint(pepper->bytes, len);
	return NULL;
}

/* Reads the file, or takes what the command prints, or has printed. */
static void
read_source(ApikeySource *source)
{
	if (apikey_pepper_command[0] == '\0')
		apikey_source_read(source, apikey_pepper_file);
	else if (!apikey_vault_copy(source, apikey_pepper_command))
		apikey_source_run(source, apikey_pepper_command);
}

/* Reads the peppers, or says what keeps us from it. */
static void
read_peppers(void)
{
	ApikeySource *source;

	if (apikey_pepper_file[0] != '\0' && apikey_pepper_command[0] != '\0')
	{
		strlcpy(problem, "Both \"apikey.pepper_file\" and \"apikey.pepper_command\" are set.",
				sizeof(problem));
		return;
	}
	source = apikey_source_new();
	read_source(source);
	apikey_source_lines(source, add_pepper);
	passing = source->passing;
	strlcpy(problem, source->problem, sizeof(problem));
	if (problem[0] == '\0' && pepper_count == 0)
		snprintf(problem, sizeof(problem), "%s holds no pepper.",
				 source->subject);
	apikey_source_free(source);
}

/* Is what has been read still what there is to be read? */
static bool
still_loaded(void)
{
	return loaded && loaded_for == PgReloadTime &&
		(apikey_pepper_command[0] == '\0' ||
		 loaded_from == apikey_vault_generation());
}

/* Are there to be peppers? */
bool
apikey_pepper_configured(void)
{
	return apikey_pepper_file[0] != '\0' || apikey_pepper_command[0] != '\0';
}

/*
 * Can digests be computed?  Reads the peppers where that is due; then what was
 * verified before may be keyed with one that is gone.
 */
bool
apikey_pepper_usable(void)
{
	if (still_loaded())
		return problem[0] == '\0';

	/* Where that raises they are to be read the next time. */
	loaded = false;
	apikey_changes_forget();
	drop_peppers();
	problem[0] = '\0';
	passing = false;
	loaded_from = apikey_vault_generation();
	if (apikey_pepper_configured())
		read_peppers();
	if (problem[0] != '\0')
		drop_peppers();
	loaded = !passing;
	loaded_for = PgReloadTime;
	return problem[0] == '\0';
}

/* Tells the log, if it is time, why digests cannot be computed. */
void
apikey_pepper_complain(void)
{
	apikey_complain(APIKEY_COMPLAINT_PEPPER_FILE, "%s", problem);
}

/*
 * Looks at the peppers after the server's start, or a reload of its
 * configuration, so that the log says at once what is wrong with them, and runs
 * the command for all processes.  One that verifies nothing does not keep them.
 */
void
apikey_pepper_look(void)
{
	loaded = false;
	apikey_vault_fill(apikey_pepper_command);
	if (!apikey_pepper_usable())
	{
		apikey_complaint_again(APIKEY_COMPLAINT_PEPPER_FILE);
		apikey_pepper_complain();
	}
	drop_peppers();
	loaded = false;
}

/* Raises 55000: the pepper, or the one of a key, is not there. */
void
apikey_pepper_refuse(void)
{
	bool		by_command = apikey_pepper_command[0] != '\0';

	if (problem[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 by_command ?
				 errmsg("the pepper of this API key is not in what \"apikey.pepper_command\" prints") :
				 errmsg("the pepper of this API key is not in the file that \"apikey.pepper_file\" names")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 by_command ?
			 errmsg("the peppers of \"apikey.pepper_command\" cannot be used") :
			 errmsg("the file that \"apikey.pepper_file\" names cannot be used"),
			 errdetail_log("%s", problem)));
}

/* Raises 55000 where digests cannot be computed. */
void
apikey_pepper_require(void)
{
	if (!apikey_pepper_usable())
		apikey_pepper_refuse();
}

/* The pepper of new keys. */
const ApikeyPepper *
apikey_pepper_current(void)
{
	return pepper_count > 0 ? &peppers[0] : &empty_pepper;
}

/* The pepper of a fingerprint, or NULL. */
const ApikeyPepper *
apikey_pepper_find(int32 fingerprint)
{
	if (fingerprint == APIKEY_UNPEPPERED)
		return &empty_pepper;
	for (int i = 0; i < pepper_count; i++)
	{
		if (peppers[i].fingerprint == fingerprint)
			return &peppers[i];
	}
	return NULL;
}

/* The peppers one after the other, the empty one last; NULL after that. */
const ApikeyPepper *
apikey_pepper_nth(int n)
{
	if (n < pepper_count)
		return &peppers[n];
	return n == pepper_count ? &empty_pepper : NULL;
}

/* The command is run for all before anybody asks. */
const ApikeyMemoryPart apikey_pepper_memory = {.ready = apikey_pepper_look};

/*
 * Finds the pepper that a key is keyed with; false, and told to the log, where
 * the file does not have it.
 */
bool
apikey_pepper_find_for(const pg_uuid_t *id, int32 fingerprint,
					   const ApikeyPepper **pepper)
{
	*pepper = apikey_pepper_find(fingerprint);
	if (*pepper == NULL)
		apikey_complain(APIKEY_COMPLAINT_PEPPER_GONE,
						"API key %s is keyed with the pepper of fingerprint %08x, which is not in the file.",
						apikey_id_string(id), (uint32) fingerprint);
	return *pepper != NULL;
}
