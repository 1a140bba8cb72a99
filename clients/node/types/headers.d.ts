export type Limit = {
    holder: 'key' | 'subject' | 'project' | 'organization';
    unit: string;
    kind: 'rate' | 'quota' | 'balance';
    amount: number | null;
    period_seconds: number | null;
    remaining: number;
    resets_at: string | null;
};
/**
 * Whole seconds until a time, one at least.
 *
 * @param {string} until
 * @param {number} now milliseconds
 */
export declare function secondsUntil(until: string, now: number): number;
/**
 * RateLimit and RateLimit-Policy, an item for each limit
 * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/).
 * Credits that are never refilled are no policy: they have no amount.
 *
 * @param {readonly Limit[]} limits
 * @param {number} now milliseconds, by the database's clock
 * @returns {Record<string, string>} no fields without limits
 */
export declare function rateLimitFields(limits: readonly Limit[], now: number): Record<string, string>;
