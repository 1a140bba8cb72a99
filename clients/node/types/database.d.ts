export type Pool = Pick<import('pg').Pool, 'connect' | 'on' | 'listenerCount'>;
export type Client = import('pg').PoolClient;
export type Failure = {
    sqlstate: string | null;
    detail: string | null;
    usable: boolean;
};
/**
 * What we need of pg.Pool.
 *
 * @typedef {Pick<import('pg').Pool, 'connect' | 'on' | 'listenerCount'>} Pool
 */
/** @typedef {import('pg').PoolClient} Client */
/** @typedef {{ sqlstate: string | null, detail: string | null, usable: boolean }} Failure */
/**
 * What an error of pg says: a SQLSTATE where the server answered, and whether
 * its connection may be used on.
 *
 * @param {unknown} error
 * @returns {Failure}
 */
export declare function failure(error: unknown): Failure;
/**
 * Was it asked wrongly (a bad value, a name that is not there, a right that is
 * missing)?  Everything else is a bad day, which may pass.
 *
 * @param {unknown} error
 */
export declare function isMistake(error: unknown): boolean;
/**
 * @param {Pool} pool
 * @param {string} text
 * @param {readonly unknown[]} values
 * @param {number} timeout
 */
export declare function askOnce(pool: Pool, text: string, values: readonly unknown[], timeout: number): Promise<any>;
/**
 * A failure before the work began.
 */
export declare class NotBegun extends Error {
    /** @param {unknown} cause */
    constructor(cause: unknown);
}
/**
 * Runs work in a transaction that begins with a statement.
 *
 * @template T
 * @param {Pool} pool
 * @param {{ begin: string, text: string, values: readonly unknown[], timeout: number }} first
 * @param {(client: Client) => Promise<T> | T} work
 * @returns {Promise<T>}
 */
export declare function inTransaction<T>(pool: Pool, { begin, text, values, timeout }: {
    begin: string;
    text: string;
    values: readonly unknown[];
    timeout: number;
}, work: (client: Client) => Promise<T> | T): Promise<T>;
