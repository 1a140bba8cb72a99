// The page "API Keys" of a hosted service.
import { readFile } from 'node:fs/promises';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { getCookie, setCookie } from 'hono/cookie';
import { html } from 'hono/html';
import { secureHeaders } from 'hono/secure-headers';
import { serve } from '@hono/node-server';
import { byProxy, checkToken, cookieOptions, newToken, ORIGIN, signInRoutes, user } from './identity.js';
import { forgetOldForms, isAway, people } from './database.js';
import { NotFound, Sent } from './change.js';
import { message } from './layout.js';
import { dialogRoutes } from './dialogs.js';
import { keyRoutes } from './keys.js';
import { limitRoutes } from './limits.js';
import { listRoutes } from './list.js';
import { placeRoutes } from './places.js';
import { serverRoutes } from './servers.js';
import { LANGUAGES } from './texts.js';

const app = new Hono();

// Nothing comes from elsewhere, no script or style stands in a page, no page is
// framed, and none is kept by a cache.
app.use(secureHeaders({
  contentSecurityPolicy: { defaultSrc: [`'none'`], scriptSrc: [`'self'`], styleSrc: [`'self'`], imgSrc: [`'self'`],
    formAction: [`'self'`], frameAncestors: [`'none'`], baseUri: [`'none'`] },
  referrerPolicy: 'same-origin', // so that a form tells its origin
  xFrameOptions: 'DENY',
  strictTransportSecurity: ORIGIN.startsWith('https:') ? 'max-age=31536000' : false,
}));
app.use(async (c, next) => {
  await next();
  if (!c.res.headers.has('cache-control')) c.res.headers.set('cache-control', 'no-store');
});

// What a page needs to be shown at all, were there nothing else.
app.use(async (c, next) => {
  const accepted = (c.req.header('accept-language') ?? '').split(',').map((each) => each.trim().slice(0, 2).toLowerCase());
  const wanted = [getCookie(c, 'language'), ...accepted];
  const language = wanted.find((each) => Object.hasOwn(LANGUAGES, each ?? '')) ?? 'en';
  c.set('language', language);
  c.set('t', LANGUAGES[language].texts);
  c.set('user', user(c));
  c.set('byProxy', byProxy);
  c.set('cookieOptions', cookieOptions);
  c.set('newToken', () => newToken(c.get('user') ?? ''));
  await next();
});

const TYPES = { 'style.css': 'text/css', 'page.js': 'text/javascript', 'icon.svg': 'image/svg+xml' };
app.get('/static/:file', async (c) => {
  const type = Object.hasOwn(TYPES, c.req.param('file')) && TYPES[c.req.param('file')];
  if (!type) return c.notFound();
  return c.body(await readFile(new URL(`static/${c.req.param('file')}`, import.meta.url)), 200,
    { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'max-age=300' });
});

// A form comes from one of our own pages, made for this very user.
app.use(bodyLimit({ maxSize: 256 * 1024, onError: (c) => message(c, 413, c.get('t').tooMuch, c.get('t').tooMuchText) }));
app.use(async (c, next) => {
  if (['GET', 'HEAD'].includes(c.req.method)) return next();
  const t = c.get('t');
  const site = c.req.header('sec-fetch-site') ?? (c.req.header('origin') === ORIGIN ? 'same-origin' : 'unknown');
  if (c.req.method !== 'POST' || site !== 'same-origin') return message(c, 403, t.foreignForm, t.foreignFormText);
  // A browser ends lines as HTTP does, PostgreSQL as Unix.
  const form = await c.req.parseBody({ all: true });
  c.set('form', Object.fromEntries(Object.entries(form).map(([name, value]) =>
    [name, typeof value === 'string' ? value.replace(/\r\n/g, '\n') : value])));
  const open = ['/sign-in', '/language', '/sign-out'].includes(c.req.path);
  if (!c.get('user') && !open)
    return byProxy ? sendAgain(c, 401, t.noUser, t.noUserText) : sendAgain(c, 401, t.sessionOver, t.sessionOverText);
  const sent = checkToken(c.get('user') ?? '', c.get('form').token);
  // The page where it was written may be of before signing in or out.
  if (!sent && c.req.path === '/language') return c.redirect('/', 303);
  if (!sent && !open) return message(c, 403, t.foreignForm, t.otherUsersForm);
  if (!sent) return c.redirect('/sign-in', 303);
  c.set('sent', sent);
  await next();
});

// Who it is.  Whoever was deleted is nobody from now on.
app.use(async (c, next) => {
  const t = c.get('t');
  const open = ['/sign-in', '/language', '/sign-out'].includes(c.req.path);
  if (c.get('user')) c.set('person', (await people('id = $1', c.get('user')))[0]);
  if (c.get('person') || open) return next();
  if (byProxy && c.get('user')) return message(c, 403, t.unknownUser, t.unknownUserText);
  if (byProxy) return message(c, 401, t.noUser, t.noUserText);
  return c.redirect('/sign-in', 303);
});

app.post('/language', (c) => {
  const { language, back } = c.get('form');
  if (Object.hasOwn(LANGUAGES, language)) setCookie(c, 'language', language, { ...cookieOptions, maxAge: 31536000 });
  return c.redirect(/^\/(?![/\\])[\w/.@%-]*$/.test(back) ? back : '/', 303);
});
if (!byProxy) signInRoutes(app);
placeRoutes(app);
limitRoutes(app);
serverRoutes(app);
listRoutes(app);
keyRoutes(app);
dialogRoutes(app);

// What was typed is not lost: it stands in a form that may be sent again.  It is
// the same form, so it is carried out once however often it is sent.
function sendAgain(c, status, title, text) {
  const t = c.get('t');
  const fields = Object.entries(c.get('form')).flatMap(([name, value]) => [value].flat().map((each) => [name, each]));
  return message(c, status, title, text, html`
    ${status === 401 && !byProxy
      && html`<p><a class="button" href="/sign-in" target="_blank" rel="noopener">${t.signInElsewhere}</a></p>`}
    <form method="post" action="${c.req.path}" class="bare">
    ${fields.map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}
    <div class="buttons"><button class="primary">${t.sendAgain}</button></div></form>`);
}

function notFound(c) {
  const t = c.get('t');
  return message(c, 404, t.notFound, t.notFoundText, html`<p><a href="/">${t.home}</a></p>`);
}
app.notFound(notFound);
app.onError((error, c) => {
  const t = c.get('t');
  if (error instanceof NotFound) return notFound(c);
  if (error instanceof Sent)
    return message(c, 409, t.sentBefore, t.sentBeforeText, html`<p><a class="button primary" href="${error.message}">${t.look}</a></p>`);
  // Not the database's text, which may hold what somebody has typed.
  const why = isAway(error) ? 'the database is away' : error.routine ?? error.stack;
  console.error(`${c.req.method} ${c.req.routePath}: ${error.code ?? ''} ${why}`);
  if (!isAway(error)) return message(c, 500, t.broken, t.brokenText);
  c.header('Retry-After', '10');
  if (c.get('form')) return sendAgain(c, 503, t.away, t.awayForm);
  return message(c, 503, t.away, t.awayText, html`<p><a class="button primary" href="">${t.tryAgain}</a></p>`);
});

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT || 3000), hostname: '127.0.0.1' },
  ({ port }) => console.log(`listening on http://localhost:${port}`));
const tidy = () => forgetOldForms().catch((error) => console.error(`forms: ${error.message}`));
tidy();
setInterval(tidy, 86400e3).unref();
process.on('SIGTERM', () => server.close(() => process.exit(0)));
