/*
 * tick.c
 *		A time that no clock's setting moves.
 *
 * It is this machine's own, since its start: no clock of another is compared
 * with it, and nobody sets it back.
 */
#include "postgres.h"

#include <time.h>

#include "datatype/timestamp.h"

#include "memory/tick.h"

/* Where there is one, a clock that goes on while the machine sleeps. */
#ifdef CLOCK_BOOTTIME
#define TICKS	CLOCK_BOOTTIME
#else
#define TICKS	CLOCK_MONOTONIC
#endif

ApikeyTick
apikey_tick(void)
{
	struct timespec now;

	(void) clock_gettime(TICKS, &now);
	return (ApikeyTick) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000 + 1;
}
