// Limits of a project or of an organization, of all keys there or of one
// person's.  A key's own stand in its form.
import { html } from 'hono/html';
import { as } from './database.js';
import { change, Conflict, leave, lock, NotFound, refusal, statusOf } from './change.js';
import { isId, names, openPlace, personName, tabs } from './project.js';
import { card, cell, facts, Fields, first, form, head, message, moment, NEEDED, number, page, row, span, table } from './layout.js';

const KINDS = ['rate', 'quota', 'balance'];
const PERIODS = ['second', 'minute', 'hour', 'day', 'week', 'month', 'year'];
const MOST = 9007199254740992;
const USUAL = { unit: 'requests', kind: 'rate', count: '1', period: 'minute' };

// A number as it was typed; the database says which ones fit.
function whole(text, field, rule) {
  if (!/^\d{1,16}$/.test(text)) throw refusal('22023', field, rule);
  return text;
}

function periodOf({ kind, count, period }) {
  if (kind === 'balance') return null;
  if (!/^\d{1,6}$/.test(count) || !PERIODS.includes(period)) throw refusal('22023', 'period', 'apikey_limit_period');
  return `${count} ${period}`;
}

const amountOf = (typed) => whole(typed.amount, 'amount', 'apikey_amount');
const overdraftOf = (typed) => whole(typed.overdraft || '0', 'overdraft', 'apikey_limit_overdraft');

// Those whose keys may have a limit of their own.
const holders = (db, { path }) => db.all(`SELECT DISTINCT p.id, p.name FROM apikey_members m JOIN console.person p ON p.id = m.subject
  WHERE (m.path = split_part($1, '/', 1) OR m.path = $1 OR split_part(m.path, '/', 1) = $1) AND p.deleted_at IS NULL
  ORDER BY p.name, p.id`, [path]);

const nameOf = (t, limit) => t.limitName(limit.unit, t.kinds[limit.kind]);
const whose = (c, who, limit) => limit.subject ? personName(c, who, limit.subject) : c.get('t').allKeysHere;
const size = (c, limit) => limit.period ? c.get('t').amountPer(number(c, limit.amount), span(c, limit.period)) : number(c, limit.amount);
const left = (c, limit) => limit.remaining === null ? '?' : number(c, limit.remaining);

const amountField = (t, fields) => fields.input('amount', t.amount, { type: 'number', attributes: `required min="1" max="${MOST}"` });
const overdraftField = (t, fields) => fields.input('overdraft', t.overdraft,
  { type: 'number', hint: t.overdraftHint, attributes: `min="0" max="${MOST}"` });
const sharedField = (t, fields) => fields.check('shared', t.shared, { hint: t.sharedHint });

function newFields(t, fields, people) {
  return html`
    ${fields.select('subject', t.whoseKeys, [['', t.allKeysHere], ...people.map(({ id, name }) => [id, name])])}
    <div class="row">
    ${fields.input('unit', t.unit, { hint: t.unitHint, attributes: `maxlength="40" ${NEEDED}` })}
    ${fields.select('kind', t.kind, KINDS.map((each) => [each, t.kindChoices[each]]))}</div>
    <div class="row">
    ${amountField(t, fields)}
    ${fields.input('count', t.every, { type: 'number', hint: t.everyHint, attributes: 'min="1" max="999999"' })}
    ${fields.select('period', t.period, PERIODS.map((each) => [each, t.periods[each]]))}</div>
    ${overdraftField(t, fields)}${sharedField(t, fields)}`;
}

async function limitsPage(c, problem) {
  const t = c.get('t');
  const { place, limits, people, who } = await as(c.get('user'), async (db) => {
    const place = await openPlace(db, c);
    const limits = await db.all(`SELECT * FROM apikey_limits WHERE path IN ($1, split_part($1, '/', 1))
      ORDER BY path DESC, subject NULLS FIRST, unit, kind, period`, [place.path]);
    return { place, limits, people: place.owns ? await holders(db, place) : [],
      who: await names(db, limits.map((each) => each.subject)) };
  });
  const line = (limit) => row(
    first(nameOf(t, limit)),
    cell(t.whoseKeys, whose(c, who, limit)),
    cell(t.amount, size(c, limit)),
    cell(t.left, left(c, limit)),
    cell(t.resets, moment(c, limit.resets_at, { exact: true })),
    cell(t.holdsIn, limit.path),
    place.owns && cell('', limit.path === place.path
      && html`<a class="button small" href="${place.href}/limits/${limit.id}">${t.change}</a>`));
  const heads = [t.limit, t.whoseKeys, t.amount, t.left, t.resets, t.holdsIn].map((text) => head(text));
  return page(c, {
    title: `${t.limits} · ${place.path}`, heading: t.limits, lead: t.limitsLead,
    crumbs: place.crumbs, status: problem ? 422 : 200, tabs: tabs(c, place, 'limits'),
    body: html`
      ${problem && !place.owns && html`<p class="problem" role="alert" tabindex="-1">${problem.text}</p>`}
      ${limits.length === 0 ? html`<div class="empty"><p>${t.noLimits}</p></div>`
        : table(t.limits, [heads, place.owns && head(html`<span class="unseen">${t.change}</span>`)], limits.map(line))}
      ${place.owns && card(t.newLimit, form(c, `${place.href}/limits`,
        newFields(t, new Fields(c.get('form') ?? USUAL, problem), people), { submit: t.setLimit, problem }))}`,
  });
}

