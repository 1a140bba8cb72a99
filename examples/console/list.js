// The list of a project's keys: search, sort, pages; and those that nobody uses.
import { html, raw } from 'hono/html';
import { as } from './database.js';
import { withoutKey } from './keytext.js';
import { openProject, tabs, names, personName } from './project.js';
import { badge, cell, Fields, first, form, head, moment, number, page, row, table } from './layout.js';
import { sparkline, usage } from './chart.js';
import { change, leave } from './change.js';

const PAGE = 20;
const UNUSED_DAYS = 90;

// Each has an expression without NULLs, so that the next page begins where this
// one ends: by the last row's value and id, which costs the same on each page.
const SORTS = {
  created: ['created_at', 'timestamptz'],
  name: ['lower(name)', 'text'],
  used: [`coalesce(last_used_at, '-infinity')`, 'timestamptz'],
  expires: [`coalesce(expires_at, 'infinity')`, 'timestamptz'],
};
const FALLING = ['created', 'used'];
const STATUSES = ['active', 'retiring', 'scheduled', 'disabled', 'forbidden', 'expired', 'revoked'];

const unused = `status IN ('active', 'disabled', 'forbidden', 'retiring')
  AND greatest(created_at, starts_at, last_used_at) < now() - interval '${UNUSED_DAYS} days'`;

// What the address says; whatever it says, something is shown.
function wish(query) {
  const sort = Object.hasOwn(SORTS, query.sort) ? query.sort : 'created';
  const falling = query.order ? query.order === 'down' : FALLING.includes(sort);
  let from;
  try {
    const [value, id] = JSON.parse(Buffer.from(query.after ?? query.before, 'base64url'));
    if (/^[0-9a-f-]{36}$/.test(id) && typeof value === 'string') from = [value, id];
  } catch { /* the first page */ }
  const status = STATUSES.includes(query.status) ? query.status : '';
  return { q: (query.q ?? '').trim().slice(0, 200), status, sort, falling, from, back: from && query.before !== undefined };
}

function link(base, want, changes) {
  const { q, status, sort, falling, ...rest } = { ...want, from: undefined, back: undefined, ...changes };
  const order = falling === FALLING.includes(sort) ? '' : falling ? 'down' : 'up';
  const query = { q, status, sort: sort === 'created' ? '' : sort, order, after: rest.after, before: rest.before };
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return text ? `${base}?${text}` : base;
}

// Keys whose name, id or last four characters are, or hold, what was typed.
const MATCH = `project = $1 AND ($3 = '' OR status = $3)
  AND ($2 = '' OR strpos(lower(name), lower($2)) > 0 OR id::text = lower($2)
    OR $2 ~ '^([a-z][a-z0-9_]*_[.]{3})?[0-9A-Za-z]{4}$' AND right(masked_key, 4) = right($2, 4))`;

async function find(db, path, want) {
  const [expression, type] = SORTS[want.sort];
  const down = want.falling !== Boolean(want.back);
  const rows = await db.all(`
    SELECT *, (${expression})::text AS sort_value, ${unused} AS unused FROM apikeys
      WHERE ${MATCH} ${want.from ? `AND (${expression}, id) ${down ? '<' : '>'} ($4::${type}, $5::uuid)` : ''}
      ORDER BY ${expression} ${down ? 'DESC' : 'ASC'}, id ${down ? 'DESC' : 'ASC'} LIMIT ${PAGE + 1}`,
  [path, want.q, want.status, ...want.from ?? []]);
  const more = rows.length > PAGE;
  rows.length = Math.min(rows.length, PAGE);
  if (want.back) rows.reverse();
  const cursor = (row) => Buffer.from(JSON.stringify([row.sort_value, row.id])).toString('base64url');
  return { rows,
    next: (want.back || more) && rows.length > 0 && { after: cursor(rows.at(-1)) },
    previous: (want.back ? more : want.from) && rows.length > 0 && { before: cursor(rows[0]) } };
}

