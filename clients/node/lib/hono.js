// Hono middleware.
import { clientAddress, trusting } from './address.js';
import { ApikeyRefused } from './refusal.js';
import { Verifier } from './verifier.js';

export { ApikeyRefused };

/** @typedef {import('hono').Context} Context */
/** @typedef {import('./verifier.js').Demand<Context>} Demand */

/**
 * @typedef {object} HonoOptions
 * @property {readonly string[]} [trustedProxies] addresses and networks whose X-Forwarded-For is believed
 * @property {(context: Context) => string | null | undefined} [peer] the address that is connected; that of @hono/node-server
 */

/** @param {Context} context */
function nodePeer(context) {
  return context.env?.incoming?.socket?.remoteAddress;
}

/**
 * What makes middleware: apikey({ pool, project: 'acme' }), and then
 * guard({ scopes: ['invoices:read'] }).  Who asks is context.get('apikey').
 *
 * @param {import('./verifier.js').Options<Context> & HonoOptions} options
 */
export function apikey({ trustedProxies = [], peer = nodePeer, ...options }) {
  const verifier = new Verifier(/** @type {import('./verifier.js').Options<Context>} */ (options));
  const trusted = trusting(trustedProxies);

  /** @param {Demand} [demand] */
  return function guard(demand = {}) {
    const demanded = verifier.demanding(demand);
    /** @type {import('hono').MiddlewareHandler<{ Variables: { apikey: import('./verifier.js').Caller | null } }>} */
    return async (context, next) => {
      const header = (/** @type {string} */ name) => context.req.header(name);
      const vary = () => context.header('Vary', `${verifier.header}, authorization`, { append: true });
      let caller;
      try {
        const address = clientAddress(peer(context), header('x-forwarded-for'), trusted);
        caller = await verifier.admit({ header, address }, demanded, context);
      } catch (error) {
        if (!(error instanceof ApikeyRefused)) throw error;
        vary();
        return context.json(error.body, /** @type {any} */ (error.status), error.headers);
      }
      context.set('apikey', caller);
      await next();
      vary();
      for (const [name, value] of Object.entries(caller?.headers ?? {})) context.header(name, value);
      return undefined;
    };
  };
}
