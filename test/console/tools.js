// Shared by the walks through examples/console: a browser, the database behind
// the console, and checks that test/t/console.pl reads.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const { APP_DIR, CONSOLE_URL, IMAGES } = process.env;
export const pg = createRequire(join(APP_DIR, 'server.js'))('pg');
pg.types.setTypeParser(20, Number);
export const { LANGUAGES } = await import(pathToFileURL(join(APP_DIR, 'texts.js')));
export const sources = readdirSync(APP_DIR)
  .filter((file) => /^[^.]+\.js$/.test(file))
  .map((file) => readFileSync(join(APP_DIR, file), 'utf8'))
  .join('\n');
export const url = (path) => CONSOLE_URL + path;

export function check(good, name, seen = '') {
  console.log(`${good ? 'ok' : 'not ok'} - ${name}`);
  if (!good)
    console.log(
      `# ${new Error().stack
        .split('\n')
        .find((line) => /\.js:/.test(line) && !line.includes('tools.js'))
        ?.trim()} saw: ${JSON.stringify(seen)}`,
    );
}
export const is = (seen, wanted, name) => check(JSON.stringify(seen) === JSON.stringify(wanted), name, seen);
export const like = (seen, pattern, name) => check(pattern.test(seen), name, seen);

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
  ],
});

// All that a browser asked for, and all that it complained of.
export const asked = [];
export const complaints = [];

export const PEOPLE = { olga: 'u1', anna: 'u2', dora: 'u3', sam: 'u4', lee: 'u5' };

