// The servers of a fleet, for operators: see setup.sql.
import { html } from 'hono/html';
import { as } from './database.js';
import { change, Conflict, leave, lock, NotFound, statusOf } from './change.js';
import { names, personName } from './project.js';
import { cell, Fields, first, form, head, message, moment, NEEDED, number, page, row, span, table } from './layout.js';

export const isOperator = async (db) => (await db.one('SELECT console.operates() AS yes')).yes;

// For anybody else there is no such page.
async function openServers(db) {
  if (!await isOperator(db)) throw new NotFound();
  return db.all(`SELECT * FROM console.servers() ORDER BY role = 'primary' DESC, name`);
}

const state = (t, { role, silent }) => role === 'primary' ? '–' : html`<span class="badge ${silent ? 'forbidden' : 'active'}">${silent ? t.silent : t.reports}</span>`;
const leases = (c, { leased }) => Object.entries(leased).filter(([, amount]) => amount > 0)
  .map(([unit, amount]) => c.get('t').leaseOf(unit, number(c, amount))).join(' · ') || '–';

async function serversPage(c) {
  const t = c.get('t');
  const { servers, events, who } = await as(c.get('user'), async (db) => {
    const servers = await openServers(db);
    const events = await db.all('SELECT * FROM console.server_events() ORDER BY id DESC');
    return { servers, events, who: await names(db, events.map((each) => each.actor_subject)) };
  });
  const line = (server) => row(
    first(html`${server.name}<small>${t.version(server.version)}</small>`),
    cell(t.role, t.serverRoles[server.role]),
    cell(t.status, state(t, server)),
    cell(t.lastReport, moment(c, server.last_report_at, { exact: true })),
    cell(t.lag, server.lag === null ? '–' : span(c, server.lag) || t.none),
    cell(t.uses, number(c, server.uses)),
    cell(t.leases, leases(c, server)),
    cell('', server.role !== 'primary'
      && html`<a class="button small" href="${address(server.name)}">${t.forget}</a>`));
  const heads = [t.server, t.role, t.status, t.lastReport, t.lag, t.uses, t.leases].map((text) => head(text));
  const told = (event) => row(
    cell(t.when, moment(c, event.at, { exact: true })),
    first(t.events[event.event]),
    cell(t.server, event.detail.server),
    cell(t.by, personName(c, who, event.actor_subject, event.actor)));
  return page(c, {
    title: t.servers, lead: t.serversLead, crumbs: [['/', t.projects]],
    body: html`
      ${servers.length === 1 && html`<p class="notice">${t.noFleet}</p>`}
      ${servers.some((each) => each.silent) && html`<p class="warning">${t.silentLead}</p>`}
      ${table(t.servers, [heads, head(html`<span class="unseen">${t.forget}</span>`)], servers.map(line))}
      ${events.length > 0 && html`<h2>${t.whatHappened}</h2>
        ${table(t.whatHappened, [t.when, t.event, t.server, t.by].map((text) => head(text)), events.map(told))}`}`,
  });
}

const address = (name) => `/servers/${encodeURIComponent(name)}/forget`;

async function openServer(db, c) {
  const server = (await openServers(db)).find(({ name }) => name === c.req.param('name'));
  if (!server) throw new NotFound();
  return server;
}

async function forgetPage(c, problem) {
  const t = c.get('t');
  const server = await as(c.get('user'), (db) => openServer(db, c));
  if (server.role === 'primary') return message(c, 409, t.mayNot, t.isPrimary, html`<p><a href="/servers">${t.back}</a></p>`);
  const fields = new Fields(c.get('form') ?? {}, problem);
  return page(c, {
    title: t.forgetServer(server.name), lead: server.silent ? t.forgetLead : t.forgetReporting,
    crumbs: [['/', t.projects], ['/servers', t.servers]], narrow: true, status: statusOf(problem),
    // Another server may have the name by now.
    body: form(c, address(server.name), html`${fields.hidden('was', server.first_seen_at)}
      ${fields.input('confirm_name', t.typeName(server.name), { attributes: NEEDED })}`,
    { submit: t.forget, danger: true, cancel: '/servers', problem }),
  });
}

async function forget(c) {
  const t = c.get('t');
  const typed = c.get('form');
  const result = await change(c, async (db) => {
    await lock(db, 'servers');
    const server = await openServer(db, c);
    if (typed.was !== server.first_seen_at) throw new Conflict(t.serverChanged);
    if (typed.confirm_name !== server.name) throw new Conflict(t.errors.apikey_confirm_name, 'confirm_name');
    await db.one('SELECT console.forget_server($1)', [server.name]);
    return { go: '/servers', notice: ['serverForgotten'] };
  });
  return result.problem ? forgetPage(c, result.problem) : leave(c, result);
}

export function serverRoutes(app) {
  app.get('/servers', serversPage);
  app.get('/servers/:name/forget', (c) => forgetPage(c));
  app.post('/servers/:name/forget', forget);
}
