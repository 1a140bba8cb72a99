// A small API with Hono.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import pg from 'pg';
import { apikey } from 'pg-apikey/hono';

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const guard = apikey({ pool, schema: 'auth', project: 'acme', trustedProxies: ['127.0.0.1'] });
const app = new Hono();

app.get('/invoices', guard({ scopes: ['invoices:read'] }), async (c) => {
  const caller = c.get('apikey');
  const { rows } = await caller.transaction((db) => db.query('SELECT customer, amount FROM api.invoice ORDER BY id'));
  return c.json({ caller: caller.key.name, invoices: rows });
});

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
