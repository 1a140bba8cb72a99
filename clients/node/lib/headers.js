// What a response tells of limits, as fields of HTTP.  Nothing here asks the
// database or knows a framework.

/**
 * A limit, as apikey_verify tells it in detail.limit and detail.limits.
 *
 * @typedef {object} Limit
 * @property {'key' | 'subject' | 'project' | 'organization'} holder
 * @property {string} unit
 * @property {'rate' | 'quota' | 'balance'} kind
 * @property {number | null} amount
 * @property {number | null} period_seconds
 * @property {number} remaining
 * @property {string | null} resets_at
 */

const INTEGER_MAX = 999_999_999_999_999; // of a structured field, RFC 9651

/** @param {number} value */
function integer(value) {
  return Math.min(Math.max(Math.ceil(value), 0), INTEGER_MAX);
}

/**
 * Whole seconds until a time, one at least.
 *
 * @param {string} until
 * @param {number} now milliseconds
 */
export function secondsUntil(until, now) {
  return Math.max(1, integer((Date.parse(until) - now) / 1000));
}

/**
 * The name of a limit's policy: the same in each response.
 *
 * @param {Limit} limit
 */
function nameOf(limit) {
  const kind = limit.kind === 'rate' ? '' : `-${limit.kind}`;
  const period = limit.period_seconds === null ? '' : `-${Math.ceil(limit.period_seconds)}`;
  return `${limit.holder}-${limit.unit}${kind}${period}`;
}

/**
 * RateLimit and RateLimit-Policy, an item for each limit
 * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/).
 * Credits that are never refilled are no policy: they have no amount.
 *
 * @param {readonly Limit[]} limits
 * @param {number} now milliseconds, by the database's clock
 * @returns {Record<string, string>} no fields without limits
 */
export function rateLimitFields(limits, now) {
  const policies = [];
  const states = [];
  /** @type {Map<string, number>} */
  const names = new Map();
  for (const limit of limits) {
    if (limit.amount === null) continue;
    const name = nameOf(limit);
    const count = (names.get(name) ?? 0) + 1;
    names.set(name, count);
    const item = `"${name}${count > 1 ? `-${count}` : ''}"`;
    const unit = limit.unit === 'requests' ? '' : `;qu="${limit.unit}"`;
    const window = limit.period_seconds === null ? '' : `;w=${integer(limit.period_seconds)}`;
    const reset = limit.resets_at === null ? '' : `;t=${secondsUntil(limit.resets_at, now)}`;
    policies.push(`${item};q=${integer(limit.amount)}${unit}${window}`);
    states.push(`${item};r=${integer(limit.remaining)}${reset}`);
  }
  return policies.length === 0 ? {} : { 'RateLimit-Policy': policies.join(', '), RateLimit: states.join(', ') };
}