async function listPage(c) {
  const t = c.get('t');
  const want = wish(c.req.query());
  const asked = withoutKey(want.q);
  if (asked !== want.q) return c.redirect(link(c.req.path, { ...want, q: asked }, {}), 303);

  const shown = await as(c.get('user'), async (db) => {
    const project = await openProject(db, c);
    const found = await find(db, project.path, want);
    const counts = await db.one(`
      SELECT count(*) AS all, count(*) FILTER (WHERE ${MATCH}) AS matching, count(*) FILTER (WHERE ${unused}) AS unused,
             count(*) FILTER (WHERE status = 'active' AND expires_at < now() + interval '7 days') AS expiring
        FROM apikeys WHERE project = $1`, [project.path, want.q, want.status]);
    return { project, ...found, counts, of: await usage(db, found.rows.map((row) => row.id)),
      who: await names(db, found.rows.map((row) => row.created_by_subject)) };
  });
  const { project, rows, counts, who, of } = shown;
  const searching = want.q || want.status;

  const column = (sort, text) => {
    const current = want.sort === sort;
    const falling = current ? !want.falling : FALLING.includes(sort);
    const arrow = current && html`<span aria-hidden="true">${want.falling ? ' ↓' : ' ↑'}</span>`;
    return head(html`<a href="${link(project.href, want, { sort, falling })}">${text}${arrow}</a>`,
      current && (want.falling ? 'descending' : 'ascending'));
  };
  const line = (key) => row(
    first(html`<a href="/k/${key.id}">${key.name}</a><small class="id">${key.id}</small>`),
    cell(t.key, html`<code>${key.masked_key}</code>`),
    cell(t.status, html`<span>${badge(c, key.status)}${key.unused && html` <small>${t.unused}</small>`}</span>`),
    cell(t.createdBy, personName(c, who, key.created_by_subject, key.created_by)),
    cell(t.created, moment(c, key.created_at)),
    cell(t.lastUsed, moment(c, key.last_used_at, { empty: '-' })),
    cell(t.expires, moment(c, key.expires_at, { empty: t.never })),
    cell(t.use, sparkline(c, of(key.id))));
  const heads = [column('name', t.name), head(t.key), head(t.status), head(t.createdBy), column('created', t.created),
    column('used', t.lastUsed), column('expires', t.expires), head(t.use)];
  const count = searching ? t.keysMatching(number(c, counts.matching), number(c, counts.all))
    : t.keyCount(counts.all, number(c, counts.all));
  const turn = (to, rel, text) => to && html`<a class="button" rel="${rel}" href="${link(project.href, want, to)}">${text}</a>`;
  const soon = link(project.href, { status: 'active', sort: 'expires', falling: false }, {});
  const warnings = [
    project.manages && counts.unused > 0
      && html`<p>${t.unusedKeys(counts.unused)} <a href="${project.href}/unused">${t.review}</a></p>`,
    counts.expiring > 0 && html`<p>${t.expiringKeys(counts.expiring)} <a href="${soon}">${t.look}</a></p>`,
  ].filter(Boolean);

  return page(c, {
    title: `${t.apiKeys} · ${project.path}`,
    heading: t.apiKeys,
    lead: project.manages ? t.listLead : project.members_can_view ? t.listLeadMember : t.listLeadOwn,
    crumbs: project.crumbs,
    tabs: tabs(c, project, 'keys'),
    actions: project.manages && html`<a class="button primary" href="${project.href}/new">${t.createKey}</a>`,
    body: html`
      ${warnings.length > 0 && html`<div class="warning">${warnings}</div>`}
      <form class="search" method="post" action="${project.href}/search" role="search" autocomplete="off">
        ${new Fields({}).hidden('token', c.get('newToken')())}
        <label for="q" class="unseen">${t.search}</label>
        <input type="search" id="q" name="q" value="${want.q}" placeholder="${t.searchHint}" maxlength="200">
        <label for="status" class="unseen">${t.status}</label>
        <select id="status" name="status"><option value="">${t.allStatuses}</option>${STATUSES.map((status) => html`
          <option value="${status}" ${status === want.status && raw('selected')}>${t.statuses[status]}</option>`)}</select>
        <button>${t.search}</button>
        ${searching && html`<a href="${project.href}">${t.clear}</a>`}
      </form>
      ${rows.length === 0
        ? html`<div class="empty"><p>${searching ? t.nothingFound : project.manages ? t.noKeysYet : t.noKeysForYou}</p></div>`
        : table(t.apiKeys, heads, rows.map(line))}
      <nav class="pages" aria-label="${t.pages}"><span>${count}</span>
        ${turn(shown.previous, 'prev', t.previous)}${turn(shown.next, 'next', t.next)}</nav>`,
  });
}

