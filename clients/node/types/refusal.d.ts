/**
 * The status of a code.
 *
 * @param {string} code
 */
export declare function statusOf(code: string): number;
/**
 * A key that was refused.  Express and Fastify read status and headers of an
 * error, Hono calls getResponse, so it may simply be thrown.
 */
export declare class ApikeyRefused extends Error {
    /** why, as the database says it */
    code: string;
    status: number;
    statusCode: number;
    expose: boolean;
    /** fields of the response */
    headers: {
        [x: string]: string;
    };
    /** the body of the response */
    body: {
        error: string;
    };
    /** whose key it was, where its secret matched */
    key: import("./verifier.js").Key | null;
    /**
     * @param {string} code
     * @param {{ scopes?: readonly string[], retryAt?: string | null, now?: number, fields?: Record<string, string>,
     *           key?: import('./verifier.js').Key | null, cause?: unknown }} [more]
     */
    constructor(code: string, more?: {
        scopes?: readonly string[];
        retryAt?: string | null;
        now?: number;
        fields?: Record<string, string>;
        key?: import('./verifier.js').Key | null;
        cause?: unknown;
    });
    toJSON(): {
        error: string;
    };
    getResponse(): import("undici-types").Response;
}
