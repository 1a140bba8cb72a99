// Everything that changes something goes through here: once for each form, in
// one transaction, with what the database refuses told in the user's language.
import { setCookie } from 'hono/cookie';
import { as, isRefusal } from './database.js';

// Sent before: what it did then stands, and is to be seen at a location.
export class Sent extends Error {}
// What somebody wanted does not go with what is there now; with a field, with
// what was typed there.
export class Conflict extends Error {
  constructor(text, field) {
    super(text);
    this.field = field;
  }
}
// There is no such thing, or not for this user: the same text for both.
export class NotFound extends Error {}

// A refusal of ours, told as the database's are: by a SQLSTATE, the field, and the
// rule where it has one.
export const refusal = (code, column, constraint) => Object.assign(new Error(), { code, column, constraint });

// Runs work(db) for the form at hand.  It returns { go, notice }, where to go
// then and what to say there, with whatever else; we return that, or { problem }.
export async function change(c, work) {
  try {
    return await as(c.get('user'), async (db) => {
      // A second sending waits here for the first, and finds it.
      const first = await db.one(
        'INSERT INTO console.sent (form) VALUES ($1) ON CONFLICT DO NOTHING RETURNING form', [c.get('sent')]);
      if (!first) {
        const before = await db.one('SELECT location FROM console.sent WHERE form = $1', [c.get('sent')]);
        throw new Sent(before?.location ?? '/');
      }
      const result = await work(db);
      await db.one('UPDATE console.sent SET location = $2 WHERE form = $1', [c.get('sent'), result.go]);
      return result;
    });
  } catch (error) {
    if (error instanceof Conflict) return { problem: { text: error.message, field: error.field, conflict: !error.field } };
    if (!isRefusal(error)) throw error;
    return { problem: explain(c, error) };
  }
}

export function leave(c, { go, notice }) {
  if (notice) setCookie(c, 'notice', notice.join('.'), { ...c.get('cookieOptions'), maxAge: 60 });
  return c.redirect(go, 303);
}

// One at a time may change this: what a form was made from is compared with what
// is there now, and then written.
export const lock = (db, what) => db.one('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [what]);

// The status of a page that shows a form again, with what was wrong.
export const statusOf = (problem) => problem ? problem.conflict ? 409 : 422 : 200;

// Arguments whose field has another name, where a form has none of theirs.
const FIELDS = { amount: 'quota', path: 'name' };

// A text for an error by the rule that was broken, else by its kind.
export function explain(c, error) {
  const t = c.get('t');
  const text = t.errors[error.constraint] ?? t.errors[error.code] ?? t.errors.other;
  return {
    field: error.column in c.get('form') ? error.column : FIELDS[error.column] ?? error.column,
    text: typeof text === 'function' ? text(error) : text,
    code: error.code,
  };
}
