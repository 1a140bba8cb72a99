import { ApikeyRefused } from './refusal.js';
export { ApikeyRefused };
export type Request = import('fastify').FastifyRequest;
export type Reply = import('fastify').FastifyReply;
export type Demand = import('./verifier.js').Demand<Request>;
export type ApikeyRequest = Request & {
    apikey: import('./verifier.js').Caller | null;
};
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
export declare function refuse(reply: Reply, refused: ApikeyRefused): import("fastify").FastifyReply<import("fastify").RouteGenericInterface, import("fastify").RawServerDefault, import("http").IncomingMessage, import("http").ServerResponse<import("http").IncomingMessage>, any, import("fastify").FastifySchema, import("fastify").FastifyTypeProviderDefault, unknown>;
/**
 * What makes hooks: apikey({ pool, project: 'acme' }), and then
 * { onRequest: guard({ scopes: ['invoices:read'] }) }.  The client's address is
 * request.ip, so set "trustProxy" to the proxies that are yours, and to nothing
 * wider.
 *
 * @param {import('./verifier.js').Options<Request>} options
 */
export declare function apikey(options: import('./verifier.js').Options<Request>): (demand?: Demand) => (request: Request, reply: Reply) => Promise<Reply | undefined>;
