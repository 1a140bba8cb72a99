// Bad days.
import {
  LANGUAGES,
  alert,
  as,
  asked,
  browser,
  check,
  complaints,
  fill,
  heading,
  is,
  leave,
  like,
  look,
  notice,
  picture,
  pooler,
  post,
  send,
  signIn,
  sql,
  text,
  url,
  value,
  wrong,
} from './tools.js';
import { keys } from './dialogs.js';
import { furnish } from './roles.js';

const PROJECT = '/o/acme/p/web';
const t = LANGUAGES.en.texts;
const zh = LANGUAGES.zh.texts;
const TERMS = 'Be careful with keys.\nA key that has leaked is revoked.';

async function fresh(name) {
  const [{ key }] = await as(
    'olga',
    `SELECT apikey_create($1, 'acme/web', accept_terms => $2, expires_at => now() + '300 days') AS key`,
    [name, TERMS],
  );
  keys.push(key);
  return value('SELECT auth.apikey_id($1)', [key]);
}

// Away: told, nothing is lost, and what is sent again is done once.
async function away() {
  const page = await signIn('olga', 'zh');
  await page.goto(url(`${PROJECT}/new`));
  await fill(page, { name: 'patience', description: '留着 <i>这个</i>', accept_terms: true });
  await pooler('KILL app');
  try {
    await send(page);
    is(await heading(page), zh.away, 'the database away: a form is told so, in the user’s language');
    await look(page, 'away');
    await page.getByRole('button', { name: zh.sendAgain }).click();
    is(await heading(page), zh.away, 'and again');
    const list = await page.context().newPage();
    const response = await list.goto(url(PROJECT));
    is([response.status(), response.headers()['retry-after'], await heading(list)], [503, '10', zh.away], 'a page too');
    await leave(list);
  } finally {
    await pooler('RESUME app');
  }
  // The pooler may need a moment.
  for (let i = 0; i < 60 && (await heading(page)) === zh.away; i++) {
    await page.waitForTimeout(500);
    await page.getByRole('button', { name: zh.sendAgain }).click();
  }
  is(await heading(page), zh.keyCreated, 'then it goes on from there');
  keys.push(await page.locator('#key').inputValue());
  await page.locator('[data-leave]').click();
  is(
    await sql(`SELECT description, count(*) OVER ()::int FROM auth.apikeys WHERE name = 'patience'`),
    [{ description: '留着 <i>这个</i>', count: 1 }],
    'with what was typed, once',
  );
  await leave(page.context());
}

// The key is gone while its page is open.
async function gone() {
  const page = await signIn('olga');
  const id = await fresh('soon-gone');
  await page.goto(url(`/k/${id}/rename`));
  const edit = await page.context().newPage();
  await edit.goto(url(`/k/${id}/rotate`));
  await as('olga', `SELECT apikey_revoke($1, 'meanwhile')`, [id]);
  await fill(page, { new_name: 'too-late' });
  await send(page);
  is(
    [await alert(page), await heading(page)],
    [t.mayNotNow, `soon-gone ${t.statuses.revoked}`],
    'revoked while it was renamed: told, and how it stands',
  );
  await picture(page, 'revoked-meanwhile');
  await send(edit);
  is(await alert(edit), t.mayNotNow, 'or rotated');
  await edit.goto(url(`/k/${id}/delete`));
  await as('olga', `SELECT apikey_delete($1, 'soon-gone')`, [id]);
  await fill(edit, { confirm_name: 'soon-gone' });
  await send(edit);
  is(await heading(edit), t.notFound, 'deleted while it was deleted');
  await leave(page.context());
}

async function sessionOver() {
  const page = await signIn('olga');
  const context = page.context();
  const cookies = await context.cookies();
  const anna = await signIn('anna');
  const others = await anna.context().cookies();
  await leave(anna.context());
  for (const [next, title, count, name] of [
    [others, t.foreignForm, 0, 'is not sent by somebody else at the same desk'],
    [cookies, t.keyCreated, 1, 'is sent by oneself, signed in again'],
  ]) {
    await context.addCookies(cookies);
    await page.goto(url(`${PROJECT}/new`));
    await fill(page, { name: 'after-lunch', description: 'typed before', accept_terms: true });
    await context.clearCookies({ name: 'session' });
    await send(page);
    is(await heading(page), t.sessionOver, 'a session that ran out');
    if (count) await look(page, 'session-over');
    await context.addCookies(next);
    await page.getByRole('button', { name: t.sendAgain }).click();
    is(
      [await heading(page), await value(`SELECT count(*)::int FROM auth.apikeys WHERE description = 'typed before'`)],
      [title, count],
      `what was typed ${name}`,
    );
  }
  keys.push(await page.locator('#key').inputValue());
  await leave(context);
}

