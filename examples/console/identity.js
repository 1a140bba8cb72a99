// Who is calling.  THIS IS WHAT YOU REPLACE: a page where everybody may choose
// to be anybody stands in for your log-in.  All that the rest of the console
// asks is user(c): the id of the signed-in user, or nothing.
//
// Where CONSOLE_USER_HEADER names a header, a proxy in front of the console says
// who it is, and nobody signs in here.  The proxy has to remove that header from
// what a client sends, and nobody else may reach the console's port.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { getCookie, setCookie, deleteCookie } from 'hono/cookie';
import { html } from 'hono/html';
import { people } from './database.js';
import { form, page } from './layout.js';

const HEADER = process.env.CONSOLE_USER_HEADER;
const SECONDS = Number(process.env.CONSOLE_SESSION_SECONDS || 8 * 3600);
// Without a secret of yours a restart signs everybody out.
const SECRET = process.env.CONSOLE_SECRET || randomBytes(32);
export const ORIGIN = process.env.CONSOLE_ORIGIN || `http://localhost:${process.env.PORT || 3000}`;
export const cookieOptions = { path: '/', httpOnly: true, sameSite: 'Lax', secure: ORIGIN.startsWith('https:') };

export const byProxy = Boolean(HEADER);

function mac(...parts) {
  return createHmac('sha256', SECRET).update(JSON.stringify(parts)).digest('base64url');
}

function same(a, b) {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

export function user(c) {
  // Two headers arrive as one text with a comma, which is no id.
  if (HEADER) return /^[\x21-\x2b\x2d-\x7e]{1,255}$/.exec(c.req.header(HEADER) ?? '')?.[0];
  const [id, until, proof] = (getCookie(c, 'session') ?? '').split('~');
  if (proof && same(proof, mac('session', id, until)) && Number(until) > Date.now()) return id;
}

// A form's token: it is from us, for this user, and of this one form.  It
// outlives the session, so that what was typed is not lost with it.
export function newToken(user) {
  const form = randomBytes(15).toString('base64url');
  return `${form}.${mac('form', user, form)}`;
}

// The form's number, or nothing.
export function checkToken(user, token) {
  const [form, proof] = String(token).split('.');
  if (proof && same(proof, mac('form', user, form))) return form;
}

export function signInRoutes(app) {
  app.get('/sign-in', async (c) => {
    const t = c.get('t');
    const choice = (person) => html`<label class="choice"><input type="radio" name="person" value="${person.id}" required>
      <span><b>${person.name}</b><small>${person.email}</small></span></label>`;
    return page(c, {
      title: t.signIn,
      narrow: true,
      body: html`<p class="warning">${t.standIn}</p>
        ${form(c, '/sign-in', html`<fieldset><legend>${t.whoAreYou}</legend>${(await people('true')).map(choice)}</fieldset>`,
          { submit: t.signIn })}`,
    });
  });
  app.post('/sign-in', async (c) => {
    const [person] = await people('id = $1', String(c.get('form').person));
    if (!person) return c.redirect('/sign-in', 303);
    const until = String(Date.now() + 1000 * SECONDS);
    setCookie(c, 'session', [person.id, until, mac('session', person.id, until)].join('~'),
      { ...cookieOptions, maxAge: SECONDS });
    return c.redirect('/', 303);
  });
  app.post('/sign-out', (c) => {
    deleteCookie(c, 'session', cookieOptions);
    return c.redirect('/sign-in', 303);
  });
}
