// A small API with Fastify.
import Fastify from 'fastify';
import pg from 'pg';
import { apikey } from 'pg-apikey/fastify';

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const guard = apikey({ pool, schema: 'auth', project: 'acme' });
const app = Fastify({ trustProxy: '127.0.0.1' }); // who stands before us, or nobody

app.get('/invoices', { onRequest: guard({ scopes: ['invoices:read'] }) }, async (request) => {
  const { rows } = await request.apikey.transaction((db) => db.query('SELECT customer, amount FROM api.invoice ORDER BY id'));
  return { caller: request.apikey.key.name, invoices: rows };
});

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