async function twice() {
  const page = await signIn('olga');
  is(
    await post(page, `${PROJECT}/new`, { name: 'once', accept_terms: TERMS, expiry: '90', role: 'developer' }, 2),
    [200, 409],
    'a form sent twice at once',
  );
  is(await value(`SELECT count(*)::int FROM auth.apikeys WHERE name = 'once'`), 1, 'is carried out once');
  const id = await value(`SELECT id FROM auth.apikeys WHERE name = 'once'`);
  const state = await value('SELECT updated_at::text FROM auth.apikeys WHERE id = $1', [id]);
  is(await post(page, `/k/${id}/rotate`, { grace: '1 day', state }, 3), [200, 409, 409], 'and thrice');
  is(await value(`SELECT count(*)::int FROM auth.apikeys WHERE name = 'once'`), 2, 'one rotation too');

  // A name that another tab takes.
  await page.goto(url(`${PROJECT}/new`));
  await fill(page, { name: 'contested', accept_terms: true, description: 'mine' });
  await fresh('contested');
  await send(page);
  is(
    [await wrong(page), await page.locator('#description').inputValue()],
    [t.errors.apikey_key_name_taken, 'mine'],
    'a name taken in another tab',
  );
  await leave(page.context());
}

// Ten thousand keys, page by page, without one missing or twice.
async function many() {
  await as(
    'olga',
    `SELECT apikey_create('many-' || n, 'acme/web', accept_terms => $1, expires_at => now() + make_interval(days => 100 + n % 7)) FROM generate_series(1, 10000) n`,
    [TERMS],
  );
  const page = await signIn('olga');
  const started = Date.now();
  await page.goto(url(PROJECT));
  console.log(`# the list of 10,000 keys: ${Date.now() - started} ms`);
  like(await page.locator('.pages').innerText(), /10,0\d\d keys/, '10,000 keys');
  await look(page, 'many');
  const names = () => page.locator('tbody th a').allInnerTexts();
  const first = await names();
  const seen = new Set(first);
  for (const sort of ['created', 'expires']) {
    await page.goto(url(`${PROJECT}?sort=${sort}&q=many-77`));
    const all = await names();
    while (await page.getByRole('link', { name: t.next }).count()) {
      await page.getByRole('link', { name: t.next }).click();
      all.push(...(await names()));
    }
    is([all.length, new Set(all).size], [111, 111], `each of them once, sorted by ${sort}`);
    while (await page.getByRole('link', { name: t.previous, exact: true }).count())
      await page.getByRole('link', { name: t.previous, exact: true }).click();
    is(await names(), all.slice(0, 20), 'and back');
  }
  await page.goto(url(`${PROJECT}?sort=name&order=down&after=nonsense&status=none&before=${'x'.repeat(9999)}`));
  is(await page.locator('tbody tr').count(), 20, 'an address that makes no sense shows the list');
  await page.goto(url(PROJECT));
  await page.getByRole('link', { name: t.next }).click();
  for (const name of await names()) seen.add(name);
  is(seen.size, 40, 'the second page has others');
  await leave(page.context());
}

const NAMES = [
  'ключ-деплоя',
  'مفتاح-النشر',
  'המפתח',
  'कुंजी',
  'ключ',
  '鍵盤',
  '열쇠',
  'กุญแจ',
  'κλειδί',
  'clé',
  '密钥_1',
  'straße',
  'ẞig',
  'ǅa',
];

