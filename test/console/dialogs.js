// Each dialog, by an owner, as far as one goes after the other.
import {
  LANGUAGES,
  alert,
  as,
  asked,
  check,
  code,
  content,
  fill,
  heading,
  is,
  leave,
  like,
  look,
  notice,
  send,
  signIn,
  sql,
  url,
  value,
  wrong,
} from './tools.js';

const t = LANGUAGES.en.texts;
const KEY = /^ak_[0-9A-Za-z]{61}$/;
export const keys = []; // every text that was shown

async function shown(page) {
  const key = await page.locator('#key').inputValue();
  keys.push(key);
  return key;
}
const stored = (page) => page.locator('[data-leave]').click();
const open = (page, name) =>
  page.goto(url('/o/acme/p/web')).then(() => page.getByRole('link', { name, exact: true }).click());
const act = async (page, name, action) => {
  await open(page, name);
  await page.getByRole('link', { name: t[action], exact: true }).click();
};

async function newProject(page) {
  await page.goto(url('/o/acme'));
  await page.getByRole('link', { name: t.newProject }).click();
  await fill(page, { name: 'Not a name' });
  await send(page);
  is(await wrong(page), t.errors.apikey_project_path, 'a bad name of a project');
  await fill(page, { name: 'mobile' });
  await send(page);
  like(await shown(page), KEY, 'a new project shows its default key');
  await stored(page);
  is(await heading(page), `default ${t.statuses.active}`, 'and it is named default');
}

// Shown once: how the page of a key is left.
async function shownOnce(page) {
  await page.goto(url('/o/acme/p/web'));
  await page.getByRole('link', { name: t.createKey }).click();
  await look(page, 'create');
  await fill(page, {
    name: 'ci-deploy',
    description: 'Deploys the main branch',
    expiry: '90',
    scopes: 'deploy:* status:read',
    role: 'developer',
  });
  await page.locator('summary').click();
  await fill(page, {
    rate_limit: '100',
    rate_window: '1 minute',
    quota: '5000',
    quota_period: '1 mon',
    allowed_ips: '192.0.2.0/24, 2001:db8::/32',
  });
  await send(page);
  const key = await shown(page);
  like(key, KEY, 'a key is shown');
  is(await code(key), 'ip_denied', 'and it is one');
  await look(page, 'shown-once');
  await page.getByRole('button', { name: t.copy, exact: true }).click();
  await page.getByText(t.copied).waitFor();
  is(await page.evaluate(() => navigator.clipboard.readText()), key, 'the button copies it');

  let asks = 0;
  const answer = (stay) =>
    page.once('dialog', (dialog) => {
      asks++;
      return stay ? dialog.dismiss() : dialog.accept();
    });
  answer(true);
  await Promise.all([page.waitForEvent('dialog'), page.getByRole('link', { name: 'Projects' }).click()]);
  is([asks, await page.locator('#key').inputValue()], [1, key], 'leaving it asks, and one may stay');
  answer(false);
  await page.reload();
  is(
    [asks, await heading(page)],
    [2, t.sentBefore],
    'loading it again makes no second key, and shows the first no more',
  );
  await page.getByRole('link', { name: t.look, exact: true }).click();
  is(await heading(page), `ci-deploy ${t.statuses.active}`, 'but leads to it');
  check(!(await page.content()).includes(key), 'whose page does not hold it');
  for (let i = 0; i < 2; i++) {
    await page.goBack().catch(() => {
      /* the browser has nothing to show, as it should be */
    });
    check(!(await content(page)).includes(key), 'nor does the way back');
  }
  is(await value(`SELECT count(*)::int FROM auth.apikeys WHERE name = 'ci-deploy'`), 1, 'one key was made');
  is(
    await sql(`SELECT description, scopes, role, rate_limit, rate_window::text, allowed_ips::text, round(extract(epoch FROM expires_at - created_at) / 86400)::int AS days,
    subject FROM auth.apikeys WHERE name = 'ci-deploy'`),
    [
      {
        description: 'Deploys the main branch',
        scopes: ['deploy:*', 'status:read'],
        role: 'developer',
        rate_limit: 100,
        rate_window: '00:01:00',
        allowed_ips: '{192.0.2.0/24,2001:db8::/32}',
        days: 90,
        subject: 'u1',
      },
    ],
    'as it was asked for',
  );
  is(
    await sql(`SELECT unit, kind, amount, period::text FROM auth.apikey_limits`),
    [{ unit: 'requests', kind: 'quota', amount: 5000, period: '1 mon' }],
    'with its quota',
  );
}

