// What each role sees and may do, page by page, in both languages.
import {
  LANGUAGES,
  age,
  alert,
  as,
  check,
  fill,
  heading,
  is,
  leave,
  like,
  look,
  notice,
  post,
  send,
  signIn,
  sources,
  sql,
  url,
  use,
  value,
} from './tools.js';

const PROJECT = '/o/acme/p/web';
const TERMS = 'Be careful with keys.\nA key that has leaked is revoked.';

// A project as it might be, with keys of all sorts.
export async function furnish() {
  await sql(`DELETE FROM auth.apikey_key`);
  await as(
    'olga',
    `UPDATE apikey_projects SET members_can_view = false, name_pattern = NULL, max_ttl = NULL, max_keys = NULL, terms = NULL, revealable = true WHERE path = 'acme/web'`,
  );
  const create = (person, name, more = '') => as(person, `SELECT apikey_create($1, 'acme/web'${more})`, [name]);
  await create('olga', 'legacy-import', `, scopes => '{invoices:read}'`);
  await create(
    'olga',
    'partner-portal',
    `, scopes => '{invoices:*,customers:read}', role => 'developer', description => 'Grace Inc., contract 4711'`,
  );
  await create(
    'anna',
    'mobile-app',
    `, scopes => '{status:read}', role => 'developer', rate_limit => 100, expires_at => now() + '4 days'`,
  );
  await create('anna', '数据同步', `, scopes => '{sync:*}', expires_at => now() + '200 days'`);
  await create('olga', 'staging', `, expires_at => now() + '300 days'`);
  await create(
    'olga',
    'ci-deploy',
    `, scopes => '{deploy:*,status:read}', role => 'developer', description => 'Deploys the main branch', expires_at => now() + '82 days', allowed_ips => '{192.0.2.0/24}', rate_limit => 600, rate_window => '1 minute'`,
  );
  await create('anna', 'of-dora', `, role => 'developer'`);
  await as('olga', `SELECT apikey_transfer(id, 'console', 'u3') FROM apikeys WHERE name = 'of-dora'`);
  await as('olga', `SELECT apikey_disable(id) FROM apikeys WHERE name = 'staging'`);
  await as(
    'olga',
    `SELECT apikey_limit_set('requests', 500000, '1 month', 'quota', key => id) FROM apikeys WHERE name = 'ci-deploy'`,
  );
  await as('olga', `UPDATE apikey_projects SET terms = $1, max_ttl = '365 days' WHERE path = 'acme/web'`, [TERMS]);
  await age('legacy-import', '400 days', '121 days');
  await age('partner-portal', '310 days', '2 hours');
  await age('数据同步', '160 days', '1 day');
  await age('mobile-app', '86 days', '3 minutes');
  await age('staging', '65 days');
  await age('ci-deploy', '8 days', '1 minute');
  await use('ci-deploy', 300);
  await use('partner-portal', 4000, 11);
  await use('mobile-app', 900, 5);
  await use('数据同步', 20, 17);
}

const visible = async (page) => (await page.locator('tbody th a').allInnerTexts()).sort();
const ALL = ['ci-deploy', 'legacy-import', 'mobile-app', 'of-dora', 'partner-portal', 'staging', '数据同步'].sort();
const offered = async (page) => (await page.locator('.actions').allInnerTexts()).join(' ').split('\n').filter(Boolean);
const visit = async (page, path) => (await page.goto(url(path))).status();
const idOf = (name) => value('SELECT id FROM auth.apikeys WHERE name = $1', [name]);

async function owner(t, page, language) {
  await visit(page, '/');
  await look(page, `owner-${language}-projects`);
  await visit(page, PROJECT);
  is(await visible(page), ALL, `${language} owner: sees all keys`);
  await look(page, `owner-${language}-keys`);
  await visit(page, `/k/${await idOf('ci-deploy')}`);
  is(
    await offered(page),
    [t.edit, t.rename, t.rotate, t.showAgain, t.disable, t.transfer, t.revoke, t.delete],
    `${language} owner: may do everything`,
  );
  await look(page, `owner-${language}-key`);
  for (const path of ['members', 'settings', 'audit', 'unused']) {
    is(await visit(page, `${PROJECT}/${path}`), 200, `${language} owner: ${path}`);
    await look(page, `owner-${language}-${path}`);
  }
}

