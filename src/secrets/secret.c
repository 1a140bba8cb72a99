/*
 * secret.c
 *		The secrets of other systems that hashes of imported keys are keyed with.
 *
 * apikey.import_secret_file has one a line, and each is tried; a line that
 * begins with "hex:" or "base64:" says the bytes so.  The file is kept as the
 * pepper's is, and read again after each reload.  Where one is named that
 * cannot be used, a text that only such a key could be is not decided.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/memutils.h"

#include "text/text.h"
#include "secrets/secrets.h"
#include "secrets/source.h"

char	   *apikey_import_secret_file;

static ApikeySecret *secrets = NULL;
static int	secret_count = 0;
static char problem[MAXPGPATH + 256];	/* why it cannot be used; or empty */
static bool loaded = false;
static TimestampTz loaded_for = 0;	/* the configuration's time of reload */

/* The file is to be read again. */
void
apikey_secret_forget(void)
{
	loaded = false;
}

static void
drop_secrets(void)
{
	for (int i = 0; i < secret_count; i++)
	{
		explicit_bzero(secrets[i].bytes, secrets[i].len);
		pfree(secrets[i].bytes);
	}
	secret_count = 0;
}

/* The bytes that a line says; their number, or less than 1 for none. */
static int
read_line(const char *line, size_t len, char *out)
{
	if (len > 4 && memcmp(line, "hex:", 4) == 0)
		return apikey_hex_decode(line + 4, len - 4, (uint8 *) out) ?
			(int) (len - 4) / 2 : -1;
	if (len > 7 && memcmp(line, "base64:", 7) == 0)
		return pg_b64_decode(line + 7, len - 7, (void *) out, len);
	memcpy(out, line, len);
	return len;
}

/* Takes a line of the file. */
static const char *
add_secret(const char *line, size_t len, int number pg_attribute_unused())
{
	char	   *bytes = MemoryContextAlloc(TopMemoryContext, len);
	int			count = read_line(line, len, bytes);

	if (count < 1)
	{
		pfree(bytes);
		return "has a line that is not what its beginning says.";
	}
	secrets = secrets == NULL ?
		MemoryContextAlloc(TopMemoryContext, sizeof(ApikeySecret)) :
		repalloc(secrets, (secret_count + 1) * sizeof(ApikeySecret));
	secrets[secret_count].bytes = bytes;
	secrets[secret_count].len = count;
	secret_count++;
	return NULL;
}

/* Reads the secrets, or says what keeps us from it. */
static void
read_secrets(void)
{
	ApikeySource *source = apikey_source_new();

	apikey_source_read(source, apikey_import_secret_file);
	apikey_source_lines(source, add_secret);
	strlcpy(problem, source->problem, sizeof(problem));
	if (problem[0] == '\0' && secret_count == 0)
		snprintf(problem, sizeof(problem), "%s has no secret.", source->subject);
	apikey_source_free(source);
}

/* Why the file cannot be used, or NULL; reads it where that is due. */
const char *
apikey_secret_problem(void)
{
	if (!loaded || loaded_for != PgReloadTime)
	{
		drop_secrets();
		problem[0] = '\0';
		if (apikey_import_secret_file[0] != '\0')
			read_secrets();
		if (problem[0] != '\0')
			drop_secrets();
		loaded = true;
		loaded_for = PgReloadTime;
	}
	return problem[0] == '\0' ? NULL : problem;
}

/* The secrets one after the other; NULL after the last. */
const ApikeySecret *
apikey_secret_nth(int n)
{
	return apikey_secret_problem() == NULL && n < secret_count ?
		&secrets[n] : NULL;
}

/* Raises 55000 where there is no secret that can be used. */
void
apikey_secret_require(void)
{
	const char *found = apikey_secret_problem();

	if (found != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the file that \"apikey.import_secret_file\" names cannot be used"),
				 errdetail_log("%s", found)));
	if (secret_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys of \"hmac-sha256\" are keyed with a secret that this server does not have"),
				 errhint("Name a file with it in \"apikey.import_secret_file\".")));
}
