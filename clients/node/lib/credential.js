// What a request offers, as the database is told it: a handle and a digest.
import { createHash } from 'node:crypto';

const KEY = /^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$/;
const TOKEN = /^[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}$/;
const SECRET = 39; // characters at a key's end: its secret and its checksum

/**
 * @typedef {object} Offer
 * @property {string} handle the key without its secret, a whole token, or ''
 * @property {Buffer | null} digest the SHA-256 of a whole key
 */

/**
 * A key as its handle and digest, so that the server never sees the key.  A
 * token goes as it is.  What has not the shape of one, as two headers that
 * arrive as one text, is not passed on: "-" is no key.
 *
 * @param {string} text
 * @returns {Offer}
 */
export function offer(text) {
  if (KEY.test(text))
    return { handle: text.slice(0, -SECRET), digest: createHash('sha256').update(text).digest() };
  return { handle: text === '' || TOKEN.test(text) ? text : '-', digest: null };
}

/**
 * The key of a request: the header's, else a Bearer token.
 *
 * @param {(name: string) => string | undefined} header
 * @param {string} name of the header
 * @param {boolean} optional a Bearer token of another shape, a JWT say, is not ours
 * @returns {string} '' for none
 */
export function keyOf(header, name, optional) {
  const key = header(name)?.trim();
  if (key) return key;
  const bearer = /^bearer +(.*)$/i.exec(header('authorization') ?? '')?.[1].trim() ?? '';
  return optional && !KEY.test(bearer) && !TOKEN.test(bearer) ? '' : bearer;
}