async function admin(t, page, language) {
  await visit(page, PROJECT);
  is(await visible(page), ALL, `${language} admin: sees all keys`);
  await look(page, `admin-${language}-keys`);
  await visit(page, `/k/${await idOf('legacy-import')}`);
  is(await offered(page), [t.disable, t.revoke, t.delete], `${language} admin: ends an owner's key, no more`);
  await look(page, `admin-${language}-owners-key`);
  await visit(page, `/k/${await idOf('mobile-app')}`);
  is(
    await offered(page),
    [t.edit, t.rename, t.rotate, t.showAgain, t.disable, t.transfer, t.revoke, t.delete],
    `${language} admin: manages the others`,
  );
  await visit(page, `/k/${await idOf('legacy-import')}/edit`);
  is(await alert(page), t.mayNotNow, `${language} admin: not by the address either`);
  is(await visit(page, `${PROJECT}/audit`), 403, `${language} admin: no audit log`);
  is(await visit(page, `${PROJECT}/members/u3`), 403, `${language} admin: no members to change`);
  await visit(page, `${PROJECT}/settings`);
  like(await page.locator('main').innerText(), new RegExp(t.ownersOnly), `${language} admin: settings to read`);
  is(await page.locator('main form').count(), 0, `${language} admin: and not to write`);
  await visit(page, `${PROJECT}/new`);
  is(
    await page.locator('#role option').allInnerTexts(),
    [t.roles.developer, t.roles.admin],
    `${language} admin: makes no owner's key`,
  );
  await look(page, `admin-${language}-create`);
  await fill(page, { name: `admin-${language}`, accept_terms: true });
  await send(page);
  is(await heading(page), t.keyCreated, `${language} admin: creates a key`);
  await look(page, `admin-${language}-shown-once`);
  await page.locator('[data-leave]').click();
  await page.getByRole('link', { name: t.delete, exact: true }).click();
  await fill(page, { confirm_name: `admin-${language}` });
  await send(page);
  is(await notice(page), t.notices.deleted, `${language} admin: and deletes it`);
}

async function developer(t, page, language) {
  await visit(page, PROJECT);
  is(await visible(page), ['of-dora'], `${language} developer: sees its own key`);
  is(await page.getByRole('link', { name: t.createKey }).count(), 0, `${language} developer: makes none`);
  await look(page, `developer-${language}-keys`);
  const other = await idOf('ci-deploy');
  is(
    [await visit(page, `/k/${other}`), await heading(page)],
    [404, t.notFound],
    `${language} developer: another's key is not there`,
  );
  is(await visit(page, `${PROJECT}/new`), 403, `${language} developer: no new key by the address either`);
  await as('olga', `UPDATE apikey_projects SET members_can_view = true WHERE path = 'acme/web'`);
  await visit(page, PROJECT);
  is(await visible(page), ALL, `${language} developer: sees all where members may`);
  await visit(page, `/k/${other}`);
  is(await offered(page), [], `${language} developer: and changes nothing`);
  await look(page, `developer-${language}-key`);
  await as('olga', `UPDATE apikey_projects SET members_can_view = false WHERE path = 'acme/web'`);
  await visit(page, `/k/${await idOf('of-dora')}`);
  is(await offered(page), [t.revoke], `${language} developer: revokes its own`);
  await visit(page, `${PROJECT}/members`);
  is(await page.locator('main form').count(), 0, `${language} developer: sees the members`);
  await look(page, `developer-${language}-members`);
}

async function stranger(t, page, language) {
  await visit(page, '/');
  like(
    await page.locator('main').innerText(),
    new RegExp(t.noProjects.slice(0, 12)),
    `${language} stranger: belongs to nothing`,
  );
  await look(page, `stranger-${language}-projects`);
  const id = await idOf('ci-deploy');
  const nowhere = `/k/${id.slice(0, -4)}0000`;
  const texts = new Set();
  for (const path of [
    PROJECT,
    '/o/acme/p/none',
    '/o/acme',
    '/o/none',
    `${PROJECT}/audit`,
    `${PROJECT}/members`,
    `${PROJECT}/settings`,
    `/k/${id}`,
    nowhere,
    `/k/${id}/edit`,
    `/k/${id}/revoke`,
    '/k/1',
  ]) {
    is(await visit(page, path), 404, `${language} stranger: ${path.replace(/[0-9a-f-]{36}/, 'ID')} is not there`);
    texts.add(await page.locator('main').innerText());
  }
  is(texts.size, 1, `${language} stranger: told as of what does not exist`);
  await look(page, `stranger-${language}-nothing`);
  // Nor by a form of its own making.
  const answers = [];
  for (const path of FORMS(id))
    answers.push([path.replace(/[0-9a-f-]{36}/, 'ID'), ...(await post(page, path, FORGED))]);
  is(
    answers.filter(([, status]) => status !== 404),
    [],
    `${language} stranger: does nothing by forms of its own making`,
  );
}