async function scripts() {
  const page = await signIn('olga');
  for (const name of NAMES.slice(0, 4)) {
    await page.goto(url(`${PROJECT}/new`));
    await fill(page, { name, accept_terms: true });
    await send(page);
    keys.push(await page.locator('#key').inputValue());
    await page.locator('[data-leave]').click();
    is(await heading(page), `${name} ${t.statuses.active}`, `a name in its script: ${name}`);
  }
  await as(
    'olga',
    `SELECT apikey_create(name, 'acme/web', accept_terms => $1, expires_at => now() + '9 days') FROM unnest($2::text[]) AS name WHERE name <> ''`,
    [TERMS, NAMES.slice(4)],
  );
  await page.goto(url(PROJECT));
  is(
    (await page.locator('tbody th a').allInnerTexts()).slice(0, NAMES.length).sort(),
    [...NAMES].sort(),
    'names in many scripts',
  );
  await look(page, 'scripts');
  for (const name of [
    '<script>alert(1)</script>',
    'a b',
    'pay\u200Bpal',
    '../../x',
    `x'; DROP TABLE console.sent; --`,
  ]) {
    await page.goto(url(`${PROJECT}/new`));
    await fill(page, { name, accept_terms: true });
    await send(page);
    is(await wrong(page), t.errors.apikey_key_name, `no name: ${JSON.stringify(name)}`);
    is(await page.locator('#name').inputValue(), name, 'shown as it was typed');
  }
  await page.goto(url(`${PROJECT}/new`));
  await fill(page, { name: 'escaped', description: '"><img src=x onerror=alert(1)>', accept_terms: true });
  await send(page);
  keys.push(await page.locator('#key').inputValue());
  await page.locator('[data-leave]').click();
  is(
    [await page.locator('.lead').innerText(), await page.locator('img').count()],
    ['"><img src=x onerror=alert(1)>', 0],
    'a description is text',
  );
  await leave(page.context());
}

// A proxy in front says who it is, or does not.
async function proxy() {
  const { PROXY_URL } = process.env;
  const context = await browser.newContext({ locale: 'zh-CN' });
  const page = await context.newPage();
  const response = await page.goto(PROXY_URL);
  is([response.status(), await heading(page)], [401, zh.noUser], 'a proxy that sends no user');
  is((await page.goto(`${PROXY_URL}/sign-in`)).status(), 404, 'there is no page to sign in then');
  for (const [header, status, name] of [
    ['u1', 200, 'a proxy that sends one'],
    ['u1, u2', 401, 'two at once'],
    ['', 401, 'an empty one'],
    ['nobody', 403, 'one whom nobody knows'],
    ['u5', 403, 'one who was deleted'],
  ]) {
    await context.setExtraHTTPHeaders({ 'x-forwarded-user': header });
    is((await page.goto(PROXY_URL)).status(), status, name);
  }
  await context.setExtraHTTPHeaders({ 'x-forwarded-user': 'u1' });
  await page.goto(`${PROXY_URL}${PROJECT}/new`);
  await fill(page, { name: 'behind-a-proxy', accept_terms: true });
  await context.setExtraHTTPHeaders({});
  await send(page);
  is(await heading(page), zh.noUser, 'that sends no user with a form');
  await context.setExtraHTTPHeaders({ 'x-forwarded-user': 'u1' });
  await page.getByRole('button', { name: zh.sendAgain }).click();
  is(await heading(page), zh.keyCreated, 'loses nothing');
  keys.push(await page.locator('#key').inputValue());
  await leave(context);
}

