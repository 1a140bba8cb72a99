// Bad days, transactions, and what reaches the server.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ApikeyRefused, Verifier } from 'pg-apikey';
import { admin, createKey, frameworks, get, one, wayThrough, webPool } from './support.js';

const pool = webPool();
after(async () => { await pool.end(); await admin.end(); });
const options = { pool, schema: 'auth', project: 'acme' };

function admit(key, more = {}) {
  const verifier = new Verifier({ ...options, ...more });
  return verifier.admit({ header: (name) => (name === 'x-api-key' ? key : undefined), address: null }, verifier.demanding({}), {});
}
const refusedAs = (code) => (error) => error instanceof ApikeyRefused && error.code === code;

test('one statement and nothing else, warm', async (t) => {
  const key = await createKey();
  const seen = [];
  const counting = webPool({ max: 1 });
  t.after(() => counting.end());
  await admit(key, { pool: counting });
  const client = await counting.connect();
  const query = client.query;
  client.query = function (...args) { seen.push(args[0].text ?? args[0]); return query.apply(this, args); };
  client.release();
  await admit(key, { pool: counting });
  assert.equal(seen.length, 1);
});

test('the key itself is sent nowhere', async () => {
  const key = await createKey();
  const caller = await admit(key);
  await caller.transaction((db) => db.query('SELECT 1'));
  assert.equal(JSON.stringify(caller).includes(key.slice(-39)), false);
  const sent = new Verifier(options).argumentsOf({ handle: key.slice(0, -39), digest: Buffer.alloc(32) }, { costs: null });
  assert.equal(JSON.stringify(sent).includes(key.slice(-39)), false);
});

test('a connection that is cut is 503, and the next request is served', async (t) => {
  const key = await createKey();
  const way = await wayThrough();
  const errors = [];
  const far = webPool({ host: way.host, port: way.port });
  t.after(async () => { await far.end(); way.close(); });
  const server = await frameworks.express({ ...options, pool: far, onError: (error) => errors.push(error.message) });
  t.after(() => server.close());
  const key200 = async () => (await get(server.url, { 'x-api-key': key })).status;
  assert.equal(await key200(), 200);
  way.cut();
  // Which of the two notices first is chance: the pool, or the next request.
  assert.ok([200, 503].includes(await key200()));
  assert.equal(await key200(), 200);
});

test('a server that does not answer is 503 in time, and its connection is given up', async (t) => {
  const key = await createKey();
  const way = await wayThrough();
  const errors = [];
  const far = webPool({ host: way.host, port: way.port, max: 1 });
  t.after(async () => { await far.end(); way.close(); });
  const server = await frameworks.express({ ...options, pool: far, timeout: 300, onError: (error) => errors.push(error.message) });
  t.after(() => server.close());
  assert.equal((await get(server.url, { 'x-api-key': key })).status, 200);
  way.silence(true);
  for (let i = 0; i < 3; i++) {
    const { status, body, fields } = await get(server.url, { 'x-api-key': key });
    assert.deepEqual([status, body, fields['retry-after']], [503, { error: 'unavailable' }, '5']);
  }
  assert.equal(errors.length, 3);
  way.silence(false);
  way.cut();
  for (let i = 0; i < 100; i++) {
    if ((await get(server.url, { 'x-api-key': key })).status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail('it does not serve again');
});

test('a pool that is used up is 503 in time, and what comes late goes back', async (t) => {
  const key = await createKey();
  const narrow = webPool({ max: 1 });
  t.after(() => narrow.end());
  const held = await narrow.connect();
  await assert.rejects(admit(key, { pool: narrow, timeout: 200, onError: () => {} }), refusedAs('unavailable'));
  held.release();
  assert.equal((await admit(key, { pool: narrow, timeout: 60_000 })).key.project, 'acme/payments');
  assert.equal(narrow.idleCount, 1);
});

test('a connection that is lost in the middle ends nothing but its transaction', async (t) => {
  const key = await createKey();
  const pool = webPool({ max: 1 });
  t.after(() => pool.end());
  const caller = await admit(key, { pool, timeout: 60_000, onError: () => {} });
  await assert.rejects(caller.transaction(async (db) => {
    const { rows: [{ pid }] } = await db.query('SELECT pg_backend_pid() AS pid');
    const ended = new Promise((resolve) => db.once('end', resolve));
    await one('SELECT pg_terminate_backend($1)', pid);
    await ended;
    return db.query('SELECT 1');
  }));
  assert.equal((await admit(key, { pool, timeout: 60_000 })).key.project, 'acme/payments');
});

test('no server at all is 503', async (t) => {
  const nowhere = webPool({ host: '127.0.0.1', port: 1 });
  t.after(() => nowhere.end());
  await assert.rejects(admit(await createKey(), { pool: nowhere, onError: () => {} }), refusedAs('unavailable'));
});

test('a mistake of ours is no refusal, and is thrown', async () => {
  const key = await createKey();
  await assert.rejects(admit(key, { schema: 'nowhere' }), (error) => error.code === '3F000' || error.code === '42704');
  await assert.rejects(admit(key, { cost: -1 }), (error) => error.code === '22023');
  assert.equal((await admit(key)).key.project, 'acme/payments');
});

test('a transaction is known as the key, and nothing is after it', async (t) => {
  const single = webPool({ max: 1 });
  t.after(() => single.end());
  const caller = await admit(await createKey("'acme/website', scopes => '{invoices:read,invoices:write}'"), { pool: single });
  const who = 'SELECT auth.apikey_current_project() AS project';
  assert.equal((await caller.transaction((db) => db.query(who))).rows[0].project, 'acme/website');
  assert.equal((await single.query(who)).rows[0].project, null);
  await assert.rejects(caller.transaction(async (db) => {
    await db.query("INSERT INTO api.invoice (customer, amount) VALUES ('undone', 1)");
    throw new Error('mine');
  }), /mine/);
  await assert.rejects(caller.transaction((db) => db.query("INSERT INTO api.invoice (customer, amount) VALUES ('x', 1)"), { readOnly: true }),
    (error) => error.code === '25006');
  await assert.rejects(caller.transaction((db) => db.query('SELECT 1/0').catch(() => {})), /rolled back/);
  assert.equal((await caller.transaction((db) => db.query('SHOW transaction_isolation'), { isolation: 'serializable' })).rows[0].transaction_isolation, 'serializable');
  await assert.rejects(caller.transaction(() => {}, { isolation: 'read committed; DROP' }), TypeError);
  assert.equal(await one("SELECT count(*) FROM api.invoice WHERE customer = 'undone'"), '0');
  assert.equal((await single.query(who)).rows[0].project, null);
});

test('the last request of a limit still does its work', async () => {
  const key = await createKey("'acme/payments', scopes => '{*}', rate_limit => 1, rate_window => '1 hour'");
  const caller = await admit(key);
  assert.equal((await caller.transaction((db) => db.query('SELECT customer FROM api.invoice'))).rows.length, 2);
  await assert.rejects(admit(key), refusedAs('rate_limited'));
});