const FORGED = {
  was: 'developer',
  name: 'mine',
  new_name: 'mine',
  confirm_name: 'ci-deploy',
  reason: '',
  email: 'sam@example.com',
  role: 'owner',
  expiry: '90',
};
const FORMS = (id) =>
  ['revoke', 'delete', 'reveal', 'rename', 'rotate', 'edit', 'transfer']
    .map((action) => `/k/${id}/${action}`)
    .concat(
      ['new', 'members', 'members/u3', 'members/u2/remove', 'settings', 'apply', 'drop', 'unused'].map(
        (each) => `${PROJECT}/${each}`,
      ),
      ['/o/acme/new', '/o/acme/drop', '/o/acme/members'],
    );

// The developer does nothing by forms of its own making either.
async function forged(page) {
  const id = await idOf('ci-deploy');
  const before = await value('SELECT max(id)::int FROM auth.apikey_events');
  const updated_at = await value('SELECT updated_at::text FROM auth.apikeys WHERE id = $1', [id]);
  for (const path of [...FORMS(id), `/k/${id}/disable`]) await post(page, path, { ...FORGED, state: updated_at });
  is(
    await value('SELECT max(id)::int FROM auth.apikey_events'),
    before,
    'a developer changes nothing by forms of its own making',
  );
}

// Keys that nobody used, ended together; one was used meanwhile.
async function unused() {
  const page = await signIn('olga');
  await as(
    'olga',
    `SELECT apikey_create('idle-' || n, 'acme/web', accept_terms => $1, expires_at => now() + '300 days') FROM generate_series(1, 3) n`,
    [TERMS],
  );
  for (const n of [1, 2, 3]) await age(`idle-${n}`, '91 days');
  const t = LANGUAGES.en.texts;
  await page.goto(url(PROJECT));
  like(await page.locator('main .warning').first().innerText(), /^4 keys/, 'the list tells of unused keys');
  await page.getByRole('link', { name: t.review }).click();
  await page.locator('li', { hasText: 'legacy-import' }).locator('input').uncheck();
  await age('idle-3', '91 days', '1 minute');
  await send(page);
  is(await notice(page), t.notices.unusedRevoked(2, 1), 'they are ended together, but for one that was used meanwhile');
  is(
    await sql(`SELECT name FROM auth.apikeys WHERE revoke_reason = $1 ORDER BY name`, [t.unusedReason]),
    [{ name: 'idle-1' }, { name: 'idle-2' }],
    'with a reason',
  );
  await leave(page.context());
}

export default async function () {
  await furnish();
  for (const language of Object.keys(LANGUAGES)) {
    const { texts } = LANGUAGES[language];
    for (const [person, walk] of [
      ['olga', owner],
      ['anna', admin],
      ['dora', developer],
      ['sam', stranger],
    ]) {
      const page = await signIn(person, language);
      is(
        await page.locator('html').getAttribute('lang'),
        LANGUAGES[language].tag,
        `${language} ${person}: the page is in its language`,
      );
      await walk(texts, page, language);
      if (person === 'dora' && language === 'en') await forged(page);
      await leave(page.context());
    }
  }
  const missing = (a, b, path = '') =>
    Object.keys(a).flatMap((key) =>
      !(key in b)
        ? [`${path}${key}`]
        : typeof a[key] !== typeof b[key]
          ? [`${path}${key}: ${typeof a[key]}`]
          : typeof a[key] === 'object'
            ? missing(a[key], b[key], `${path}${key}.`)
            : [],
    );
  const [en, zh] = [LANGUAGES.en.texts, LANGUAGES.zh.texts];
  const used = new Set([...sources.matchAll(/\bt\.(\w+)|get\('t'\)\.(\w+)/g)].map(([, a, b]) => a ?? b));
  is(
    [...used].filter((name) => !(name in en)),
    [],
    'every text that a page names is there',
  );
  is(
    Object.keys(en).filter((name) => !used.has(name)),
    [],
    'and every text is named',
  );
  is([...missing(en, zh), ...missing(zh, en)], [], 'both languages have every text');
  await unused();

  // In the dark.
  const page = await signIn('olga', 'en', { colorScheme: 'dark' });
  await visit(page, PROJECT);
  await look(page, 'dark-keys');
  await visit(page, `/k/${await idOf('ci-deploy')}`);
  await look(page, 'dark-key');
  await leave(page.context());
}
