// A Fastify plugin.
import { bareAddress } from './address.js';
import { ApikeyRefused } from './refusal.js';
import { Verifier } from './verifier.js';

export { ApikeyRefused };

/** @typedef {import('fastify').FastifyRequest} Request */
/** @typedef {import('fastify').FastifyReply} Reply */
/** @typedef {import('./verifier.js').Demand<Request>} Demand */

/**
 * @typedef {Request & { apikey: import('./verifier.js').Caller | null }} ApikeyRequest
 */

/**
 * Sends a refusal; for an error handler, too.
 *
 * @param {Reply} reply
 * @param {ApikeyRefused} refused
 */
export function refuse(reply, refused) {
  return reply.code(refused.status).headers(refused.headers).send(refused.body);
}

/**
 * What makes hooks: apikey({ pool, project: 'acme' }), and then
 * { onRequest: guard({ scopes: ['invoices:read'] }) }.  The client's address is
 * request.ip, so set "trustProxy" to the proxies that are yours, and to nothing
 * wider.
 *
 * @param {import('./verifier.js').Options<Request>} options
 */
export function apikey(options) {
  const verifier = new Verifier(options);

  /** @param {Demand} [demand] */
  return function guard(demand = {}) {
    const demanded = verifier.demanding(demand);
    /** @type {(request: Request, reply: Reply) => Promise<Reply | undefined>} */
    return async (request, reply) => {
      const vary = reply.getHeader('vary');
      reply.header('Vary', [vary, verifier.header, 'authorization'].filter(Boolean).join(', '));
      /** @param {string} name */
      const header = (name) => {
        const value = request.headers[name];
        return Array.isArray(value) ? value.join(', ') : value;
      };
      try {
        const caller = await verifier.admit({ header, address: bareAddress(request.ip) }, demanded, request);
        if (caller !== null) reply.headers(caller.headers);
        /** @type {ApikeyRequest} */ (request).apikey = caller;
        return undefined;
      } catch (error) {
        if (error instanceof ApikeyRefused) return refuse(reply, error);
        throw error;
      }
    };
  };
}
