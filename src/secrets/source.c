/*
 * source.c
 *		Where secrets come from: the lines of a file, or what a command prints.
 *
 * A file is kept as private keys of TLS are, and outside the data directory,
 * so that no base backup has it.  A command is run by /bin/sh as the server's
 * user, as PostgreSQL runs ssl_passphrase_command.  What it prints is never
 * told anywhere, nor are its complaints: only how it ended.  It has ten
 * seconds.  Neither gives more than 64 kB.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "secrets/source.h"

#define COMMAND_TIME	(10 * USECS_PER_SEC)
#define COMMAND_STEP	50		/* milliseconds between looks at the clock */

static void set_problem(ApikeySource *source, const char *format,...) pg_attribute_printf(2, 3);

static void
set_problem(ApikeySource *source, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(source->problem, sizeof(source->problem), format, arguments);
	va_end(arguments);
}

/*
 * One that says nothing yet, in the current memory context.  Of its content only
 * as many bytes are touched as are read, here and when it is wiped.
 */
ApikeySource *
apikey_source_new(void)
{
	ApikeySource *source = palloc(sizeof(ApikeySource));

	memset(source, 0, offsetof(ApikeySource, content));
	return source;
}

void
apikey_source_free(ApikeySource *source)
{
	explicit_bzero(source, offsetof(ApikeySource, content) + source->len);
	pfree(source);
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
static const char *
file_problem(const char *path, const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		return "is not a regular file.";
	if (status->st_uid == 0 ? (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0 :
		(status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return "is accessible to others than the server's user.";
	if (in_data_directory(path))
		return "is inside the data directory.";
	if (status->st_size > APIKEY_SOURCE_MAX)
		return "is longer than 64 kB.";
	return NULL;
}

/* Reads an open file; what is wrong with it, or NULL. */
static const char *
read_open_file(ApikeySource *source, const char *path, FILE *file)
{
	struct stat status;
	const char *found;

	if (fstat(fileno(file), &status) != 0)
		return "cannot be looked at.";
	found = file_problem(path, &status);
	if (found != NULL)
		return found;
	source->len = fread(source->content, 1, APIKEY_SOURCE_MAX, file);
	return ferror(file) ? "cannot be read." : NULL;
}

/* Reads a file. */
void
apikey_source_read(ApikeySource *source, const char *path)
{
	FILE	   *file = AllocateFile(path, "r");
	const char *found;

	snprintf(source->subject, sizeof(source->subject), "File \"%s\"", path);
	if (file == NULL)
	{
		source->passing = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
		set_problem(source, "%s cannot be opened: %s.", source->subject,
					strerror(errno));
		return;
	}
	found = read_open_file(source, path, file);
	FreeFile(file);
	if (found != NULL)
		set_problem(source, "%s %s", source->subject, found);
}

/* Becomes the command, in the new process; does not return. */
static void
become_command(const char *command, int output)
{
	static const int ours[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGPIPE, SIGUSR1, SIGUSR2,
		SIGCHLD
	};
	int			nothing = open("/dev/null", O_RDWR);
	sigset_t	none;

	for (size_t i = 0; i < lengthof(ours); i++)
		signal(ours[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 &&
		dup2(output, STDOUT_FILENO) >= 0 && dup2(nothing, STDERR_FILENO) >= 0)
		execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(127);
}

/*
 * Starts it; the process, and where its output is to be read.  No signal is to
 * come to the new process that still has our handlers.
 */
static pid_t
start_command(const char *command, int *output)
{
	int			ends[2];
	sigset_t	all;
	sigset_t	before;
	pid_t		pid;

	if (pipe(ends) != 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
	{
		/* Who writes is to hear that nobody reads. */
		close(ends[0]);
		become_command(command, ends[1]);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* Whichever of the two comes first: all that it starts ends with it. */
	if (pid > 0)
		(void) setpgid(pid, pid);
	close(ends[1]);
	*output = ends[0];
	if (pid < 0)
		close(ends[0]);
	return pid;
}

/* Has the command had its time, or is it wanted no more? */
static bool
command_over(ApikeySource *source, TimestampTz end)
{
	source->passing = QueryCancelPending || ProcDiePending;
	return source->passing || GetCurrentTimestamp() >= end;
}

/* Reads what it prints to the end; false where that takes too long. */
static bool
read_output(ApikeySource *source, int output, TimestampTz end)
{
	struct pollfd wait = {.fd = output, .events = POLLIN};
	ssize_t		got = 1;

	while (got != 0 && source->len <= APIKEY_SOURCE_MAX)
	{
		if (command_over(source, end))
			return false;
		if (poll(&wait, 1, COMMAND_STEP) <= 0)
			continue;
		got = read(output, source->content + source->len,
				   sizeof(source->content) - source->len);
		if (got > 0)
			source->len += got;
		else if (got < 0 && errno != EINTR)
			break;
	}
	return true;
}

/* Waits for its end; false where that takes too long. */
static bool
await_end(ApikeySource *source, pid_t pid, TimestampTz end, int *status)
{
	for (;;)
	{
		pid_t		ended = waitpid(pid, status, WNOHANG);

		if (ended == pid)
			return true;
		if (ended < 0 && errno != EINTR)
		{
			*status = -1;
			return true;
		}
		if (command_over(source, end))
			return false;
		pg_usleep(1000);
	}
}

static void
describe_end(ApikeySource *source, int status)
{
	if (status == -1)
		set_problem(source, "How the command ended is not known.");
	else if (source->len > APIKEY_SOURCE_MAX)
		set_problem(source, "%s is longer than 64 kB.", source->subject);
	else if (WIFSIGNALED(status))
		set_problem(source, "The command was ended by signal %d.",
					WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		set_problem(source, "The command ended with status %d.",
					WEXITSTATUS(status));
}

/* Runs a command, and reads what it prints. */
void
apikey_source_run(ApikeySource *source, const char *command)
{
	TimestampTz end = GetCurrentTimestamp() + COMMAND_TIME;
	int			output;
	int			status = 0;
	pid_t		pid = start_command(command, &output);

	strlcpy(source->subject, "What the command prints", sizeof(source->subject));
	if (pid < 0)
	{
		source->passing = true;
		set_problem(source, "The command cannot be started: %s.", strerror(errno));
		return;
	}
	if (read_output(source, output, end) &&
		(close(output), output = -1, await_end(source, pid, end, &status)))
	{
		describe_end(source, status);
		return;
	}
	if (output >= 0)
		close(output);
	(void) kill(-pid, SIGKILL);
	(void) kill(pid, SIGKILL);
	(void) waitpid(pid, &status, 0);
	set_problem(source, source->passing ? "The command was interrupted." :
				"The command did not end within 10 seconds.");
}

/*
 * Hands its lines over, with their numbers, without their ends; what is wrong
 * with one is what is wrong with all.  Empty lines are none.
 */
void
apikey_source_lines(ApikeySource *source, ApikeyTakeLine take)
{
	const char *end = source->content + source->len;
	const char *found = NULL;
	int			number = 0;

	/* Where nothing is wrong, there is a byte to spare. */
	if (source->problem[0] == '\0')
		source->content[source->len] = '\0';
	for (const char *line = source->content;
		 source->problem[0] == '\0' && line < end && found == NULL;)
	{
		const char *newline = memchr(line, '\n', end - line);
		size_t		len = (newline == NULL ? end : newline) - line;
		size_t		kept = len > 0 && line[len - 1] == '\r' ? len - 1 : len;

		number++;
		if (strspn(line, " \t") < kept)
			found = take(line, kept, number);
		line += len + 1;
	}
	if (found != NULL)
		set_problem(source, "%s %s", source->subject, found);
}
