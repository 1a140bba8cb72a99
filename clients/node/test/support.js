// What the tests share.  They want PGHOST, PGPORT, PGDATABASE and a superuser
// there, the tables of examples/schema.sql, and the library preloaded.
import net from 'node:net';
import { createServer } from 'node:http';
import express from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import { getRequestListener } from '@hono/node-server';
import pg from 'pg';
import * as forExpress from 'pg-apikey/express';
import * as forFastify from 'pg-apikey/fastify';
import * as forHono from 'pg-apikey/hono';

export const admin = new pg.Pool({ max: 2 });

/** A pool of the server's role, which the policies hold for. */
export function webPool(more = {}) {
  return new pg.Pool({ user: 'web', max: 4, ...more });
}

export async function one(text, ...values) {
  const { rows } = await admin.query({ text, values, rowMode: 'array' });
  return rows[0]?.[0];
}

let count = 0;

/** A new key; args in SQL. */
export function createKey(args = "'acme/payments', scopes => '{invoices:read}'") {
  return one(`SELECT auth.apikey_create('node-${process.pid}-${++count}', ${args})`);
}

export function idOf(key) {
  return one('SELECT auth.apikey_id($1)', key);
}

async function listening(server) {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

const INVOICES = 'SELECT customer FROM api.invoice ORDER BY id';

// Each makes the same small API: GET /guarded, with what a test demands, says
// who asks and what it may see; "during" runs in between.
export const frameworks = {
  async express(options, demand, { during = async () => {}, trust } = {}) {
    const app = express();
    if (trust) app.set('trust proxy', trust);
    const guard = forExpress.apikey(options);
    app.get('/guarded', guard(demand), async (req, res) => {
      await during(req.apikey);
      const { rows } = await req.apikey?.transaction((db) => db.query(INVOICES)) ?? { rows: [] };
      res.json({ name: req.apikey?.key.name ?? null, rows: rows.length });
    });
    app.use(forExpress.refusals);
    app.use((error, req, res, next) => res.status(500).json({ error: 'internal error' }));
    const server = createServer(app);
    return { url: await listening(server), close: () => server.close() };
  },

  async fastify(options, demand, { during = async () => {}, trust } = {}) {
    const app = Fastify(trust ? { trustProxy: trust } : {});
    const guard = forFastify.apikey(options);
    app.get('/guarded', { onRequest: guard(demand) }, async (request) => {
      await during(request.apikey);
      const { rows } = await request.apikey?.transaction((db) => db.query(INVOICES)) ?? { rows: [] };
      return { name: request.apikey?.key.name ?? null, rows: rows.length };
    });
    app.setErrorHandler((error, request, reply) => {
      if (error instanceof forFastify.ApikeyRefused) return forFastify.refuse(reply, error);
      return reply.code(500).send({ error: 'internal error' });
    });
    await app.listen({ host: '127.0.0.1', port: 0 });
    return { url: `http://127.0.0.1:${app.server.address().port}`, close: () => app.close() };
  },

  async hono(options, demand, { during = async () => {}, trust } = {}) {
    const app = new Hono();
    const guard = forHono.apikey({ ...options, trustedProxies: trust ? [trust] : [] });
    app.get('/guarded', guard(demand), async (c) => {
      const caller = c.get('apikey');
      await during(caller);
      const { rows } = await caller?.transaction((db) => db.query(INVOICES)) ?? { rows: [] };
      return c.json({ name: caller?.key.name ?? null, rows: rows.length });
    });
    app.onError((error, c) => ('getResponse' in error ? error.getResponse() : c.json({ error: 'internal error' }, 500)));
    const server = createServer(getRequestListener(app.fetch));
    return { url: await listening(server), close: () => server.close() };
  },
};

/** A request, and all that its response says. */
export async function get(url, headers = {}) {
  const response = await fetch(`${url}/guarded`, { headers });
  const fields = Object.fromEntries(response.headers);
  return { status: response.status, fields, body: await response.json() };
}

/** A way to the database that can be cut, or just stop to answer. */
export async function wayThrough() {
  const host = process.env.PGHOST ?? 'localhost';
  const port = Number(process.env.PGPORT ?? 5432);
  const pairs = new Set();
  let silent = false;
  const server = net.createServer((client) => {
    const database = host.startsWith('/') ? net.connect(`${host}/.s.PGSQL.${port}`) : net.connect(port, host);
    const pair = [client, database];
    pairs.add(pair);
    for (const [from, to] of [pair, [database, client]]) {
      from.on('data', (data) => { if (!silent) to.write(data); });
      from.on('error', () => {});
      from.on('close', () => { to.destroy(); pairs.delete(pair); });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: '127.0.0.1',
    port: server.address().port,
    silence(value) { silent = value; },
    cut() { for (const pair of pairs) pair[0].destroy(); },
    close() { this.cut(); server.close(); },
  };
}
