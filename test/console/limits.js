// Limits of a project, an organization and a person there: what each role sees
// and may do, what does not fit, and two tabs.
import {
  LANGUAGES,
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
  speak,
  sql,
  url,
  value,
  wrong,
} from './tools.js';

const t = LANGUAGES.en.texts;
const PROJECT = '/o/acme/p/web/limits';
const ORGANIZATION = '/o/acme/limits';

const stored = (where = `path IS NOT NULL`) =>
  sql(`SELECT path, subject, unit, kind, amount, period::text, shared, overdraft FROM auth.apikey_limits
    WHERE ${where} ORDER BY path, subject NULLS FIRST, unit, kind`);
const lines = (page) => page.locator('tbody tr').allInnerTexts();
const idOf = (unit, kind) =>
  value('SELECT id FROM auth.apikey_limits WHERE path IS NOT NULL AND unit = $1 AND kind = $2', [unit, kind]);

// What does not fit is told where it stands; then it is set.
async function set(page) {
  await page.goto(url(PROJECT));
  is(await page.locator('.empty').innerText(), t.noLimits, 'no limit yet');
  await fill(page, { unit: 'Tokens!', kind: 'rate', count: '1', period: 'month', amount: '500', overdraft: '7' });
  for (const [values, text, field] of [
    [{}, t.errors.apikey_unit, 'unit'],
    [{ unit: 'tokens' }, t.errors.apikey_limit_period, 'period'],
    [{ period: 'hour' }, t.errors.apikey_limit_overdraft, 'overdraft'],
  ]) {
    await fill(page, values);
    await send(page);
    is([await wrong(page), await page.locator('[aria-invalid]').getAttribute('id')], [text, field], `a bad ${field}`);
  }
  is(await page.locator('#amount').inputValue(), '500', 'the rest is still there');
  await look(page, 'limits-refused');
  await fill(page, { kind: 'quota', count: '3', period: 'week', shared: false });
  await send(page);
  is(await notice(page), t.notices.limitSet, 'a quota is set');
  await fill(page, { unit: 'requests', kind: 'rate', count: '15', period: 'minute', amount: '600', shared: true });
  await send(page);
  await fill(page, { subject: 'u3', unit: 'images', kind: 'balance', amount: '40' });
  await send(page);
  is(
    await stored(),
    [
      {
        path: 'acme/web',
        subject: null,
        unit: 'requests',
        kind: 'rate',
        amount: 600,
        period: '00:15:00',
        shared: true,
        overdraft: 0,
      },
      {
        path: 'acme/web',
        subject: null,
        unit: 'tokens',
        kind: 'quota',
        amount: 500,
        period: '21 days',
        shared: false,
        overdraft: 7,
      },
      {
        path: 'acme/web',
        subject: 'u3',
        unit: 'images',
        kind: 'balance',
        amount: 40,
        period: null,
        shared: false,
        overdraft: 0,
      },
    ],
    'limits as they were typed, of the project and of a person',
  );
  await fill(page, { unit: 'tokens', kind: 'quota', count: '21', period: 'day', amount: '9' });
  await send(page);
  is(
    [await wrong(page), (await stored(`unit = 'tokens'`))[0].amount],
    [t.limitAlready, 500],
    'one that is there is not set again',
  );
  for (const [values, name] of [
    [{ amount: '' }, 'no amount'],
    [{ amount: '1e3' }, 'no number'],
    [{ amount: '99999999999999999' }, 'a number that is too large'],
    [{ overdraft: '-1' }, 'a negative overdraft'],
    [{ count: '1', period: 'century' }, 'no period'],
    [{ kind: 'gift' }, 'no kind'],
    [{ subject: 'u4' }, 'a stranger’s'],
  ]) {
    const form = { unit: 'bad', kind: 'quota', count: '1', period: 'day', amount: '5', ...values };
    is(await post(page, PROJECT, form), [422], `a form of one’s own making: ${name}`);
  }
  is((await stored(`unit = 'bad'`)).length, 0, 'sets nothing');
}

// The organization's, and no more than eight.
async function organization(page) {
  await page.goto(url(ORGANIZATION));
  await fill(page, { unit: 'requests', kind: 'quota', count: '1', period: 'month', amount: '5000000' });
  await send(page);
  is(await notice(page), t.notices.limitSet, 'a quota of the organization');
  await as('olga', `SELECT apikey_limit_set('unit_' || n, 1, '1 day', path => 'acme') FROM generate_series(1, 7) n`);
  await fill(page, { unit: 'ninth', kind: 'rate', amount: '1' });
  await send(page);
  is(await alert(page), t.errors.apikey_limit_count, 'a ninth limit');
  await as('olga', `SELECT apikey_limit_drop(id) FROM apikey_limits WHERE unit LIKE 'unit_%'`);
  await page.goto(url(PROJECT));
  is((await lines(page)).length, 4, 'the project shows the organization’s too');
  is(await page.locator('tbody a').count(), 3, 'and offers to change its own');
}

