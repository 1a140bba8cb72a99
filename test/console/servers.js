// The page of a fleet's servers: for operators alone.
import {
  LANGUAGES,
  alert,
  fill,
  heading,
  is,
  leave,
  like,
  look,
  notice,
  picture,
  post,
  send,
  signIn,
  speak,
  sql,
  url,
  value,
  wrong,
} from './tools.js';

const t = LANGUAGES.en.texts;
const ODD = 'rack 1/<b>"%';
const forget = (name) => `/servers/${encodeURIComponent(name)}/forget`;
const names = async () => (await sql('SELECT name FROM auth.apikey_servers ORDER BY 1')).map(({ name }) => name);

// A member as its worker would say that it is there, and how far.
const join = (name, kind) =>
  value(
    `SELECT auth.apikey_server_report(id, (auth.apikey_server_join(id, '{}', gen_random_uuid(), $1, $2, '0.2.0',
        (SELECT system_identifier FROM pg_control_system()), false)).epoch, 1, '3.4 s', '{}', '{}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')
      FROM gen_random_uuid() AS id`,
    [name, kind],
  );
const silence = (name) =>
  sql(
    `UPDATE auth.apikey_server SET seen_at = now() - interval '1 hour', last_report_at = now() - interval '1 hour'
    WHERE name = $1`,
    [name],
  );

// Nobody is an operator by what it is in an organization.
async function others() {
  const page = await signIn('olga');
  is(
    await page.getByRole('link', { name: t.servers }).count(),
    0,
    'an owner of an organization is not led to the servers',
  );
  for (const path of ['/servers', forget('paris')])
    is([(await page.goto(url(path))).status(), await heading(page)], [404, t.notFound], `nor finds ${path}`);
  is(await post(page, forget('paris'), { confirm_name: 'paris' }), [404], 'nor forgets one');
  await leave(page.context());
  // What the console may do without an operator.
  await sql(`BEGIN; SET LOCAL ROLE console; SET LOCAL console.subject = 'u1'`);
  is(
    await sql(
      'SELECT (SELECT count(*)::int FROM console.servers()) AS servers, (SELECT count(*)::int FROM console.server_events()) AS events, console.forget_server($1) AS forgotten',
      ['paris'],
    ),
    [{ servers: 0, events: 0, forgotten: null }],
    'nor does the database tell, or do it',
  );
  await sql('ROLLBACK');
}

async function operator(page, language) {
  const { texts } = LANGUAGES[language];
  await speak(page, language);
  await page.goto(url('/'));
  await page.getByRole('link', { name: texts.servers }).click();
  like(
    await page.locator('main').innerText(),
    new RegExp(texts.silentLead.slice(0, 12)),
    `${language} operator: told of a silent server`,
  );
  is(
    await page.locator('.cards').first().locator('tbody .badge').allInnerTexts(),
    [texts.silent, texts.reports, texts.reports],
    `${language} operator: which are silent`,
  );
  const told = await page.locator('.cards').last().locator('tbody th').allInnerTexts();
  is(
    [told[0], told.filter((each) => each === texts.events.server_joined).length],
    [texts.events.server_lost, 3],
    `${language} operator: what has happened`,
  );
  await look(page, `operator-${language}-servers`);
}

async function forgets(page) {
  await speak(page, 'en');
  await page.goto(url('/servers'));
  await page.getByRole('row', { name: 'paris' }).getByRole('link', { name: t.forget }).first().click();
  await look(page, 'forget-server');
  const other = await page.context().newPage();
  await other.goto(page.url());
  await fill(page, { confirm_name: 'berlin' });
  await send(page);
  is(
    [await wrong(page), (await names()).includes('paris')],
    [t.errors.apikey_confirm_name, true],
    'a wrong name forgets nothing',
  );
  await fill(page, { confirm_name: 'paris' });
  await send(page);
  is([await notice(page), (await names()).includes('paris')], [t.notices.serverForgotten, false], 'the right one does');
  like(
    await page.locator('.cards').last().locator('tbody tr').first().innerText(),
    new RegExp(`${t.events.server_forgotten}[^]*paris[^]*Sam Stranger`),
    'and it is told who did it',
  );
  await fill(other, { confirm_name: 'paris' });
  await send(other);
  is(await heading(other), t.notFound, 'forgotten while it was forgotten');
  await join('paris', 'standby');
  await other.goto(url(forget('paris')));
  like(await other.locator('.lead').innerText(), /no need/, 'one that reports need not be forgotten');
  await sql(`SELECT auth.apikey_server_forget('paris')`);
  await join('paris', 'standby');
  await fill(other, { confirm_name: 'paris' });
  await send(other);
  is(
    [await alert(other), (await names()).includes('paris')],
    [t.serverChanged, true],
    'nor another of its name by a slip',
  );
  const primary = await value(`SELECT name FROM auth.apikey_servers WHERE role = 'primary'`);
  is(
    [(await other.goto(url(forget(primary)))).status(), await other.locator('.lead').innerText()],
    [409, t.isPrimary],
    'nor the primary',
  );
  is(
    await post(other, forget(primary), {
      confirm_name: primary,
      was: await value(`SELECT first_seen_at::text FROM auth.apikey_servers WHERE role = 'primary'`),
    }),
    [409],
    'by a form of one’s own making',
  );
  await join(ODD, 'subscriber');
  await other.goto(url(forget(ODD)));
  await fill(other, { confirm_name: ODD });
  await send(other);
  is(
    [await notice(other), (await names()).includes(ODD)],
    [t.notices.serverForgotten, false],
    'one of an odd name too',
  );
  await leave(page.context());
}

export default async function () {
  await sql(`INSERT INTO console.operator VALUES ('u4')`);
  const page = await signIn('sam', 'zh');
  await page.goto(url('/servers'));
  like(
    await page.locator('main').innerText(),
    new RegExp(LANGUAGES.zh.texts.noFleet.slice(0, 12)),
    'a server that is alone: told kindly',
  );
  await picture(page, 'servers-alone');
  await join('paris', 'standby');
  await join('oslo', 'subscriber');
  await join('berlin', 'standby');
  await sql(`SELECT auth.apikey_limit_set('tokens', 5000, NULL, 'balance', path => 'acme/web')`);
  await sql(`INSERT INTO auth.apikey_server_lease SELECT gen_random_uuid(), s.id, l.id, 1, 1200, 1200, 1, now() + interval '1 hour', 0, now()
    FROM auth.apikey_server s, auth.apikey_limit l WHERE s.name = 'paris' AND l.unit = 'tokens'`);
  await sql(`UPDATE auth.apikey_server SET uses = 481000 + 37 * length(name) ^ 3 WHERE kind <> 'primary'`);
  await silence('berlin');
  await sql('SELECT auth.apikey_flush()');
  for (
    let i = 0;
    i < 100 && !(await value(`SELECT count(*)::int FROM auth.apikey_events WHERE event = 'server_lost'`));
    i++
  )
    await new Promise((resolve) => setTimeout(resolve, 100));
  await others();
  for (const language of Object.keys(LANGUAGES)) await operator(page, language);
  await forgets(page);
  await sql(`DELETE FROM console.operator; SELECT auth.apikey_server_forget(name) FROM auth.apikey_servers WHERE role <> 'primary';
    SELECT auth.apikey_limit_drop(id) FROM auth.apikey_limits WHERE unit = 'tokens'`);
}
