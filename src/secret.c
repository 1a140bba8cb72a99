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

#include <sys/stat.h>
#include <unistd.h>

#include "common/base64.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "foreign.h"

#define FILE_BYTES_MAX	65536

char	   *apikey_import_secret_file;

static ApikeySecret *secrets = NULL;
static int	secret_count = 0;
static const char *problem = NULL;
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

/* Takes a line of the file; an empty one is ignored. */
static const char *
add_secret(const char *line, size_t len)
{
	char	   *bytes;
	int			count;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (strspn(line, " \t") >= len)
		return NULL;
	bytes = MemoryContextAlloc(TopMemoryContext, len);
	count = read_line(line, len, bytes);
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

static const char *
read_secrets(FILE *file)
{
	char	   *content = palloc(FILE_BYTES_MAX + 1);
	size_t		len = fread(content, 1, FILE_BYTES_MAX, file);
	const char *found = NULL;

	content[len] = '\0';
	for (char *line = content; line < content + len && found == NULL;)
	{
		size_t		length = strcspn(line, "\n");

		found = add_secret(line, length);
		line += length + 1;
	}
	explicit_bzero(content, FILE_BYTES_MAX + 1);
	pfree(content);
	return found == NULL && secret_count == 0 ? "has no secret." : found;
}

static const char *
read_file(const char *path)
{
	struct stat status;
	const char *found;
	FILE	   *file = AllocateFile(path, "r");

	if (file == NULL)
		return "cannot be read.";
	found = fstat(fileno(file), &status) != 0 ? "cannot be read." :
		apikey_pepper_file_problem(path, &status);
	if (found == NULL)
		found = read_secrets(file);
	FreeFile(file);
	return found;
}

/* Why the file cannot be used, or NULL; reads it where that is due. */
const char *
apikey_secret_problem(void)
{
	if (loaded && loaded_for == PgReloadTime)
		return problem;
	drop_secrets();
	problem = apikey_import_secret_file[0] == '\0' ? NULL :
		read_file(apikey_import_secret_file);
	if (problem != NULL)
		drop_secrets();
	loaded = true;
	loaded_for = PgReloadTime;
	return problem;
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
				 errdetail_log("It %s", found)));
	if (secret_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys of \"hmac-sha256\" are keyed with a secret that this server does not have"),
				 errhint("Name a file with it in \"apikey.import_secret_file\".")));
}