// What does not fit is told where it stands, and nothing that was typed is lost.
async function refusals(page) {
  await page.goto(url('/o/acme/p/web/new'));
  await fill(page, { name: 'no blanks please', description: 'kept <b>as</b> it "is"' });
  await send(page);
  is(await wrong(page), t.errors.apikey_key_name, 'a bad name');
  is(
    [
      await page.locator('#name').getAttribute('aria-invalid'),
      await page.locator('[role=alert]:focus').getAttribute('role'),
    ],
    ['true', 'alert'],
    'is marked, and one is led there',
  );
  await look(page, 'create-refused');
  is(await page.locator('#description').inputValue(), 'kept <b>as</b> it "is"', 'the rest is still there');
  for (const [values, text, name] of [
    [{ name: 'ci-deploy' }, t.errors.apikey_key_name_taken, 'a taken name'],
    [{ name: 'fits', scopes: 'a* b' }, t.errors.apikey_scopes, 'a bad scope'],
    [{ scopes: '', expiry: 'date', expires_on: '2020-02-02' }, t.errors.apikey_expires_later, 'an end that is past'],
    [{ expires_on: '' }, t.errors[22007], 'no date'],
  ]) {
    await fill(page, values);
    await send(page);
    is(await alert(page), text, name);
  }
  await fill(page, { expiry: 'never' });
  await page.locator('details:not([open]) summary').click();
  await fill(page, { allowed_ips: 'nowhere' });
  await send(page);
  is(await alert(page), t.errors['22P02'], 'no address');
  await fill(page, { allowed_ips: '', name: 'never-ends' });
  await send(page);
  keys.push(await page.locator('#key').inputValue());
  like(await page.locator('.facts').innerText(), new RegExp(t.never), 'then it goes');
  await stored(page);
}

async function settings(page) {
  await page.goto(url('/o/acme/p/web/settings'));
  await fill(page, { name_pattern: '[a-z' });
  await send(page);
  is(await wrong(page), t.errors.apikey_name_pattern, 'a rule that is none');
  await fill(page, {
    name_pattern: '[a-z0-9-]{2,40}',
    max_ttl: '180',
    max_idle: '120',
    max_keys: '50',
    terms: 'Keys are secret.\nTell us when one leaks.',
    revealable: true,
  });
  await send(page);
  is(await notice(page), t.notices.saved, 'settings are saved');
  is(
    await sql(`SELECT max_ttl::text, max_idle::text, max_keys FROM auth.apikey_projects WHERE path = 'acme/web'`),
    [{ max_ttl: '180 days', max_idle: '120 days', max_keys: 50 }],
    'as they were typed',
  );
  await look(page, 'settings');
  await page.getByRole('button', { name: t.apply }).click();
  is(await notice(page), t.notices.applied(1), 'and applied to the key that never ended');

  // Two tabs.
  const other = await page.context().newPage();
  await other.goto(url('/o/acme/p/web/settings'));
  await fill(page, { max_keys: '60' });
  await send(page);
  await fill(other, { max_keys: '70' });
  await send(other);
  is(await alert(other), t.changedMeanwhile, 'a second tab does not overwrite the first');
  is(
    [
      await other.locator('#max_keys').inputValue(),
      await value(`SELECT max_keys FROM auth.apikey_projects WHERE path = 'acme/web'`),
    ],
    ['70', 60],
    'nor lose what it has',
  );
  await send(other);
  is(
    await value(`SELECT max_keys FROM auth.apikey_projects WHERE path = 'acme/web'`),
    70,
    'and does so when it was seen',
  );
  await leave(other);
}

