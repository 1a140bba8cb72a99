import { ApikeyRefused } from './refusal.js';
export { ApikeyRefused };
export type Request = import('express').Request;
export type Response = import('express').Response;
export type Next = import('express').NextFunction;
export type Demand = import('./verifier.js').Demand<Request>;
export type ApikeyRequest = Request & {
    apikey: import('./verifier.js').Caller | null;
};
/** @typedef {import('express').Request} Request */
/** @typedef {import('express').Response} Response */
/** @typedef {import('express').NextFunction} Next */
/** @typedef {import('./verifier.js').Demand<Request>} Demand */
/**
 * @typedef {Request & { apikey: import('./verifier.js').Caller | null }} ApikeyRequest
 */
/**
 * Sends a refusal; for an error handler, too.
 *
 * @param {Response} res
 * @param {ApikeyRefused} refused
 */
export declare function refuse(res: Response, refused: ApikeyRefused): void;
/**
 * What makes middleware: apikey({ pool, project: 'acme' }), and then
 * guard({ scopes: ['invoices:read'] }).  The client's address is req.ip, so
 * set "trust proxy" to the proxies that are yours, and to nothing wider.
 *
 * @param {import('./verifier.js').Options<Request>} options
 */
export declare function apikey(options: import('./verifier.js').Options<Request>): (demand?: Demand) => (req: Request, res: Response, next: Next) => Promise<void>;
/**
 * The error handler for keys that are refused while a route runs: in its
 * transaction.
 *
 * @param {unknown} error
 * @param {Request} req
 * @param {Response} res
 * @param {Next} next
 */
export declare function refusals(error: unknown, req: Request, res: Response, next: Next): void;