// Keys that were not used for 90 days, each to be ticked off.
async function unusedPage(c, problem) {
  const t = c.get('t');
  const fields = new Fields({ reason: t.unusedReason, ...c.get('form') }, problem);
  const { project, rows, who } = await as(c.get('user'), async (db) => {
    const project = await openProject(db, c);
    const rows = await db.all(`SELECT * FROM apikeys WHERE project = $1 AND ${unused}
      ORDER BY greatest(created_at, starts_at, last_used_at) LIMIT 200`, [project.path]);
    return { project, rows, who: await names(db, rows.map((row) => row.created_by_subject)) };
  });
  const line = (key) => html`<li><label class="check"><input type="checkbox" name="id" value="${key.id}" checked>
    <span><b>${key.name}</b> <code>${key.masked_key}</code>
    <small>${t.lastUsed}: ${moment(c, key.last_used_at, { empty: '-' })} · ${t.created}: ${moment(c, key.created_at)} ·
      ${personName(c, who, key.created_by_subject, key.created_by)}</small></span></label></li>`;
  return page(c, {
    title: t.unusedTitle,
    lead: t.unusedLead(UNUSED_DAYS),
    crumbs: project.crumbs,
    narrow: true,
    status: problem ? 422 : 200,
    body: rows.length === 0 ? html`<div class="empty"><p>${t.nothingUnused}</p></div>`
      : form(c, `${project.href}/unused`, html`
        <fieldset><legend>${t.unusedChoice}</legend><ul class="choices">${rows.map(line)}</ul></fieldset>
        ${fields.input('reason', t.reason, { hint: t.reasonHint, attributes: 'maxlength="500"' })}`,
      { submit: t.revokeChosen, danger: true, cancel: project.href, problem }),
  });
}

// Ends those that were ticked off, and are still unused.
async function revokeUnused(c) {
  const asked = [c.get('form').id ?? []].flat().filter((id) => /^[0-9a-f-]{36}$/.test(id));
  const result = await change(c, async (db) => {
    const project = await openProject(db, c);
    const revoked = await db.all(`SELECT apikey_revoke(id, nullif($3, '')) FROM apikeys
      WHERE project = $1 AND id = ANY ($2) AND ${unused}`, [project.path, asked, c.get('form').reason]);
    return { go: project.href, notice: ['unusedRevoked', revoked.length, asked.length - revoked.length] };
  });
  return result.problem ? unusedPage(c, result.problem) : leave(c, result);
}

export function listRoutes(app) {
  const at = '/o/:org/p/:project';
  app.get(at, listPage);
  // By POST, since somebody will look for a whole key, which belongs into no
  // address: its id goes there instead.
  app.post(`${at}/search`, (c) => {
    const { q = '', status = '' } = c.get('form');
    const want = wish({ q: withoutKey(String(q)), status: String(status) });
    return c.redirect(link(c.req.path.replace(/\/search$/, ''), want, {}), 303);
  });
  app.get(`${at}/unused`, (c) => unusedPage(c));
  app.post(`${at}/unused`, revokeUnused);
}
