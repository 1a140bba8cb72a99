// A small API with Express.
import express from 'express';
import pg from 'pg';
import { apikey, refusals } from 'pg-apikey/express';

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const guard = apikey({ pool, schema: 'auth', project: 'acme' });
const app = express();
app.set('trust proxy', '127.0.0.1'); // who stands before us, or nobody

app.get('/invoices', guard({ scopes: ['invoices:read'] }), async (req, res) => {
  const { rows } = await req.apikey.transaction((db) => db.query('SELECT customer, amount FROM api.invoice ORDER BY id'));
  res.json({ caller: req.apikey.key.name, invoices: rows });
});

app.use(refusals); // a key that was revoked a moment ago
app.listen(process.env.PORT ?? 3000, '127.0.0.1');
