/*
 * period.h
 *		The periods of quotas.
 */
#ifndef APIKEY_PERIOD_H
#define APIKEY_PERIOD_H

#include "utils/timestamp.h"

extern bool apikey_period_same(const Interval *one, const Interval *two);
extern bool apikey_period_one_field(const Interval *period);
extern void apikey_period_at(const Interval *period, TimestampTz anchor,
							 TimestampTz now, TimestampTz *begin,
							 TimestampTz *end);

#endif							/* APIKEY_PERIOD_H */
