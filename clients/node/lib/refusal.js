// A verification that failed, as a response.
import { secondsUntil } from './headers.js';

// 403: the key is good here, but may not do this.  Every other refusal is 401.
/** @type {Record<string, number>} */
const STATUS = {
  forbidden: 403,
  insufficient_role: 403,
  insufficient_scope: 403,
  rate_limited: 429,
  exhausted: 429,
  unavailable: 503,
};

const RETRY = 5; // seconds, where nobody knows

/**
 * The status of a code.
 *
 * @param {string} code
 */
export function statusOf(code) {
  return STATUS[code] ?? 401;
}

/**
 * WWW-Authenticate, as RFC 6750 has it.
 *
 * @param {string} code
 * @param {readonly string[]} scopes what was asked for
 */
function challenge(code, scopes) {
  if (code === 'missing') return 'Bearer';
  if (code !== 'insufficient_scope') return 'Bearer error="invalid_token"';
  const told = scopes.length > 0 && scopes.every((scope) => /^[\x21\x23-\x5B\x5D-\x7E]+$/.test(scope));
  return `Bearer error="insufficient_scope"${told ? `, scope="${scopes.join(' ')}"` : ''}`;
}

/**
 * @param {string} code
 * @param {{ scopes?: readonly string[], retryAt?: string | null, now?: number }} [more]
 * @returns {Record<string, string>}
 */
function fieldsOf(code, { scopes = [], retryAt = null, now = Date.now() } = {}) {
  const status = statusOf(code);
  /** @type {Record<string, string>} */
  const fields = { 'Cache-Control': 'no-store' };
  if (status === 401 || code === 'insufficient_scope') fields['WWW-Authenticate'] = challenge(code, scopes);
  if (status === 429 && retryAt !== null) fields['Retry-After'] = String(secondsUntil(retryAt, now));
  if (status === 503) fields['Retry-After'] = String(RETRY);
  return fields;
}

/**
 * A key that was refused.  Express and Fastify read status and headers of an
 * error, Hono calls getResponse, so it may simply be thrown.
 */
export class ApikeyRefused extends Error {
  /**
   * @param {string} code
   * @param {{ scopes?: readonly string[], retryAt?: string | null, now?: number, fields?: Record<string, string>,
   *           key?: import('./verifier.js').Key | null, cause?: unknown }} [more]
   */
  constructor(code, more = {}) {
    super(`API key refused: ${code}`, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'ApikeyRefused';
    /** why, as the database says it */
    this.code = code;
    this.status = this.statusCode = statusOf(code);
    this.expose = true;
    /** fields of the response */
    this.headers = { ...more.fields, ...fieldsOf(code, more) };
    /** the body of the response */
    this.body = { error: code };
    /** whose key it was, where its secret matched */
    this.key = more.key ?? null;
  }

  toJSON() {
    return this.body;
  }

  getResponse() {
    return new Response(JSON.stringify(this.body), {
      status: this.status,
      headers: { 'Content-Type': 'application/json', ...this.headers },
    });
  }
}
