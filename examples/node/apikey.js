// Express middleware: who is calling, by the API key of the request.
import { createHash } from 'node:crypto';

// 403: the key is good here, but may not do this. Every other refusal is 401.
const STATUS = {
  forbidden: 403,
  insufficient_role: 403,
  insufficient_scope: 403,
  rate_limited: 429,
  exhausted: 429,
  unavailable: 503,
};

// PostgreSQL never gets the key, so its logs cannot tell it: the key without
// its last 39 characters names it, the digest proves it. A token goes as it is.
// What has not the shape of one (two headers arrive as one text) is not passed
// on: "-" is no key.
function credential(req) {
  const bearer = /^bearer +(.*)$/i.exec(req.get('authorization') ?? '');
  const key = req.get('x-api-key') || bearer?.[1] || '';
  if (key === '') return ['', null];
  if (/^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$/.test(key))
    return [key.slice(0, -39), createHash('sha256').update(key).digest()];
  return [/^[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}$/.test(key) ? key : '-', null];
}

function seconds(until) {
  return Math.max(1, Math.ceil((new Date(until) - Date.now()) / 1000));
}

// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
function tellLimit(res, key) {
  if (key.rate_remaining === null) return;
  const window = Math.ceil(key.detail.rate_window_seconds);
  const reset = key.rate_reset_at ? `;t=${seconds(key.rate_reset_at)}` : '';
  res.set('RateLimit-Policy', `"key";q=${key.detail.rate_limit};w=${window}`);
  res.set('RateLimit', `"key";r=${key.rate_remaining}${reset}`);
}

export function refuse(res, code, retryAt) {
  const status = STATUS[code] ?? 401;
  if (status === 401) res.set('WWW-Authenticate', 'Bearer');
  if (retryAt) res.set('Retry-After', String(seconds(retryAt)));
  else if (status === 503) res.set('Retry-After', '5');
  res.status(status).json({ error: code });
}

// Lets a request pass whose key is of the project, or organization, and has
// the scopes. req.key is then the verified key, and req.transaction(work) runs
// work(client) in a transaction that is known as it.
export function apikey(pool, project, ...scopes) {
  return async (req, res, next) => {
    const offered = credential(req);
    const address = req.ip?.replace(/%.*$/, '');
    const { rows: [key] } = await pool.query(
      `SELECT * FROM auth.apikey_verify_digest($1, $2, scopes => $3, project => $4, client_addr => $5)`,
      [...offered, scopes, project, address]);
    tellLimit(res, key);
    if (!key.valid) return refuse(res, key.code, key.rate_reset_at);

    req.key = key;
    req.transaction = async (work) => {
      const client = await pool.connect();
      let failed;
      try {
        await client.query('BEGIN');
        // Counted already: cost 0.
        await client.query(
          `SELECT auth.apikey_authenticate_digest($1, $2, scopes => $3, project => $4, client_addr => $5, cost => 0)`,
          [...offered, scopes, project, address]);
        const result = await work(client);
        await client.query('COMMIT');
        return result;
      } catch (error) {
        await client.query('ROLLBACK').catch((lost) => { failed = lost; });
        throw error;
      } finally {
        client.release(failed);
      }
    };
    next();
  };
}