// Forms from elsewhere, and what a page allows.
async function attacks() {
  const page = await signIn('olga');
  const id = await fresh('target');
  const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join('; ');
  const send = (path, headers, body) =>
    fetch(url(path), { method: 'POST', redirect: 'manual', headers: { cookie, ...headers }, body });
  const token = (await (await fetch(url(`/k/${id}/revoke`), { headers: { cookie } })).text()).match(
    /name="token" value="([^"]+)"/,
  )[1];
  const other = await signIn('sam');
  const foreign = await other.locator('[name=token]').first().inputValue();
  const body = (token) => new URLSearchParams({ token, reason: 'attack' });
  const ours = { 'sec-fetch-site': 'same-origin' };
  for (const [headers, content, name] of [
    [{ 'sec-fetch-site': 'cross-site' }, body(token), 'from another site'],
    [{ 'sec-fetch-site': 'same-site' }, body(token), 'from a neighbour'],
    [{ origin: 'https://elsewhere.example' }, body(token), 'from another origin'],
    [{}, body(token), 'from nowhere'],
    [ours, body(''), 'without a token'],
    [ours, body(foreign), 'with another’s token'],
    [ours, body(`${token}x`), 'with a forged token'],
    [ours, body(token.replace(/^./, (each) => (each === 'a' ? 'b' : 'a'))), 'with a changed one'],
    [{ ...ours, 'content-type': 'text/plain' }, `token=${token}`, 'as plain text'],
  ])
    is((await send(`/k/${id}/revoke`, headers, content)).status, 403, `a form ${name}`);
  is(
    (await fetch(url(`/k/${id}/revoke`), { method: 'PUT', headers: { cookie, ...ours } })).status,
    403,
    'no other method',
  );
  is(await value('SELECT status FROM auth.apikeys WHERE id = $1', [id]), 'active', 'none of them did anything');
  const back = await send(
    '/language',
    ours,
    new URLSearchParams({ token, language: 'zh', back: '//elsewhere.example/' }),
  );
  is(back.headers.get('location'), '/', 'nobody is led elsewhere');

  const headers = (await fetch(url(PROJECT), { headers: { cookie } })).headers;
  like(
    headers.get('content-security-policy'),
    /^default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/,
    'a policy without inline script',
  );
  is(
    ['cache-control', 'x-content-type-options', 'x-frame-options', 'referrer-policy', 'cross-origin-opener-policy'].map(
      (name) => headers.get(name),
    ),
    ['no-store', 'nosniff', 'DENY', 'same-origin', 'same-origin'],
    'and the other headers',
  );
  const session = (await page.context().cookies()).find(({ name }) => name === 'session');
  is([session.httpOnly, session.sameSite], [true, 'Lax'], 'no script reads the session');
  await page.goto(url(PROJECT));
  is(await page.locator('script:not([src]), style, [style], [onclick]').count(), 0, 'nothing stands inline');
  is(
    await page.evaluate(() => [localStorage.length, sessionStorage.length]),
    [0, 0],
    'nothing is stored in the browser',
  );
  is((await fetch(url('/static/..%2fserver.js'), { headers: { cookie } })).status, 404, 'no file but ours');
  // Answered before it was read, so the answer may be lost on the way.
  const large = await send(`/k/${id}/revoke`, ours, new URLSearchParams({ token, reason: 'x'.repeat(300000) })).then(
    (answer) => answer.status,
    () => 413,
  );
  is(large, 413, 'a form that is too large');
  await leave(other.context());
  await leave(page.context());
}

// By keyboard alone: from the first page to a key.
async function keyboard() {
  const page = await signIn('olga');
  await page.goto(url(PROJECT));
  await page.keyboard.press('Tab');
  is(await page.evaluate(() => document.activeElement.textContent), t.skip, 'the first stop skips to the content');
  await page.keyboard.press('Enter');
  const until = async (stop) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press('Tab');
      if (
        await page.evaluate(
          (wanted) => [document.activeElement.textContent.trim(), document.activeElement.id].includes(wanted),
          stop,
        )
      )
        return true;
    }
    return false;
  };
  check(await until(t.createKey), 'the keyboard reaches the button');
  await page.keyboard.press('Enter');
  await page.waitForURL(/new$/);
  await page.keyboard.type('by-keyboard');
  check(await until('accept_terms'), 'and the terms');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  is(await text(page.locator('h1'), t.keyCreated), t.keyCreated, 'and makes a key');
  keys.push(await page.locator('#key').inputValue());
  check(await until(t.copy), 'the button that copies it too');
  await page.keyboard.press('Enter');
  is(await text(page.locator('#copied'), t.copied), t.copied, 'which says so');
  await leave(page.context());

  // Without script all goes as well.
  const plain = await signIn('olga', 'zh', { javaScriptEnabled: false });
  await plain.goto(url(`${PROJECT}/new`));
  await fill(plain, { name: 'no-script', accept_terms: true });
  await send(plain);
  is(await heading(plain), zh.keyCreated, 'without script');
  keys.push(await plain.locator('#key').inputValue());
  await leave(plain.context());
}

export default async function () {
  await furnish();
  await keyboard();
  await twice();
  await gone();
  await sessionOver();
  await scripts();
  await attacks();
  await proxy();
  await away();
  await many();
  const secrets = keys.map((key) => key.slice(-39));
  is(
    asked.filter((each) => secrets.some((secret) => each.includes(secret))),
    [],
    'no key in any address that a browser asked for',
  );
  console.log(`# keys: ${keys.join(' ')}`);
}
