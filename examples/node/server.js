// An API with one route for each scope.
import express from 'express';
import pg from 'pg';
import { apikey, refusals } from 'pg-apikey/express';

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const app = express();
const guard = apikey({ pool, schema: 'auth', project: 'acme' });

app.get('/invoices', guard({ scopes: ['invoices:read'] }), async (req, res) => {
  const { rows } = await req.apikey.transaction((db) =>
    db.query('SELECT id, customer, amount FROM api.invoice ORDER BY id'));
  res.json(rows);
});

app.post('/invoices', guard({ scopes: ['invoices:write'] }), express.json(), async (req, res) => {
  const { customer, amount } = req.body ?? {};
  // No RETURNING: a key may write without being allowed to read.
  await req.apikey.transaction((db) =>
    db.query('INSERT INTO api.invoice (customer, amount) VALUES ($1, $2)', [customer, amount]));
  res.status(201).end();
});

app.get('/whoami', guard(), (req, res) => {
  const { name, project, role, scopes } = req.apikey.key;
  res.json({ name, project, role, scopes });
});

app.use(refusals); // revoked a moment ago
app.use((error, req, res, next) => {
  if (res.headersSent) return next(error);
  if (/^2[23]/.test(error.code)) return res.status(400).json({ error: 'bad value' });
  if (error.status < 500) return res.status(error.status).json({ error: 'bad request' });
  console.error(error.message);
  res.status(500).json({ error: 'internal error' });
});

const server = app.listen(process.env.PORT || 3000, '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