// The rules of the project hold in the form.
async function rules(page) {
  await page.goto(url('/o/acme/p/web/new'));
  like(await page.locator('#name-hint').innerText(), /\[a-z0-9-\]\{2,40\}/, 'the form shows the rule of names');
  check(!(await page.locator('#expiry').innerText()).includes(t.neverExpires), 'and offers no key without an end');
  await fill(page, { name: 'Déploiement' });
  await fill(page, { accept_terms: true });
  await send(page);
  is(await wrong(page), t.errors.apikey_key_name_pattern, 'a name against the rule');
  await look(page, 'create-against-rule');
  check(await page.locator('#accept_terms').isChecked(), 'what was agreed to stays so');
  await sql(`UPDATE auth.apikey_projects SET terms = 'Keys are very secret.' WHERE path = 'acme/web'`);
  await fill(page, { name: 'billing', expiry: '30' });
  await send(page);
  is(await alert(page), t.errors.apikey_accept_terms, 'terms that changed meanwhile');
  check(!(await page.locator('#accept_terms').isChecked()), 'have to be agreed to anew');
  like(await page.locator('.terms').innerText(), /very/, 'as they are now');
  await look(page, 'create-with-terms');
  await fill(page, { accept_terms: true, expiry: 'date', expires_on: '2099-01-01' });
  await send(page);
  is(await alert(page), t.errors.apikey_expires_within_max_ttl, 'an end too far');
  await fill(page, { expiry: '30', role: 'owner' });
  await send(page);
  const key = await shown(page);
  await stored(page);
  is(
    await value(`SELECT accepted_terms FROM auth.apikeys WHERE name = 'billing'`),
    'Keys are very secret.',
    'the agreement is kept',
  );
  return key;
}

async function changes(page) {
  await act(page, 'billing', 'showAgain');
  await send(page);
  is(await page.locator('#key').inputValue(), keys.at(-1), 'a key is shown again');
  await look(page, 'shown-again');
  await stored(page);
  is(
    await value(`SELECT actor_subject FROM auth.apikey_events WHERE event = 'revealed'`),
    'u1',
    'and that is recorded',
  );

  // Two tabs on one key.
  await act(page, 'billing', 'edit');
  const other = await page.context().newPage();
  await other.goto(page.url());
  await look(page, 'edit');
  await fill(page, { description: 'the first tab', quota: '70', quota_period: '1 day' });
  await send(page);
  is(await notice(page), t.notices.saved, 'an edit');
  await fill(other, { description: 'the second tab', scopes: 'invoices:*', quota: '60' });
  await send(other);
  is(await alert(other), t.changedMeanwhile, 'a second tab is told');
  like(await other.locator('main .warning').innerText(), /the first tab/, 'what stands there now');
  await look(other, 'edit-conflict');
  is(
    await value(`SELECT description FROM auth.apikeys WHERE name = 'billing'`),
    'the first tab',
    'which was not overwritten',
  );
  await send(other);
  is(
    await sql(`SELECT description, scopes FROM auth.apikeys WHERE name = 'billing'`),
    [{ description: 'the second tab', scopes: ['invoices:*'] }],
    'until it is saved again',
  );
  is(
    await sql(
      `SELECT amount, period::text FROM auth.apikey_limits l JOIN auth.apikeys k ON k.id = l.key_id WHERE name = 'billing'`,
    ),
    [{ amount: 60, period: '1 day' }],
    'its quota too, which is lowered',
  );
  await leave(other);

  await act(page, 'billing', 'rename');
  await fill(page, { new_name: 'ci-deploy' });
  await send(page);
  is(await wrong(page), t.errors.apikey_key_name_taken, 'a new name that is taken');
  await fill(page, { new_name: 'billing-2' });
  await send(page);
  is(await heading(page), `billing-2 ${t.statuses.active}`, 'a new name');

  const old = keys.at(-1);
  await act(page, 'billing-2', 'rotate');
  await look(page, 'rotate');
  await fill(page, { grace: '7 days' });
  await send(page);
  const key = await shown(page);
  is([await code(old), await code(key)], ['valid', 'valid'], 'rotated: both work');
  await stored(page);
  await page.goto(url('/o/acme/p/web?status=retiring'));
  await page.getByRole('link', { name: 'billing-2', exact: true }).click();
  like(await page.locator('main .warning').innerText(), new RegExp(t.successor), 'the old one leads to the new');

  await page.goto(url('/o/acme/p/web?q=billing-2&status=active'));
  await page.getByRole('link', { name: 'billing-2', exact: true }).click();
  await page.getByRole('button', { name: t.disable, exact: true }).click();
  is([await notice(page), await code(key)], [t.notices.disabled, 'disabled'], 'disabled');
  await page.getByRole('button', { name: t.enable, exact: true }).click();
  is([await notice(page), await code(key)], [t.notices.enabled, 'valid'], 'enabled');
  await page.getByRole('link', { name: t.transfer, exact: true }).click();
  await fill(page, { new_owner: 'u2' });
  await send(page);
  is(
    [
      await notice(page),
      await value(`SELECT subject FROM auth.apikeys WHERE name = 'billing-2' AND status = 'active'`),
    ],
    [t.notices.transferred, 'u2'],
    'handed over',
  );

  await page.getByRole('link', { name: t.revoke, exact: true }).click();
  await look(page, 'revoke');
  await fill(page, { reason: 'found in a log' });
  await send(page);
  is([await notice(page), await code(key)], [t.notices.revoked, 'revoked'], 'revoked');
  like(await page.locator('.facts').last().innerText(), /found in a log/, 'with the reason');
  await look(page, 'revoked');
  await page.getByRole('link', { name: t.delete, exact: true }).click();
  await fill(page, { confirm_name: 'billing' });
  await send(page);
  is(await wrong(page), t.errors.apikey_confirm_name, 'a wrong name deletes nothing');
  await look(page, 'delete');
  await fill(page, { confirm_name: 'billing-2' });
  await send(page);
  is(await notice(page), t.notices.deleted, 'the right one does');
}

