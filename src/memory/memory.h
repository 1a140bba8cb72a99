/*
 * memory.h
 *		The door of memory/: shared memory, its slots, who has which, their file,
 *		statistics, the seats of workers.
 */
#ifndef APIKEY_MEMORY_H
#define APIKEY_MEMORY_H

#include "memory/batch.h"
#include "memory/code.h"
#include "memory/complaint.h"
#include "memory/dynamic.h"
#include "memory/fleet.h"
#include "memory/fresh.h"
#include "memory/lease.h"
#include "memory/lifetime.h"
#include "memory/limiter.h"
#include "memory/part.h"
#include "memory/pass.h"
#include "memory/reveals.h"
#include "memory/seat.h"
#include "memory/seed.h"
#include "memory/server_id.h"
#include "memory/sets.h"
#include "memory/share.h"
#include "memory/slot.h"
#include "memory/stats.h"
#include "memory/use.h"

#endif							/* APIKEY_MEMORY_H */
