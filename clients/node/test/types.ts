// Compiled, not run: what an application in TypeScript writes.
import express from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import pg from 'pg';
import { ApikeyRefused, Verifier, type Caller } from 'pg-apikey';
import { apikey as expressApikey, refusals, type ApikeyRequest } from 'pg-apikey/express';
import { apikey as fastifyApikey, refuse, type ApikeyRequest as FastifyApikeyRequest } from 'pg-apikey/fastify';
import { apikey as honoApikey } from 'pg-apikey/hono';

const pool = new pg.Pool({ user: 'web' });

const app = express();
const guard = expressApikey({ pool, schema: 'auth', project: 'acme' });
app.get('/', guard({ scopes: ['a'], minRole: 'admin', cost: (req) => Number(req.query.n) }), async (req, res) => {
  const { apikey } = req as ApikeyRequest;
  const rows: { n: number }[] = await apikey!.transaction(async (db) => (await db.query<{ n: number }>('SELECT 1 AS n')).rows);
  await apikey!.charge({ tokens: 5 });
  res.json(rows);
});
app.use(refusals);
// @ts-expect-error: a role that there is not
guard({ minRole: 'king' });
// @ts-expect-error: scopes are an array
guard({ scopes: 'a' });

const fastify = Fastify({ trustProxy: '127.0.0.1' });
const hook = fastifyApikey({ pool, owner: 'shop_app' });
fastify.get('/', { onRequest: hook({ costs: { tokens: 1 } }) }, async (request) => (request as FastifyApikeyRequest).apikey?.key.subject);
fastify.setErrorHandler((error, request, reply) => (error instanceof ApikeyRefused ? refuse(reply, error) : reply.send(error)));

const hono = new Hono();
const middleware = honoApikey({ pool, project: (c) => c.req.param('org'), trustedProxies: ['10.0.0.0/8'] });
hono.get('/:org', middleware(), (c) => {
  const caller: Caller | null = c.get('apikey');
  return c.json({ until: caller?.key.expiresAt?.toISOString() ?? null });
});

const verifier = new Verifier<{ ip: string }>({ pool, project: 'acme', cost: (request) => request.ip.length });
const demand = verifier.demanding({ scopes: ['a'] });
export const caller: Promise<Caller | null> = verifier.admit({ header: () => undefined, address: null }, demand, { ip: '' });