// Nobody's search puts a key into an address.
async function search(page) {
  const names = () => page.locator('tbody th a').allInnerTexts();
  const find = async (text) => {
    await page.locator('#q').fill(text);
    await page.getByRole('button', { name: t.search }).click();
    return names();
  };
  const tail = await value(`SELECT right(masked_key, 4) FROM auth.apikeys WHERE name = 'ci-deploy'`);
  const id = await value(`SELECT id FROM auth.apikeys WHERE name = 'ci-deploy'`);
  await page.goto(url('/o/acme/p/web'));
  is(await find('DEPLOY'), ['ci-deploy'], 'found by a part of the name');
  is(await find(tail), ['ci-deploy'], 'by the last four');
  is(await find(`ak_...${tail}`), ['ci-deploy'], 'by the masked key');
  is(await find(id), ['ci-deploy'], 'by the id');
  is(await find(`x-api-key: ${keys[1]}`), ['ci-deploy'], 'by a whole key');
  is(new URL(page.url()).searchParams.get('q'), id, 'which is replaced by its id');
  is(await find(`ak_${'x'.repeat(61)}`), [], 'what is no key');
  check(
    !asked.some((each) => each.includes('xxxxx')),
    'goes into no address either',
    asked.filter((each) => each.includes('xxxxx')),
  );
  is(await find('nothing like it'), [], 'nothing');
  is(await page.locator('.empty').innerText(), t.nothingFound, 'is told');
}

export async function deletedPeople(page) {
  // A demotion: the key sinks.
  const [{ key }] = await as(
    'anna',
    `SELECT auth.apikey_create('of-anna', 'acme/web', accept_terms => 'Keys are very secret.', expires_at => now() + '10 days') AS key`,
  );
  const [{ key: lees }] = await as(
    'lee',
    `SELECT auth.apikey_create('of-lee', 'acme/web', accept_terms => 'Keys are very secret.', expires_at => now() + '10 days') AS key`,
  );
  keys.push(key, lees);
  const least = (role) =>
    value('SELECT code FROM auth.apikey_verify($1, project => $2, min_role => $3::auth.apikey_role, cost => 0)', [
      key,
      'acme/web',
      role,
    ]);
  await page.goto(url('/o/acme/p/web/members/u2'));
  like(await page.locator('main').innerText(), /of-anna/, 'a member’s keys are shown before it changes');
  await look(page, 'member');
  await fill(page, { role: 'developer' });
  await send(page);
  is(
    [await notice(page), await least('admin'), await least('developer')],
    [t.notices.saved, 'insufficient_role', 'valid'],
    'a demotion takes the key along',
  );
  await open(page, 'of-anna');
  like(
    await page.locator('main').innerText(),
    new RegExp(t.sunk('Admin', 'Developer').slice(0, 40)),
    'which its page says',
  );
  await page.goto(url('/o/acme/p/web/members/u2'));
  await fill(page, { role: 'admin' });
  await send(page);
  is(await least('admin'), 'valid', 'and back');

  // Somebody deletes itself.
  const lee = await signIn('lee');
  await lee.goto(url('/account'));
  await fill(lee, { confirm_name: 'me' });
  await send(lee);
  is(await wrong(lee), t.errors.apikey_confirm_name, 'nobody is deleted by a slip');
  await look(lee, 'account');
  await fill(lee, { confirm_name: 'lee@example.com' });
  await send(lee);
  is([await heading(lee), await code(lees)], [t.signIn, 'forbidden'], 'a deleted user is out, and so is its key');
  await leave(lee.context());
  await open(page, 'of-lee');
  like(await page.locator('main').innerText(), new RegExp(t.deletedUser), 'it is told who is no more');
  await look(page, 'forbidden');
  await page.getByRole('link', { name: t.rotate, exact: true }).click();
  await send(page);
  is(await code(await shown(page)), 'valid', 'and the key goes on by a rotation');
  await stored(page);

  await page.goto(url('/account'));
  await fill(page, { confirm_name: 'olga@example.com' });
  await send(page);
  is(await alert(page), t.lastOwnerAccount, 'the last owner stays');
  await page.goto(url('/o/acme/members/u1'));
  await page.getByRole('button', { name: t.removeMember }).click();
  is(await alert(page), t.lastOwner, 'in the list of members too');
}

