/*
 * pepper.c
 *		The server's secret that stored digests are keyed with.
 *
 * apikey.pepper_file has one pepper a line: the first is current, the others
 * are still accepted.  Without the setting the pepper is the empty one, and
 * keys made under that keep verifying ever after; but where a file is named
 * that cannot be used, nothing is decided, and never by the empty pepper.
 *
 * The file is read when a digest is first needed and again after each reload
 * of the server's configuration.  The server's start and the launcher read it
 * too, to tell the log at once where it cannot be used.
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

#include "complaint.h"
#include "verify.h"

#define PEPPER_BYTES_MIN	32
#define FILE_BYTES_MAX		65536

static const ApikeyPepper empty_pepper = {.fingerprint = APIKEY_UNPEPPERED};

static ApikeyPepper *peppers = NULL;	/* current first */
static int	pepper_count = 0;
static char problem[MAXPGPATH + 256];	/* why it cannot be used; or empty */
static bool loaded = false;
static bool passing = false;	/* what is wrong may be right the next time */
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
		return "is not a regular file.";
	if (status->st_uid == 0 ? (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0 :
		(status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return "is accessible to others than the server's user.";
	if (in_data_directory(path))
		return "is inside the data directory.";
	if (status->st_size > FILE_BYTES_MAX)
		return "is longer than 64 kB.";
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
		return "holds a pepper of less than 32 bytes.";

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

/* Takes the peppers of a file's content. */
static const char *
add_peppers(const char *content, size_t len)
{
	const char *found = NULL;

	for (const char *line = content; line < content + len && found == NULL;)
	{
		size_t		length = strcspn(line, "\n");

		found = add_pepper(line, length);
		line += length + 1;
	}
	return found == NULL && pepper_count == 0 ? "holds no pepper." : found;
}

/* Reads an open file; what is wrong with it, or NULL. */
static const char *
read_file(const char *path, FILE *file)
{
	struct stat status;
	const char *found;
	char	   *content;
	size_t		len;

	if (fstat(fileno(file), &status) != 0)
		return "cannot be looked at.";
	found = apikey_pepper_file_problem(path, &status);
	if (found != NULL)
		return found;

	content = palloc(FILE_BYTES_MAX + 1);
	len = fread(content, 1, FILE_BYTES_MAX, file);
	found = ferror(file) ? "cannot be read." : NULL;
	content[len] = '\0';
	if (found == NULL)
		found = add_peppers(content, len);
	explicit_bzero(content, FILE_BYTES_MAX + 1);
	pfree(content);
	return found;
}

/* Reads the peppers, or says what keeps us from it. */
static void
read_peppers(const char *path)
{
	FILE	   *file = AllocateFile(path, "r");
	const char *found;

	if (file == NULL)
	{
		passing = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
		snprintf(problem, sizeof(problem), "File \"%s\" cannot be opened: %s.",
				 path, strerror(errno));
		return;
	}
	found = read_file(path, file);
	FreeFile(file);
	if (found != NULL)
		snprintf(problem, sizeof(problem), "File \"%s\" %s", path, found);
}

/*
 * Can digests be computed?  Reads the file where that is due; then what was
 * verified before may be keyed with a pepper that is gone.
 */
bool
apikey_pepper_usable(void)
{
	if (loaded && loaded_for == PgReloadTime)
		return problem[0] == '\0';

	apikey_cache_drop();
	drop_peppers();
	problem[0] = '\0';
	passing = false;
	if (apikey_pepper_file[0] != '\0')
		read_peppers(apikey_pepper_file);
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
 * Looks at the file after the server's start, or a reload of its configuration,
 * so that the log says at once what is wrong with it.  A process that verifies
 * nothing does not keep the peppers.
 */
void
apikey_pepper_look(void)
{
	loaded = false;
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
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 problem[0] == '\0' ?
			 errmsg("the pepper of this API key is not in the file that \"apikey.pepper_file\" names") :
			 errmsg("the file that \"apikey.pepper_file\" names cannot be used"),
			 problem[0] == '\0' ? 0 : errdetail_log("%s", problem)));
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