async function change(page) {
  await page.getByRole('row', { name: 'tokens' }).getByRole('link', { name: t.change }).click();
  await look(page, 'limit');
  const other = await page.context().newPage();
  await other.goto(page.url());
  const third = await page.context().newPage();
  await third.goto(page.url());
  await fill(page, { amount: '700', overdraft: '0' });
  await send(page);
  is([await notice(page), (await stored(`unit = 'tokens'`))[0]?.amount], [t.notices.saved, 700], 'a limit is changed');
  await fill(other, { amount: '900' });
  await send(other);
  is(
    [await alert(other), await other.locator('#amount').inputValue()],
    [t.limitChanged, '900'],
    'a second tab is told, and loses nothing',
  );
  like(await other.locator('.facts').innerText(), /700/, 'and shown what stands there');
  await third.getByRole('button', { name: t.dropLimit }).click();
  is(
    [await alert(third), (await stored(`unit = 'tokens'`)).length],
    [t.limitChanged, 1],
    'nor does a third tab drop what it has not seen',
  );
  await fill(other, { overdraft: '' });
  await send(other);
  is((await stored(`unit = 'tokens'`))[0]?.amount, 900, 'which is saved when it was seen');
  await third.getByRole('button', { name: t.dropLimit }).click();
  is([await alert(third), (await stored(`unit = 'tokens'`)).length], [t.limitChanged, 1], 'again');
  await third.getByRole('button', { name: t.dropLimit }).click();
  is([await notice(third), (await stored(`unit = 'tokens'`)).length], [t.notices.limitDropped, 0], 'and dropped');
  await page.goto(other.url());
  await other.goto(url(`/o/acme/p/web/audit`));
  like((await lines(other))[0], new RegExp(t.events.limit_dropped), 'the audit log tells of it');
  await leave(other);
  await leave(third);
}

// A limit of a rate keeps its period; what is shared stays so unless it is unticked.
async function rate(page) {
  await page.goto(url(`${PROJECT}/${await idOf('requests', 'rate')}`));
  check(await page.locator('#shared').isChecked(), 'a shared rate');
  is(await page.locator('#overdraft').count(), 0, 'has no overdraft');
  await page.keyboard.press('Tab');
  await page.locator('#amount').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await page.waitForURL(/limits$/);
  is((await stored(`unit = 'requests' AND kind = 'rate'`))[0].shared, false, 'is unticked by keyboard');
}

// What each role sees and may do, in both languages.
async function roles() {
  for (const [person, count, role] of [
    ['olga', 3, 'owner'],
    ['anna', 2, 'admin'],
    ['dora', 2, 'developer'],
    ['sam', 0, 'stranger'],
  ]) {
    const page = await signIn(person);
    for (const language of Object.keys(LANGUAGES)) {
      await speak(page, language);
      await sees(page, language, role, count);
    }
    if (role !== 'owner') await forges(page, role);
    await leave(page.context());
  }
  is((await stored()).length, 3, 'all limits are as they were');
}

async function sees(page, language, role, count) {
  const { texts } = LANGUAGES[language];
  const status = (await page.goto(url(PROJECT))).status();
  if (role === 'stranger') {
    is([status, await heading(page)], [404, texts.notFound], `${language} stranger: no limits`);
    return;
  }
  is([await heading(page), (await lines(page)).length], [texts.limits, count], `${language} ${role}: sees limits`);
  const offered = [await page.locator('main form').count(), await page.locator('tbody a').count()];
  is(offered, role === 'owner' ? [1, 2] : [0, 0], `${language} ${role}: what is offered`);
  if (role === 'owner') await look(page, `${role}-${language}-limits`);
}

// Forms of its own making, with what stands there.
async function forges(page, role) {
  const id = await idOf('requests', 'rate');
  const wanted = role === 'stranger' ? [404, 404, 404, 404] : [403, 422, 403, 403];
  const form = { ...FORGED, state: '[600,0,false]' };
  const seen = [(await page.goto(url(`${PROJECT}/${id}`))).status()];
  for (const path of [PROJECT, `${PROJECT}/${id}`, `${PROJECT}/${id}/drop`])
    seen.push(...(await post(page, path, form)));
  is(seen, wanted, `${role}: sets, changes and drops none`);
}

const FORGED = { unit: 'mine', kind: 'rate', count: '1', period: 'day', amount: '9', overdraft: '0' };

export default async function () {
  await sql('DELETE FROM auth.apikey_limit WHERE key IS NULL');
  const page = await signIn('olga');
  await set(page);
  await organization(page);
  await change(page);
  await rate(page);
  await leave(page.context());
  await roles();
  await as('olga', 'SELECT apikey_limit_drop(id) FROM apikey_limits WHERE path IS NOT NULL');
}
