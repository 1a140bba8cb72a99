// What needs no database.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApikeyRefused, bareAddress, clientAddress, keyOf, offer, rateLimitFields, trusting, Verifier } from 'pg-apikey';

const KEY = 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk';
const TOKEN = `ak_t_${'A'.repeat(60)}`;
const pool = { listenerCount: () => 1 };

test('a key is sent as its handle and digest', () => {
  const { handle, digest } = offer(KEY);
  assert.equal(handle, 'ak_02wRkw0VOLV5IXCz2Z5e9v');
  assert.equal(digest.length, 32);
});

test('a token goes as it is, other texts do not go', () => {
  assert.deepEqual(offer(TOKEN), { handle: TOKEN, digest: null });
  assert.deepEqual(offer(''), { handle: '', digest: null });
  for (const text of ['nonsense', `${KEY}, ${KEY}`, `${KEY}\n`, KEY.slice(0, -1), 'x'.repeat(100_000)])
    assert.deepEqual(offer(text), { handle: '-', digest: null });
});

test('the header comes before a Bearer token', () => {
  const from = (headers, optional = false) => keyOf((name) => headers[name], 'x-api-key', optional);
  assert.equal(from({ 'x-api-key': ' a ', authorization: 'Bearer b' }), 'a');
  assert.equal(from({ 'x-api-key': '', authorization: 'bearer  b ' }), 'b');
  assert.equal(from({ authorization: 'Basic b' }), '');
  assert.equal(from({ authorization: 'Bearer eyJ.x.y' }), 'eyJ.x.y');
  assert.equal(from({ authorization: 'Bearer eyJ.x.y' }, true), '');
  assert.equal(from({ authorization: `Bearer ${TOKEN}` }, true), TOKEN);
});

test('addresses lose port, brackets and zone', () => {
  for (const [text, address] of Object.entries({
    '192.0.2.1': '192.0.2.1', '192.0.2.1:80': '192.0.2.1', '::ffff:192.0.2.1': '192.0.2.1', '[2001:db8::1]:443': '2001:db8::1',
    'fe80::1%eth0': 'fe80::1', '2001:db8::1': '2001:db8::1', unknown: null, '': null, '1.2.3': null, "'": null,
  })) assert.equal(bareAddress(text), address);
  assert.equal(bareAddress(undefined), null);
});

test('what a client writes into X-Forwarded-For is not believed', () => {
  const trusted = trusting(['10.0.0.0/8', '127.0.0.1', 'fd00::/8']);
  const at = (peer, forwarded) => clientAddress(peer, forwarded, trusted);
  assert.equal(at('192.0.2.9', '198.51.100.1'), '192.0.2.9');
  assert.equal(at('127.0.0.1', '198.51.100.1'), '198.51.100.1');
  assert.equal(at('::ffff:10.1.1.1', '203.0.113.7, 198.51.100.1, 10.9.9.9'), '198.51.100.1');
  assert.equal(at('fd00::1', '198.51.100.1:4711'), '198.51.100.1');
  assert.equal(at('127.0.0.1', '10.0.0.2'), '10.0.0.2');
  assert.equal(at('127.0.0.1', '198.51.100.1, unknown'), null);
  assert.equal(at('127.0.0.1', undefined), '127.0.0.1');
  assert.equal(at(undefined, '198.51.100.1'), null);
  assert.throws(() => trusting(['10.0.0.0/33']), TypeError);
  assert.throws(() => trusting(['loopback']), TypeError);
});

test('each limit has its item', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const limit = { holder: 'key', unit: 'requests', kind: 'rate', amount: 60, period_seconds: 60, remaining: 59, resets_at: '2026-01-01T00:00:01+00:00' };
  assert.deepEqual(rateLimitFields([], now), {});
  assert.deepEqual(rateLimitFields([
    limit,
    { ...limit, kind: 'balance', amount: null, period_seconds: null, resets_at: null },
    { ...limit, holder: 'subject', unit: 'tokens', kind: 'quota', amount: 2 ** 53, period_seconds: 86400, remaining: -5, resets_at: '2026-01-02T00:00:00+00:00' },
    { ...limit, amount: 7, period_seconds: 59.5, resets_at: null },
  ], now), {
    'RateLimit-Policy': '"key-requests-60";q=60;w=60, "subject-tokens-quota-86400";q=999999999999999;qu="tokens";w=86400, "key-requests-60-2";q=7;w=60',
    RateLimit: '"key-requests-60";r=59;t=1, "subject-tokens-quota-86400";r=0;t=86400, "key-requests-60-2";r=59',
  });
});

test('a refusal is a response', async () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  assert.deepEqual({ ...new ApikeyRefused('rate_limited', { now, retryAt: '2026-01-01T00:00:02.1Z' }).headers },
    { 'Cache-Control': 'no-store', 'Retry-After': '3' });
  assert.equal(new ApikeyRefused('exhausted').headers['Retry-After'], undefined);
  assert.equal(new ApikeyRefused('unavailable').headers['Retry-After'], '5');
  assert.equal(new ApikeyRefused('missing').headers['WWW-Authenticate'], 'Bearer');
  assert.equal(new ApikeyRefused('revoked').headers['WWW-Authenticate'], 'Bearer error="invalid_token"');
  assert.equal(new ApikeyRefused('insufficient_scope', { scopes: ['a:b', 'c'] }).headers['WWW-Authenticate'],
    'Bearer error="insufficient_scope", scope="a:b c"');
  assert.equal(new ApikeyRefused('insufficient_scope', { scopes: ['"é'] }).headers['WWW-Authenticate'], 'Bearer error="insufficient_scope"');
  const response = new ApikeyRefused('forbidden').getResponse();
  assert.equal(response.status, 403);
  assert.deepEqual(await response.json(), { error: 'forbidden' });
});

test('nobody forgets to say whose keys, and no demand is dropped by mistake', async () => {
  const verifier = new Verifier({ pool });
  assert.throws(() => verifier.demanding({}), /whose keys/);
  assert.throws(() => verifier.demanding({ project: 'acme', scopes: 'invoices:read' }), /array/);
  await assert.rejects(verifier.asking(verifier.demanding({ project: () => undefined }), {}, null), TypeError);
  await assert.rejects(verifier.asking(verifier.demanding({ project: 'acme', owner: () => '' }), {}, null), TypeError);
  for (const demand of [{ scopes: () => undefined }, { scopes: () => 'a' }, { scopes: () => [undefined] }, { minRole: async () => undefined }])
    await assert.rejects(verifier.asking(verifier.demanding({ project: 'acme', ...demand }), {}, null), TypeError);
  for (const scopes of [null, 'a', [1]]) assert.throws(() => verifier.demanding({ project: 'acme', scopes }), TypeError);
  assert.throws(() => new Verifier({}), TypeError);
  assert.throws(() => new Verifier({ pool, timeout: 0 }), TypeError);
});
