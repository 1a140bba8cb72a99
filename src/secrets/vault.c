/*
 * vault.c
 *		What apikey.pepper_command printed, in shared memory, for all processes.
 *
 * With the library preloaded the command is run once for the whole server: by
 * the postmaster when it makes shared memory, at the start and after a crash,
 * and after each reload by the launcher, on a standby by the keeper.  Sessions
 * take what is here, where it is of the command that they are told; another
 * one, a session's own or one that the launcher has not run yet, they run
 * themselves.  A new number says that there is something new.
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "memory/memory.h"
#include "secrets/secrets.h"
#include "secrets/source.h"

#define COMMAND_MAX		4096	/* a longer one is run by each session */

typedef struct Vault
{
	pg_atomic_uint64 generation;
	LWLock	   *lock;			/* guards the rest */
	char		command[COMMAND_MAX];	/* empty: nothing is here */
	ApikeySource source;
} Vault;

static Vault *vault = NULL;

static void
make_memory(void)
{
	pg_atomic_init_u64(&vault->generation, 1);
	vault->lock = apikey_memory_lock(APIKEY_MEMORY_VAULT);
}

const ApikeyMemoryPart apikey_vault_memory = {
	APIKEY_MEMORY_STRUCT("apikey vault", vault),
	.make = make_memory
};

/* Runs a command and keeps what it prints; an empty one empties the vault. */
void
apikey_vault_fill(const char *command)
{
	ApikeySource *source;

	if (vault == NULL || (command[0] == '\0' && vault->command[0] == '\0'))
		return;
	source = apikey_source_new();
	if (command[0] != '\0')
		apikey_source_run(source, command);
	LWLockAcquire(vault->lock, LW_EXCLUSIVE);
	explicit_bzero(&vault->source, sizeof(ApikeySource));
	vault->command[0] = '\0';
	if (strlen(command) < COMMAND_MAX)
	{
		strlcpy(vault->command, command, COMMAND_MAX);
		vault->source = *source;
	}
	LWLockRelease(vault->lock);
	pg_atomic_fetch_add_u64(&vault->generation, 1);
	apikey_source_free(source);
}

/* Another number: what is here is another. */
uint64
apikey_vault_generation(void)
{
	return vault == NULL ? 0 : pg_atomic_read_u64(&vault->generation);
}

/* Copies what that command printed; false where it is not here. */
bool
apikey_vault_copy(ApikeySource *source, const char *command)
{
	bool		here;

	if (vault == NULL)
		return false;
	LWLockAcquire(vault->lock, LW_SHARED);
	here = strcmp(vault->command, command) == 0;
	if (here)
		*source = vault->source;
	LWLockRelease(vault->lock);
	return here;
}