async function setLimit(c) {
  const t = c.get('t');
  const typed = c.get('form');
  const result = await change(c, async (db) => {
    const place = await openPlace(db, c);
    const subject = typed.subject || null;
    if (subject && !(await holders(db, place)).some(({ id }) => id === subject)) throw new Conflict(t.noMemberHere, 'subject');
    await lock(db, place.path);
    const values = [typed.unit, typed.kind, periodOf(typed), place.path, subject];
    // To set it again would change the one that is here.
    const before = await db.one(`SELECT FROM apikey_limits WHERE unit = $1 AND kind = $2
      AND period::text IS NOT DISTINCT FROM $3::interval::text AND path = $4 AND subject IS NOT DISTINCT FROM $5`, values);
    if (before) throw new Conflict(t.limitAlready, 'unit');
    await db.one(`SELECT apikey_limit_set($1, $6::bigint, $3::interval, $2, path => $4, subject => $5, shared => $7,
      overdraft => $8::bigint)`, [...values, amountOf(typed), typed.shared === 'yes', overdraftOf(typed)]);
    return { go: `${place.href}/limits`, notice: ['limitSet'] };
  });
  return result.problem ? limitsPage(c, withLibrary(t, result.problem)) : leave(c, result);
}

const withLibrary = (t, problem) => problem.code === '55000' ? { ...problem, text: t.noLibrary } : problem;

// One limit: another size, or none.
async function openLimit(db, c) {
  const place = await openPlace(db, c);
  const id = c.req.param('id');
  const limit = isId(id)
    && await db.one('SELECT * FROM apikey_limits WHERE id = $1 AND path = $2', [id, place.path]);
  if (!limit) throw new NotFound();
  return { place, limit, state: JSON.stringify([limit.amount, limit.overdraft, limit.shared]) };
}

async function limitPage(c, problem) {
  const t = c.get('t');
  const { place, limit, state, who } = await as(c.get('user'), async (db) => {
    const opened = await openLimit(db, c);
    return { ...opened, who: await names(db, [opened.limit.subject]) };
  });
  if (!place.owns) return message(c, 403, t.mayNot, t.ownersOnly, html`<p><a href="${place.href}/limits">${t.back}</a></p>`);
  const at = `${place.href}/limits/${limit.id}`;
  const typed = c.get('form');
  const fields = new Fields(typed?.amount ? typed : { ...limit, shared: limit.shared ? 'yes' : '' }, problem);
  return page(c, {
    title: `${nameOf(t, limit)} · ${place.path}`, heading: nameOf(t, limit), lead: place.path,
    crumbs: [...place.crumbs, [`${place.href}/limits`, t.limits]], narrow: true,
    status: statusOf(problem),
    body: html`
      ${card(t.details, facts(
        [t.whoseKeys, whose(c, who, limit)], [t.amount, size(c, limit)], [t.left, left(c, limit)],
        limit.resets_at && [t.resets, moment(c, limit.resets_at, { exact: true })],
        limit.overdraft > 0 && [t.overdraft, number(c, limit.overdraft)], limit.shared && [t.shared, t.yes],
        [t.created, moment(c, limit.created_at)]))}
      ${card(t.changeLimit, form(c, at, html`${fields.hidden('state', state)}${amountField(t, fields)}
        ${limit.kind === 'rate' ? sharedField(t, fields) : overdraftField(t, fields)}`,
      { submit: t.save, cancel: `${place.href}/limits`, problem }))}
      ${card(t.dropLimit, html`<p>${t.dropLimitLead}</p>
        ${form(c, `${at}/drop`, fields.hidden('state', state), { submit: t.dropLimit, danger: true })}`)}`,
  });
}

const changeLimit = (drop) => async (c) => {
  const typed = c.get('form');
  const result = await change(c, async (db) => {
    await lock(db, c.req.param('id'));
    const { place, limit, state } = await openLimit(db, c);
    if (typed.state !== state) throw new Conflict(c.get('t').limitChanged);
    if (drop) await db.one('SELECT apikey_limit_drop($1)', [limit.id]);
    else await db.one('UPDATE apikey_limits SET amount = $2::bigint, overdraft = $3::bigint, shared = $4 WHERE id = $1',
      [limit.id, amountOf(typed), overdraftOf(typed), limit.kind === 'rate' ? typed.shared === 'yes' : limit.shared]);
    return { go: `${place.href}/limits`, notice: [drop ? 'limitDropped' : 'saved'] };
  });
  return result.problem ? limitPage(c, withLibrary(c.get('t'), result.problem)) : leave(c, result);
};

export function limitRoutes(app) {
  for (const at of ['/o/:org/limits', '/o/:org/p/:project/limits']) {
    app.get(at, (c) => limitsPage(c));
    app.post(at, setLimit);
    app.get(`${at}/:id`, (c) => limitPage(c));
    app.post(`${at}/:id`, changeLimit(false));
    app.post(`${at}/:id/drop`, changeLimit(true));
  }
}
