// The same for each framework, with a live server.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { admin, createKey, frameworks, get, idOf, one, webPool } from './support.js';

const pool = webPool();
after(async () => { await pool.end(); await admin.end(); });

for (const [name, serve] of Object.entries(frameworks)) {
  const options = { pool, schema: 'auth', project: 'acme', scopes: ['invoices:read'] };

  async function served(t, demand, more, different = {}) {
    const server = await serve({ ...options, ...different }, demand, more);
    t.after(() => server.close());
    return server.url;
  }
  async function refused(url, headers, status, code) {
    const response = await get(url, headers);
    assert.deepEqual([response.status, response.body], [status, { error: code }]);
    assert.equal(response.fields['cache-control'], 'no-store');
    return response;
  }

  describe(name, () => {
    test('a key opens, and the work is known as it', async (t) => {
      const url = await served(t);
      const key = await createKey();
      for (const headers of [{ 'x-api-key': key }, { authorization: `Bearer ${key}` }, { 'x-api-key': '', authorization: `bearer ${key}` }]) {
        const { status, body, fields } = await get(url, headers);
        assert.deepEqual([status, body.rows], [200, 2]);
        assert.match(fields.vary, /x-api-key.*authorization/i);
        assert.equal(fields.ratelimit, undefined);
      }
      assert.equal(await one('SELECT use_count FROM auth.apikeys WHERE id = auth.apikey_id($1)', key), '3');
    });

    test('a token opens like its key', async (t) => {
      const url = await served(t);
      const key = await createKey();
      const token = await one('SELECT auth.apikey_token_create($1)', key);
      assert.equal((await get(url, { 'x-api-key': token })).body.rows, 2);
      assert.equal((await get(url, { authorization: `Bearer ${token}` })).status, 200);
      await refused(url, { 'x-api-key': `${token.slice(0, -6)}000000` }, 401, 'malformed');
      await one('SELECT auth.apikey_revoke(auth.apikey_id($1))', key);
      await refused(url, { 'x-api-key': token }, 401, 'revoked');
    });

    test('refusals', async (t) => {
      const url = await served(t);
      const key = await createKey();
      assert.equal((await refused(url, {}, 401, 'missing')).fields['www-authenticate'], 'Bearer');
      assert.equal((await refused(url, { 'x-api-key': 'nonsense' }, 401, 'malformed')).fields['www-authenticate'], 'Bearer error="invalid_token"');
      await refused(url, { authorization: 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln' }, 401, 'malformed');
      await refused(url, { 'x-api-key': `${key}, ${key}` }, 401, 'malformed');
      await refused(url, { 'x-api-key': `${key.slice(0, -39)}${'x'.repeat(39)}` }, 401, 'not_found');
      await refused(url, { 'x-api-key': await createKey("NULL, scopes => '{*}'") }, 401, 'wrong_project');
      const narrow = await createKey("'acme/payments', scopes => '{other}'");
      assert.equal((await refused(url, { 'x-api-key': narrow }, 403, 'insufficient_scope')).fields['www-authenticate'],
        'Bearer error="insufficient_scope", scope="invoices:read"');
      await one('SELECT auth.apikey_revoke(auth.apikey_id($1))', key);
      await refused(url, { 'x-api-key': key }, 401, 'revoked');
    });

    test('whose key, which role', async (t) => {
      const personal = await createKey("NULL, scopes => '{*}'");
      const owner = await one('SELECT current_user');
      const developer = await createKey("'acme/payments', scopes => '{*}', role => 'developer'");
      const byOwner = await served(t, { project: null, owner });
      assert.equal((await get(byOwner, { 'x-api-key': personal })).status, 200);
      await refused(byOwner, { 'x-api-key': developer }, 401, 'wrong_owner');
      await refused(await served(t, { minRole: 'admin' }), { 'x-api-key': developer }, 403, 'insufficient_role');
      // A role that is not there is a mistake, and never anybody's key.
      assert.equal((await get(await served(t, { project: null, owner: 'nobody "here"' }), { 'x-api-key': personal })).status, 500);
      assert.equal((await get(await served(t, { project: () => null }), { 'x-api-key': personal })).status, 500);
    });

    test('a demand may follow from the request', async (t) => {
      const key = await createKey("'acme/website', scopes => '{a}'");
      const at = async (demand) => (await get(await served(t, demand), { 'x-api-key': key })).body.error ?? 'passed';
      assert.equal(await at({ project: async () => 'acme/website', scopes: () => ['a'] }), 'passed');
      assert.equal(await at({ project: () => 'acme/payments', scopes: () => ['a'] }), 'wrong_project');
      assert.equal(await at({ scopes: () => ['b'] }), 'insufficient_scope');
    });

    test('several limits', async (t) => {
      const key = await createKey("'acme/website', scopes => '{*}', rate_limit => 3, rate_window => '1 hour', credits => 100");
      const id = await idOf(key);
      await one("SELECT auth.apikey_limit_set('tokens', 1000, '1 day', kind => 'quota', key => $1)", id);
      const url = await served(t, { costs: { tokens: 300 } });
      const first = await get(url, { 'x-api-key': key });
      assert.equal(first.fields['ratelimit-policy'], '"key-requests-3600";q=3;w=3600, "key-tokens-quota-86400";q=1000;qu="tokens";w=86400');
      assert.match(first.fields.ratelimit, /^"key-requests-3600";r=2;t=\d+, "key-tokens-quota-86400";r=700;t=\d+$/);
      await get(url, { 'x-api-key': key });
      await get(url, { 'x-api-key': key });
      const fourth = await refused(url, { 'x-api-key': key }, 429, 'rate_limited');
      assert.match(fourth.fields.ratelimit, /^"key-requests-3600";r=0;t=\d+$/);
      assert.ok(Number(fourth.fields['retry-after']) > 1000 && Number(fourth.fields['retry-after']) <= 1200);
      const free = await served(t, { cost: 0, costs: { tokens: 300 } });
      const fifth = await refused(free, { 'x-api-key': key }, 429, 'exhausted');
      assert.match(fifth.fields.ratelimit, /^"key-tokens-quota-86400";r=100;t=\d+$/);
      assert.ok(Number(fifth.fields['retry-after']) <= 86400);
      const quiet = await served(t, { cost: 0 }, {}, { rateLimitFields: false });
      assert.equal((await get(quiet, { 'x-api-key': key })).fields.ratelimit, undefined);
      const chosen = await served(t, { cost: 0 }, {}, { rateLimitFields: (limit) => limit.unit === 'tokens' });
      assert.match((await get(chosen, { 'x-api-key': key })).fields.ratelimit, /^"key-tokens-quota-86400";r=100;t=\d+$/);
    });

    test('a charge afterwards', async (t) => {
      const key = await createKey("'acme/website', scopes => '{*}'");
      await one("SELECT auth.apikey_limit_set('tokens', 1000, '1 day', kind => 'quota', key => $1)", await idOf(key));
      const url = await served(t, { costs: { tokens: 100 } }, { during: (caller) => caller.charge({ tokens: 250 }) });
      await get(url, { 'x-api-key': key });
      const { fields } = await get(url, { 'x-api-key': key });
      assert.match(fields.ratelimit, /r=550;/);
    });

    test('the client behind a proxy', async (t) => {
      const key = await createKey("'acme/payments', scopes => '{*}', allowed_ips => '{198.51.100.0/24}'");
      const from = (url, forwarded) => get(url, { 'x-api-key': key, 'x-forwarded-for': forwarded });
      const behind = await served(t, {}, { trust: '127.0.0.1' });
      assert.equal((await from(behind, '198.51.100.7')).status, 200);
      assert.equal((await from(behind, '198.51.100.7, 203.0.113.1')).body.error, 'ip_denied');
      assert.equal((await from(behind, '198.51.100.7, unknown')).body.error, 'ip_denied');
      assert.equal((await from(await served(t), '198.51.100.7')).body.error, 'ip_denied');
    });

    test('nobody, where that may be', async (t) => {
      const url = await served(t, { optional: true });
      assert.deepEqual((await get(url)).body, { name: null, rows: 0 });
      assert.deepEqual((await get(url, { authorization: 'Bearer eyJ.a.b' })).body, { name: null, rows: 0 });
      await refused(url, { 'x-api-key': 'nonsense' }, 401, 'malformed');
    });

    test('revoked between verification and work', async (t) => {
      const key = await createKey();
      const url = await served(t, {}, { during: async () => { await one('SELECT auth.apikey_revoke(auth.apikey_id($1))', key); } });
      await refused(url, { 'x-api-key': key }, 401, 'revoked');
    });
  });
}
