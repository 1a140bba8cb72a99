import { ApikeyRefused } from './refusal.js';
export type Pool = import('./database.js').Pool;
export type Client = import('./database.js').Client;
export type Limit = import('./headers.js').Limit;
export type Offer = import('./credential.js').Offer;
export type Role = 'developer' | 'admin' | 'owner';
export type Asked<T, R> = T | ((request: R) => T | Promise<T>);
export type Demand<R> = {
    /**
     * whose key: an organization's ("acme") or a project's ("acme/payments")
     */
    project?: Asked<string | null | undefined, R>;
    /**
     * whose key: the role's; its personal keys where no project is named
     */
    owner?: Asked<string | null | undefined, R>;
    /**
     * all of them
     */
    scopes?: Asked<readonly string[], R>;
    /**
     * in the project
     */
    minRole?: Asked<Role | null | undefined, R>;
    /**
     * how much of "requests" is spent: 1
     */
    cost?: Asked<number, R>;
    /**
     * how much of other units, {"tokens": 800}
     */
    costs?: Asked<Record<string, number> | null | undefined, R>;
    /**
     * a request without a key passes, as nobody
     */
    optional?: boolean;
};
export type Place<R> = {
    pool: Pool;
    /**
     * where the extension is: "public"
     */
    schema?: string;
    /**
     * "x-api-key"; a Bearer token is taken in any case
     */
    header?: string;
    /**
     * milliseconds to wait for a connection and for an answer: 2,000
     */
    timeout?: number;
    /**
     * which limits are told: all
     */
    rateLimitFields?: boolean | ((limit: Limit) => boolean);
    /**
     * is told why it was 503: console.error
     */
    onError?: (error: Error) => void;
};
export type Options<R> = Place<R> & Demand<R>;
export type Key = {
    id: string;
    name: string;
    project: string | null;
    owner: string;
    subject: string | null;
    role: Role | null;
    scopes: string[];
    metadata: Record<string, unknown>;
    expiresAt: Date | null;
    credits: number | null;
    rateRemaining: number | null;
    rateResetAt: Date | null;
    detail: Record<string, any> | null;
};
export type Asking = {
    scopes: readonly string[];
    project: string | null;
    minRole: Role | null;
    address: string | null;
    cost: number;
    costs: Record<string, number> | null;
    owner: string | null;
};
export type Incoming = {
    header: (name: string) => string | undefined;
    /**
     * the client's, behind trusted proxies
     */
    address: string | null;
};
/**
 * Verifies for one place of keys; what it demands may be told anew each time.
 *
 * @template R
 */
export declare class Verifier<R> {
    pool: import("./database.js").Pool;
    header: string;
    timeout: number;
    /** @type {Demand<R>} */
    demand: Demand<R>;
    /** @type {(limit: Limit) => boolean} */
    told: (limit: Limit) => boolean;
    tells: boolean;
    onError: (error: Error) => void;
    sql: {
        verify: string;
        authenticate: string;
        charge: string;
    };
    /** @param {Options<R>} options */
    constructor({ pool, schema, header, timeout, rateLimitFields: told, onError, ...demand }: Options<R>);
    /**
     * Says what is wrong with a demand before the first request comes.
     *
     * @param {Demand<R>} demand
     * @returns {Demand<R>} with what holds in general
     */
    demanding(demand: Demand<R>): Demand<R>;
    /**
     * @param {Demand<R>} demand
     * @param {R} request
     * @param {string | null} address
     * @returns {Promise<Asking>}
     */
    asking(demand: Demand<R>, request: R, address: string | null): Promise<Asking>;
    /**
     * @param {Offer} offered
     * @param {Asking} asking
     */
    argumentsOf(offered: Offer, asking: Asking): (string | number | Buffer<ArrayBufferLike> | readonly string[] | null)[];
    /**
     * What is no verdict: a mistake of ours is thrown on, everything else means
     * that nobody can decide now.
     *
     * @param {unknown} error
     * @returns {ApikeyRefused}
     */
    undecided(error: unknown): ApikeyRefused;
    /**
     * Whoever asks, or null for a request without a key where that may be.
     * Throws ApikeyRefused.
     *
     * @param {Incoming} incoming
     * @param {Demand<R>} demand by demanding()
     * @param {R} request what the functions of the demand are called with
     * @returns {Promise<Caller | null>}
     */
    admit(incoming: Incoming, demand: Demand<R>, request: R): Promise<Caller | null>;
}
/** Whoever asks, by its key. */
export declare class Caller {
    #private;
    /** the verified key */
    key: Key;
    /** fields of the response: what is left of the limits */
    headers: Record<string, string>;
    /**
     * @param {Verifier<any>} verifier
     * @param {Key} key
     * @param {Offer} offered
     * @param {Asking} asking
     * @param {Record<string, string>} fields
     */
    constructor(verifier: Verifier<any>, key: Key, offered: Offer, asking: Asking, fields: Record<string, string>);
    /**
     * Runs work in a transaction that is known as this key, for policies on the
     * application's tables.  The key is verified again, uncounted; where it was
     * revoked meanwhile, ApikeyRefused is thrown.
     *
     * @template T
     * @param {(client: Client) => Promise<T> | T} work
     * @param {{ readOnly?: boolean, isolation?: 'read committed' | 'repeatable read' | 'serializable' }} [options]
     * @returns {Promise<T>}
     */
    transaction<T>(work: (client: Client) => Promise<T> | T, { readOnly, isolation }?: {
        readOnly?: boolean;
        isolation?: 'read committed' | 'repeatable read' | 'serializable';
    }): Promise<T>;
    /**
     * What the request turned out to cost, beside what it was verified with:
     * spends, or with negative values gives back.
     *
     * @param {Record<string, number>} costs
     */
    charge(costs: Record<string, number>): Promise<void>;
}
