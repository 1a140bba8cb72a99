import { ApikeyRefused } from './refusal.js';
export { ApikeyRefused };
export type Context = import('hono').Context;
export type Demand = import('./verifier.js').Demand<Context>;
export type HonoOptions = {
    /**
     * addresses and networks whose X-Forwarded-For is believed
     */
    trustedProxies?: readonly string[];
    /**
     * the address that is connected; that of
     */
    peer?: (context: Context) => string | null | undefined;
};
/**
 * What makes middleware: apikey({ pool, project: 'acme' }), and then
 * guard({ scopes: ['invoices:read'] }).  Who asks is context.get('apikey').
 *
 * @param {import('./verifier.js').Options<Context> & HonoOptions} options
 */
export declare function apikey({ trustedProxies, peer, ...options }: import('./verifier.js').Options<Context> & HonoOptions): (demand?: Demand) => import('hono').MiddlewareHandler<{
    Variables: {
        apikey: import('./verifier.js').Caller | null;
    };
}>;
