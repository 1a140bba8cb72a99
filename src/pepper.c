/*
 * pepper.c
 *		The server's secret that stored digests hang on.
 *
 * apikey.pepper_file has one pepper a line: the first is current, the others
 * are still accepted.  Without the setting the pepper is the empty one, and
 * keys made under that keep verifying ever after; but where a file is named
 * that cannot be used, nothing is decided, and never by the empty pepper.
 *
 * The file is read when a digest is first needed and again after each reload
 * of the server's configuration.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "verify.h"

#define PEPPER_BYTES_MIN	32
#define FILE_BYTES_MAX		65536

static const ApikeyPepper empty_pepper = {.fingerprint = APIKEY_UNPEPPERED};

static ApikeyPepper *peppers = NULL;	/* current first */
static int	pepper_count = 0;
static const char *problem = NULL;	/* why the file cannot be used */
static bool loaded = false;
static TimestampTz loaded_for = 0;	/* the configuration's time of reload */

/* The file is to be read again. */
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

/* Is a file inside the data directory, links resolved?  If in doubt, it is. */
static bool
in_data_directory(const char *path)
{
	char	   *real = realpath(path, NULL);
	char	   *data = realpath(DataDir, NULL);
	size_t		len = data == NULL ? 0 : strlen(data);
	bool		inside = real == NULL || data == NULL ||
		(strncmp(real, data, len) == 0 && real[len] == '/');

	free(real);
	free(data);
	return inside;
}

/* As for private keys of TLS: the owner's alone, or root's and our group's. */
const char *
apikey_pepper_file_problem(const char *path, const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		return "It is not a regular file.";
	if (status->st_uid == 0 ? (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0 :
		(status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return "Others than the server's user have access to it.";
	if (in_data_directory(path))
		return "It is inside the data directory.";
	if (status->st_size > FILE_BYTES_MAX)
		return "It is longer than 64 kB.";
	return NULL;
}

/* Takes a line of the file as the next pepper; an empty one is ignored. */
static const char *
add_pepper(const char *line, size_t len)
{
	ApikeyPepper *pepper;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (strspn(line, " \t") >= len)
		return NULL;
	if (len < PEPPER_BYTES_MIN)
		return "A pepper has less than 32 bytes.";

	if (peppers == NULL)
		peppers = MemoryContextAlloc(TopMemoryContext, sizeof(ApikeyPepper));
	else
		peppers = repalloc(peppers, (pepper_count + 1) * sizeof(ApikeyPepper));
	pepper = &peppers[pepper_count];
	pepper->bytes = MemoryContextAlloc(TopMemoryContext, len);
	memcpy(pepper->bytes, line, len);
	pepper->len = len;
	pepper_count++;
	pepper->fingerprint = apikey_digest_fingerprint(pepper->bytes, len);
	return NULL;
}

static const char *
read_peppers(const char *path)
{
	struct stat status;
	const char *found = NULL;
	FILE	   *file = AllocateFile(path, "r");
	char	   *content;
	size_t		len;

	if (file == NULL || fstat(fileno(file), &status) != 0)
		found = "It cannot be read.";
	else
		found = apikey_pepper_file_problem(path, &status);
	if (found != NULL)
	{
		if (file != NULL)
			FreeFile(file);
		return found;
	}

	content = palloc(FILE_BYTES_MAX + 1);
	len = fread(content, 1, FILE_BYTES_MAX, file);
	FreeFile(file);
	content[len] = '\0';
	for (char *line = content; line < content + len && found == NULL;)
	{
		size_t		length = strcspn(line, "\n");

		found = add_pepper(line, length);
		line += length + 1;
	}
	explicit_bzero(content, FILE_BYTES_MAX + 1);
	pfree(content);
	if (found == NULL && pepper_count == 0)
		found = "It has no pepper.";
	return found;
}

/*
 * Can digests be computed?  Reads the file where that is due; then what was
 * verified before may hang on a pepper that is gone.
 */
bool
apikey_pepper_usable(void)
{
	if (loaded && loaded_for == PgReloadTime)
		return problem == NULL;

	apikey_cache_drop();
	drop_peppers();
	problem = apikey_pepper_file[0] == '\0' ? NULL :
		read_peppers(apikey_pepper_file);
	if (problem != NULL)
		drop_peppers();
	loaded = true;
	loaded_for = PgReloadTime;
	return problem == NULL;
}

/* Why the file cannot be used. */
const char *
apikey_pepper_problem(void)
{
	return problem;
}

/* Raises 55000 where digests cannot be computed. */
void
apikey_pepper_require(void)
{
	if (!apikey_pepper_usable())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the file that \"apikey.pepper_file\" names cannot be used"),
				 errdetail_log("%s", problem)));
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