async function members(page) {
  await page.goto(url('/o/acme/p/web/members'));
  for (const [email, text] of [
    ['nobody@example.com', t.nobodyOfThisAddress],
    ['anna@example.com', t.memberAlready],
  ]) {
    await fill(page, { email, role: 'developer' });
    await send(page);
    is(await wrong(page), text, `adding ${email}`);
  }
  await fill(page, { email: 'sam@example.com', role: 'developer' });
  await send(page);
  is(await notice(page), t.notices.memberAdded, 'a member is added');
  await page.goto(url('/o/acme/p/web/members/u4'));
  await page.getByRole('button', { name: t.removeMember }).click();
  is(
    [await notice(page), await value(`SELECT count(*)::int FROM auth.apikey_members WHERE subject = 'u4'`)],
    [t.notices.memberRemoved, 0],
    'and removed',
  );
}

// Somebody who belongs to nothing makes an organization, and ends it; in both
// languages.
async function organization() {
  const page = await signIn('sam');
  await fill(page, { name: 'acme' });
  await send(page);
  is(await wrong(page), t.errors.apikey_organization_name_taken, 'a name of an organization that is taken');
  await fill(page, { name: 'sams' });
  await send(page);
  is([await heading(page), await notice(page)], ['sams', t.notices.organizationCreated], 'one that is not');
  await page.getByRole('button', { name: '中文' }).click();
  const zh = LANGUAGES.zh.texts;
  is(
    [new URL(page.url()).pathname, await page.locator('html').getAttribute('lang')],
    ['/o/sams', 'zh-CN'],
    'the language changes, the page does not',
  );
  await page.getByRole('link', { name: zh.dropOrganization }).click();
  await fill(page, { confirm_name: 'sams' });
  await send(page);
  is(await notice(page), zh.notices.dropped, 'it is dropped');
  await page.getByRole('button', { name: zh.signOut }).click();
  await page.goto(url('/o/acme'));
  is(await heading(page), zh.signIn, 'signed out');
  await leave(page.context());
}

export default async function () {
  const page = await signIn('olga');
  await newProject(page);
  await shownOnce(page);
  await refusals(page);
  await settings(page);
  await rules(page);
  await changes(page);
  await search(page);
  await members(page);
  await deletedPeople(page);
  await organization();
  await page.goto(url('/o/acme/p/mobile/drop'));
  await fill(page, { confirm_name: 'mobile' });
  await send(page);
  is(await wrong(page), t.errors.apikey_confirm_name, 'a project is not dropped by a slip');
  await look(page, 'drop');
  await fill(page, { confirm_name: 'acme/mobile' });
  await send(page);
  is(
    [await notice(page), await value(`SELECT count(*)::int FROM auth.apikey_projects WHERE path = 'acme/mobile'`)],
    [t.notices.dropped, 0],
    'but by its path',
  );
  await leave(page.context());
}
