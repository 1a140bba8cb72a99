// An API with one route for each scope.
import express from 'express';
import pg from 'pg';
import { apikey, refuse } from './apikey.js';

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const app = express();

pool.on('error', (error) => console.error(error.message));

app.get('/invoices', apikey(pool, 'acme', 'invoices:read'), async (req, res) => {
  const { rows } = await req.transaction((db) =>
    db.query('SELECT id, customer, amount FROM api.invoice ORDER BY id'));
  res.json(rows);
});

app.post('/invoices', apikey(pool, 'acme', 'invoices:write'), express.json(), async (req, res) => {
  const { customer, amount } = req.body ?? {};
  // No RETURNING: a key may write without being allowed to read.
  await req.transaction((db) =>
    db.query('INSERT INTO api.invoice (customer, amount) VALUES ($1, $2)', [customer, amount]));
  res.status(201).end();
});

app.get('/whoami', apikey(pool, 'acme'), (req, res) => {
  const { name, project, role, scopes } = req.key;
  res.json({ name, project, role, scopes });
});

app.use((error, req, res, next) => {
  if (res.headersSent) return next(error);
  if (error.code === '28000') return refuse(res, error.detail); // revoked a moment ago
  if (/^2[23]/.test(error.code)) return res.status(400).json({ error: 'bad value' });
  if (error.status < 500) return res.status(error.status).json({ error: 'bad request' });
  console.error(error.message);
  res.status(500).json({ error: 'internal error' });
});

const server = app.listen(process.env.PORT || 3000, '127.0.0.1', (error) => {
  if (error) throw error;
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