// A browser of its own for somebody, signed in.
export async function signIn(person, language = 'en', options = {}) {
  const context = await browser.newContext({
    locale: LANGUAGES[language].tag,
    viewport: { width: 1200, height: 800 },
    permissions: ['clipboard-read', 'clipboard-write'],
    ...options,
  });
  context.setDefaultTimeout(60000);
  context.on('request', (request) => asked.push(request.url()));
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.message}`));
  page.on('console', (message) => {
    // A page of an error is one on purpose here.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text()))
      complaints.push(`${page.url()}: ${message.text()}`);
  });
  if (person) {
    await page.goto(url('/sign-in'));
    await page.locator(`[value=${PEOPLE[person]}]`).check();
    await send(page);
  }
  return page;
}

// One that does not answer any more is left, and gone with the browser.
export const leave = (open) =>
  Promise.race([open.close(), new Promise((resolve) => setTimeout(resolve, 10000).unref())]);

// The same person's pages in another language from now on.
export const speak = (page, language) =>
  page.context().addCookies([{ name: 'language', value: language, url: url('/') }]);

// Sends the page's main form.
export const send = (page) => page.locator('main form .buttons button').first().click();

// The text of what a script fills in its own time: as soon as it is the wanted
// one, or else as it stands in the end.
export async function text(locator, wanted) {
  await locator
    .filter({ hasText: wanted })
    .waitFor({ timeout: 10000 })
    .catch(() => {
      /* the check shows what stands there */
    });
  return locator.innerText();
}

export const heading = (page) => page.locator('h1').innerText();
export const alert = (page) => page.locator('[role=alert]').first().innerText();
export const wrong = async (page) => (await page.locator('.wrong').allInnerTexts()).join();
export const notice = (page) => page.locator('.notice').innerText();

export async function fill(page, values) {
  for (const [name, value] of Object.entries(values)) {
    const field = page.locator(`[name=${name}]:not([type=hidden])`);
    const kind = await field.first().evaluate((each) => each.type);
    if (kind === 'select-one') await field.selectOption(value);
    else if (kind === 'checkbox') await field.setChecked(value);
    else await field.fill(value);
  }
}

// The page as it is, also while the browser is on its way to an error's page.
export async function content(page) {
  for (const end = Date.now() + 30000; ; ) {
    try {
      return await page.content();
    } catch (error) {
      if (Date.now() > end) throw error;
      await page.waitForTimeout(50);
    }
  }
}

// A form without its page: what somebody could send with the own session, to
// any path.  Returns statuses, one for each sending at once.
export async function post(page, path, values, times = 1) {
  const cookie = (await page.context().cookies()).map((each) => `${each.name}=${each.value}`).join('; ');
  const account = await (await fetch(url('/account'), { headers: { cookie } })).text();
  const [, token] = /<main[^]*?name="token" value="([^"]+)"/.exec(account);
  const sendings = Array.from({ length: times }, () =>
    fetch(url(path), {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie, 'sec-fetch-site': 'same-origin' },
      body: new URLSearchParams({ token, ...values }),
    }),
  );
  return (await Promise.all(sendings)).map((answer) => answer.status).sort();
}

// Nothing that keeps somebody out, on a wide screen and on a small one.  A page
// is made of the same parts in each language, so axe is asked once for both.
const known = new Set();
const rules = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] };
export async function look(page, name) {
  const kind = name.replace(/-(en|zh)-/, '-');
  if (!known.has(kind)) {
    known.add(kind);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate((wanted) => globalThis.axe.run(wanted), rules);
    const serious = violations.filter((each) => ['serious', 'critical'].includes(each.impact));
    is(
      serious.map((each) => [each.id, each.nodes[0].html.slice(0, 200)]),
      [],
      `${name}: axe finds nothing serious`,
    );
  }
  await page.setViewportSize({ width: 360, height: 740 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  check(wide <= 360, `${name}: fits into 360 pixels`, wide);
  await picture(page, `${name}-360`);
  await page.setViewportSize({ width: 1200, height: 800 });
  await picture(page, name);
}

export const picture = (page, name) =>
  page.screenshot({ path: join(IMAGES, `${name.replace(/[^\w-]+/g, '_')}.png`), fullPage: true });

// The database as its superuser, not through the pooler.
const client = new pg.Client({ database: process.env.PGDATABASE });
await client.connect();
export const sql = async (text, values) => (await client.query(text, values)).rows;
export const value = async (text, values) => Object.values((await sql(text, values))[0] ?? {})[0];

// As the console would, for one of its users.
export async function as(person, text, values) {
  await client.query('BEGIN; SET LOCAL ROLE console; SET LOCAL search_path = auth');
  try {
    await client.query(`SELECT set_config('console.subject', $1, true)`, [PEOPLE[person]]);
    return (await client.query(text, values)).rows;
  } finally {
    await client.query('COMMIT');
  }
}

// What an API says to a key.
export const code = (key, project = 'acme/web') =>
  value('SELECT code FROM auth.apikey_verify($1, project => $2, cost => 0)', [key, project]);

// A command for the pooler: KILL makes the database be away, RESUME brings it back.
export async function pooler(command) {
  const admin = new pg.Client({
    host: '127.0.0.1',
    port: Number(process.env.POOLER_PORT),
    user: 'admin',
    database: 'pgbouncer',
  });
  await admin.connect();
  await admin.query(command);
  await admin.end();
}

// Time that has passed: a key as old as this, and used so long ago.
export async function age(name, created, used) {
  await sql(
    `UPDATE auth.apikey_key SET created_at = now() - $2::interval, updated_at = now() - $2::interval WHERE name = $1`,
    [name, created],
  );
  if (used)
    await sql(
      `INSERT INTO auth.apikey_usage (id, use_count, denied_count, last_used_at, last_used_addr)
    SELECT id, 1204, 17, now() - $2::interval, '192.0.2.7' FROM auth.apikey_key WHERE name = $1
    ON CONFLICT (id) DO UPDATE SET use_count = 1204, last_used_at = excluded.last_used_at`,
      [name, used],
    );
}

// Thirty days of use, more or less.
export async function use(name, scale, phase = 0) {
  await sql(
    `INSERT INTO auth.apikey_history (id, key_id, key_name, key_owner, key_owner_name, key_subject, place, organization,
        project, starts_at, step, use_count, denied, spent)
      SELECT gen_random_uuid(), k.id, k.name, k.owner, 'console', k.subject, 'acme/web', p.organization, p.id,
        date_trunc('day', now(), 'UTC') - make_interval(days => day), '1 day',
        ($2 * (1.2 + sin((day + $3) / 2.2) + ((day + $3) * 7919 % 13) / 10.0))::bigint,
        CASE WHEN (day + $3) % 6 = 0 THEN jsonb_build_object('rate_limited', ($2 * 0.3)::bigint) ELSE '{}' END, '{}'
        FROM auth.apikey_key k JOIN auth.apikey_project p ON p.id = k.project, generate_series(0, 29) AS day
        WHERE k.name = $1`,
    [name, scale, phase],
  );
  await sql(
    `UPDATE auth.apikey_usage u SET use_count = h.uses, denied_count = h.denied
      FROM (SELECT key_id, sum(use_count) AS uses, sum(coalesce((denied ->> 'rate_limited')::bigint, 0)) AS denied
        FROM auth.apikey_history WHERE key_name = $1 GROUP BY key_id) AS h WHERE u.id = h.key_id`,
    [name],
  );
}

export async function done() {
  is(complaints, [], 'no script failed, and nothing broke the policy of what a page may load');
  await browser.close();
  await client.end();
}
