// Express middleware.
import { bareAddress } from './address.js';
import { ApikeyRefused } from './refusal.js';
import { Verifier } from './verifier.js';

export { ApikeyRefused };

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
export function refuse(res, refused) {
  res.set(refused.headers).status(refused.status).json(refused.body);
}

/**
 * What makes middleware: apikey({ pool, project: 'acme' }), and then
 * guard({ scopes: ['invoices:read'] }).  The client's address is req.ip, so
 * set "trust proxy" to the proxies that are yours, and to nothing wider.
 *
 * @param {import('./verifier.js').Options<Request>} options
 */
export function apikey(options) {
  const verifier = new Verifier(options);

  /** @param {Demand} [demand] */
  return function guard(demand = {}) {
    const demanded = verifier.demanding(demand);
    /** @type {(req: Request, res: Response, next: Next) => Promise<void>} */
    return async (req, res, next) => {
      res.vary(`${verifier.header}, authorization`);
      try {
        const caller = await verifier.admit({ header: (name) => req.get(name), address: bareAddress(req.ip) }, demanded, req);
        if (caller !== null) res.set(caller.headers);
        /** @type {ApikeyRequest} */ (req).apikey = caller;
      } catch (error) {
        if (error instanceof ApikeyRefused) return refuse(res, error);
        return next(error);
      }
      next();
    };
  };
}

/**
 * The error handler for keys that are refused while a route runs: in its
 * transaction.
 *
 * @param {unknown} error
 * @param {Request} req
 * @param {Response} res
 * @param {Next} next
 */
export function refusals(error, req, res, next) {
  if (error instanceof ApikeyRefused && !res.headersSent) return refuse(res, error);
  next(error);
}
