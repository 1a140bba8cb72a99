/**
 * An address without its port, brackets and zone; null for what is none, so
 * that a key that is bound to addresses is refused.
 *
 * @param {string | null | undefined} text
 * @returns {string | null}
 */
export declare function bareAddress(text: string | null | undefined): string | null;
/**
 * @param {readonly string[]} proxies addresses and networks
 * @returns {(address: string) => boolean}
 */
export declare function trusting(proxies: readonly string[]): (address: string) => boolean;
/**
 * The last address that no trusted proxy vouches for: what stands left of it
 * was written by whoever asks.
 *
 * @param {string | null | undefined} peer who is connected
 * @param {string | null | undefined} forwarded the header X-Forwarded-For
 * @param {(address: string) => boolean} trusted
 * @returns {string | null} null where it cannot be told
 */
export declare function clientAddress(peer: string | null | undefined, forwarded: string | null | undefined, trusted: (address: string) => boolean): string | null;
