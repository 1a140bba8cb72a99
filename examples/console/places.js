// Organizations and projects: what there is, members, settings, the audit log.
import { html } from 'hono/html';
import { as } from './database.js';
import { change, Conflict, leave, lock, NotFound } from './change.js';
import { made, secretPage } from './keys.js';
import { hrefs, names, openOrganization, openPlace, openProject, personName, tabs } from './project.js';
import { isOperator } from './servers.js';
import { card, cell, facts, Fields, first, form, head, message, moment, NEEDED, number, page, PLAIN, row, span, table } from './layout.js';

const ROLES = ['developer', 'admin', 'owner'];
const NAME = { attributes: `maxlength="64" ${NEEDED}` };
const inPlace = `(project = $1 OR split_part(project, '/', 1) = $1)`;
const MEMBER = `SELECT path, member::text AS member, subject, role, created_at FROM apikey_members`;

const role = (t, role) => html`<span class="badge">${t.roles[role]}</span>`;
const roleField = (t, fields) => fields.select('role', t.role, ROLES.map((each) => [each, t.roles[each]]));
const projectList = (c, projects) => html`<ul class="links">${projects.map((each) =>
  html`<li><a href="${hrefs(c, each.path).href}">${each.path}</a> ${role(c.get('t'), each.role)}</li>`)}</ul>`;

// All that somebody belongs to.
async function homePage(c, problem) {
  const t = c.get('t');
  const { organizations, projects, operates } = await as(c.get('user'), async (db) => ({
    organizations: await db.all('SELECT name, role FROM apikey_organizations ORDER BY name'),
    projects: await db.all('SELECT path, role FROM apikey_projects ORDER BY path'),
    operates: await isOperator(db),
  }));
  const all = [...organizations.map((each) => each.name), ...projects.map((each) => each.path.split('/')[0])];
  const block = (org) => {
    const own = organizations.find((each) => each.name === org);
    return card(html`<a href="/o/${org}">${org}</a> ${own && role(t, own.role)}`, html`
      ${projectList(c, projects.filter((each) => each.path.startsWith(`${org}/`)))}
      ${own?.role === 'owner' && html`<p><a class="button" href="/o/${org}/new">${t.newProject}</a></p>`}`);
  };
  const fields = new Fields(c.get('form') ?? {}, problem);
  return page(c, {
    title: t.projects,
    lead: all.length ? t.projectsLead : t.noProjects,
    actions: operates && html`<a class="button" href="/servers">${t.servers}</a>`,
    status: problem ? 422 : 200,
    body: html`<div class="grid">${[...new Set(all)].sort().map(block)}</div>
      ${card(t.newOrganization, form(c, '/organizations',
        fields.input('name', t.organizationName, { hint: t.placeNameHint, ...NAME }), { submit: t.create, problem }))}`,
  });
}

async function organizationPage(c) {
  const t = c.get('t');
  const org = await as(c.get('user'), (db) => openOrganization(db, c));
  return page(c, {
    title: org.name, crumbs: org.crumbs.slice(0, -1), tabs: tabs(c, org, 'projects'),
    actions: org.owns && html`<a class="button primary" href="${org.href}/new">${t.newProject}</a>`,
    body: html`${org.projects.length === 0 ? html`<div class="empty"><p>${t.noProjectsHere}</p></div>`
      : card('', projectList(c, org.projects))}
      ${org.owns && card(t.dangerZone, html`<a class="button danger" href="${org.href}/drop">${t.dropOrganization}</a>`)}`,
  });
}

async function newProjectPage(c, problem) {
  const t = c.get('t');
  const org = await as(c.get('user'), (db) => openOrganization(db, c));
  if (!org.owns) return message(c, 403, t.mayNot, t.ownersOnly, html`<p><a href="${org.href}">${t.back}</a></p>`);
  const fields = new Fields(c.get('form') ?? { default_key: 'yes' }, problem);
  return page(c, {
    title: t.newProject, crumbs: org.crumbs, narrow: true, status: problem ? 422 : 200,
    body: form(c, `${org.href}/new`, html`
      ${fields.input('name', t.projectName, { hint: t.placeNameHint, ...NAME })}
      ${fields.check('default_key', t.defaultKey, { hint: t.defaultKeyHint })}`,
    { submit: t.create, cancel: org.href, problem }),
  });
}

async function newProject(c) {
  const { name, default_key } = c.get('form');
  const path = `${c.req.param('org')}/${name}`;
  const result = await change(c, async (db) => {
    const { key } = await db.one('SELECT apikey_project_create($1, $2) AS key', [path, default_key === 'yes']);
    return key ? made(db, key) : { go: hrefs(c, path).href, notice: ['projectCreated'] };
  });
  if (result.problem) return newProjectPage(c, result.problem);
  return result.key ? secretPage(c, result, c.get('t').projectCreatedWithKey) : leave(c, result);
}

// Members of a project or of an organization.
async function membersPage(c, problem) {
  const t = c.get('t');
  const { place, members, who } = await as(c.get('user'), async (db) => {
    const place = await openPlace(db, c);
    const members = await db.all(`${MEMBER} WHERE path IN ($1, split_part($1, '/', 1))
      ORDER BY path DESC, role DESC, subject`, [place.path]);
    return { place, members, who: await names(db, members.map((each) => each.subject)) };
  });
  const fields = new Fields(c.get('form') ?? { role: 'developer' }, problem);
  const line = (member) => row(
    first(html`${personName(c, who, member.subject, member.member)}<small>${who.get(member.subject)?.email}</small>`),
    cell(t.role, role(t, member.role)),
    cell(t.holdsIn, member.path),
    cell(t.since, moment(c, member.created_at)),
    place.owns && cell('', member.path === place.path && member.subject
      && html`<a class="button small" href="${place.href}/members/${member.subject}">${t.change}</a>`));
  return page(c, {
    title: `${t.members} · ${place.path}`, heading: t.members, lead: place.path,
    crumbs: place.crumbs, status: problem ? 422 : 200,
    tabs: tabs(c, place, 'members'),
    body: html`
      ${table(t.members, [head(t.person), head(t.role), head(t.holdsIn), head(t.since),
        place.owns && head(html`<span class="unseen">${t.change}</span>`)], members.map(line))}
      ${card(t.whoMay, facts(...ROLES.map((each) => [t.roles[each], t.roleMay[each]])))}
      ${place.owns && card(t.addMember, form(c, `${place.href}/members`, html`<div class="row">
        ${fields.input('email', t.email, { type: 'email', attributes: 'required' })}${roleField(t, fields)}</div>`,
      { submit: t.add, problem }))}`,
  });
}

async function addMember(c) {
  const t = c.get('t');
  const { email, role } = c.get('form');
  const result = await change(c, async (db) => {
    const place = await openPlace(db, c);
    await lock(db, place.path);
    const person = await db.one(
      'SELECT id FROM console.person WHERE lower(email) = lower($1) AND deleted_at IS NULL', [email]);
    if (!person) throw new Conflict(t.nobodyOfThisAddress, 'email');
    // To add again would change the role of who is here.
    const member = await db.one(`${MEMBER} WHERE path = $1 AND subject = $2`, [place.path, person.id]);
    if (member) throw new Conflict(t.memberAlready, 'email');
    await db.one(`SELECT apikey_member_add($1, 'console', $2::apikey_role, $3)`, [place.path, role, person.id]);
    return { go: `${place.href}/members`, notice: ['memberAdded'] };
  });
  return result.problem ? membersPage(c, result.problem) : leave(c, result);
}

// One member: another role, or removed; and which keys will feel it.
async function memberPage(c, problem) {
  const t = c.get('t');
  const { place, member, who, keys } = await as(c.get('user'), async (db) => {
    const place = await openPlace(db, c);
    const member = await db.one(`${MEMBER} WHERE path = $1 AND subject = $2`, [place.path, c.req.param('subject')]);
    if (!member) throw new NotFound();
    return { place, member, who: await names(db, [member.subject]),
      keys: await db.all(`SELECT id, name, masked_key, project FROM apikeys WHERE ${inPlace}
        AND status NOT IN ('revoked', 'expired') AND $2 IN (subject, vouched_by_subject)
        ORDER BY project, name LIMIT 100`, [place.path, member.subject]) };
  });
  if (!place.owns) return message(c, 403, t.mayNot, t.ownersOnly);
  const at = `${place.href}/members/${member.subject}`;
  const fields = new Fields({ role: member.role, ...c.get('form') }, problem);
  return page(c, {
    title: t.memberOf(who.get(member.subject)?.name ?? t.deletedUser, place.path),
    crumbs: [...place.crumbs, [`${place.href}/members`, t.members]], narrow: true, status: problem ? 409 : 200,
    body: html`
      ${problem && html`<p class="problem" role="alert" tabindex="-1">${problem.text}</p>`}
      ${card(t.keysOfMember(keys.length), html`
        ${keys.length > 0 && html`<ul class="links">${keys.map((key) =>
          html`<li><a href="/k/${key.id}">${key.name}</a> <code>${key.masked_key}</code></li>`)}</ul>`}
        <p class="hint">${t.keysOfMemberHint}</p>`)}
      ${card(t.changeRole, form(c, at, html`${fields.hidden('was', member.role)}${roleField(t, fields)}`,
        { submit: t.save, cancel: `${place.href}/members` }))}
      ${card(t.removeMember, html`<p>${t.removeMemberLead}</p>
        ${form(c, `${at}/remove`, fields.hidden('was', member.role), { submit: t.removeMember, danger: true })}`)}`,
  });
}

const changeMember = (remove) => async (c) => {
  const { was, role } = c.get('form');
  const subject = c.req.param('subject');
  const result = await change(c, async (db) => {
    const place = await openPlace(db, c);
    await lock(db, place.path);
    const now = await db.one(`${MEMBER} WHERE path = $1 AND subject = $2`, [place.path, subject]);
    if (!now) throw new NotFound();
    if (now.role !== was) throw new Conflict(c.get('t').memberChanged);
    if (remove) await db.one(`SELECT apikey_member_remove($1, 'console', $2)`, [place.path, subject]);
    else await db.one(`SELECT apikey_member_add($1, 'console', $2::apikey_role, $3)`, [place.path, role, subject]);
    // Whoever has removed itself does not see the place any more.
    const gone = remove && subject === c.get('user');
    return { go: gone ? '/' : `${place.href}/members`, notice: [remove ? 'memberRemoved' : 'saved'] };
  });
  if (!result.problem) return leave(c, result);
  return memberPage(c, result.problem.code === '55000' ? { ...result.problem, text: c.get('t').lastOwner } : result.problem);
};

// Settings.  What stands in them is compared when they are saved.
const SETTINGS = ['members_can_view', 'name_pattern', 'max_ttl', 'max_idle', 'max_keys', 'terms', 'revealable'];
// An interval that is no whole number of days stays as it is, unless it is changed.
const DAYS = ['max_ttl', 'max_idle'];
const daysOf = (project, name) => project[name] && String(Math.round(project[`${name}_seconds`] / 86400));
function intervalOf(project, name, days) {
  return daysOf(project, name) === days ? project[name] : days ? `${days} days` : null;
}
const asText = (project) => JSON.stringify(SETTINGS.map((name) => project[name]));

async function settingsPage(c, problem) {
  const t = c.get('t');
  const project = await as(c.get('user'), (db) => openProject(db, c));
  const typed = c.get('form');
  const current = { ...project, max_ttl: daysOf(project, 'max_ttl'), max_idle: daysOf(project, 'max_idle'),
    members_can_view: project.members_can_view ? 'yes' : '', revealable: project.revealable ? 'yes' : '' };
  const fields = new Fields(typed ?? current, problem);
  const yes = (value) => value ? t.yes : t.no;
  const now = facts(
    [t.nameRuleSetting, project.name_pattern ? html`<code>${project.name_pattern}</code>` : t.nameHint],
    [t.maxTtl, project.max_ttl ? span(c, project.max_ttl) : t.none],
    [t.maxIdle, project.max_idle ? span(c, project.max_idle) : t.none],
    [t.maxKeys, project.max_keys ?? t.none],
    [t.terms, project.terms ?? t.none],
    [t.revealable, yes(project.revealable)],
    [t.membersCanView, yes(project.members_can_view)]);
  return page(c, {
    title: `${t.settings} · ${project.path}`, heading: t.settings, lead: project.path,
    crumbs: project.crumbs, tabs: tabs(c, project, 'settings'), status: problem ? 422 : 200,
    body: !project.owns ? card('', html`<p class="hint">${t.ownersOnly}</p>${now}`) : html`
      ${card('', form(c, `${project.href}/settings`, html`
        ${problem?.conflict && html`<div class="warning"><p>${t.nowIs}</p>${now}</div>`}
        ${fields.hidden('was', asText(project))}
        ${fields.check('members_can_view', t.membersCanView, { hint: t.membersCanViewHint })}
        ${fields.check('revealable', t.revealable, { hint: t.revealableHint })}
        ${fields.input('name_pattern', t.nameRuleSetting, { hint: t.nameRuleSettingHint, attributes: `maxlength="200" ${PLAIN}` })}
        <div class="row">
        ${fields.input('max_ttl', t.maxTtl, { type: 'number', hint: t.maxTtlHint, attributes: 'min="1" max="36500"' })}
        ${fields.input('max_idle', t.maxIdle, { type: 'number', hint: t.maxIdleHint, attributes: 'min="1" max="36500"' })}
        ${fields.input('max_keys', t.maxKeys, { type: 'number', hint: t.maxKeysHint, attributes: 'min="1" max="2147483647"' })}
        </div>
        ${fields.area('terms', t.terms, { hint: t.termsHint, rows: 4, attributes: 'maxlength="10000"' })}
        <p class="hint">${t.settingsHold}</p>`, { submit: t.save, problem }))}
      ${project.max_ttl && card(t.applyTitle, html`<p>${t.applyLead(span(c, project.max_ttl))}</p>
        ${form(c, `${project.href}/apply`, '', { submit: t.apply, danger: true })}`)}
      ${card(t.dangerZone, html`<a class="button danger" href="${project.href}/drop">${t.dropProject}</a>`)}`,
  });
}

async function saveSettings(c) {
  const typed = c.get('form');
  const result = await change(c, async (db) => {
    const before = await openProject(db, c);
    await lock(db, before.path);
    const project = await openProject(db, c);
    if (typed.was !== asText(project)) throw new Conflict(c.get('t').changedMeanwhile);
    await db.one(`UPDATE apikey_projects SET members_can_view = $2, revealable = $3, name_pattern = $4,
        max_ttl = $5::interval, max_idle = $6::interval, max_keys = $7::integer, terms = $8 WHERE path = $1`,
    [project.path, typed.members_can_view === 'yes', typed.revealable === 'yes', typed.name_pattern || null,
      ...DAYS.map((name) => intervalOf(project, name, typed[name])), typed.max_keys || null, typed.terms?.trim() || null]);
    return { go: `${project.href}/settings`, notice: ['saved'] };
  });
  return result.problem ? settingsPage(c, result.problem) : leave(c, result);
}

async function applySettings(c) {
  const result = await change(c, async (db) => {
    const project = await openProject(db, c);
    const { keys } = await db.one('SELECT apikey_project_apply($1) AS keys', [project.path]);
    return { go: `${project.href}/settings`, notice: ['applied', keys] };
  });
  return result.problem ? settingsPage(c, result.problem) : leave(c, result);
}

// Drops a project or an organization, by typing its path.
async function dropPage(c, problem) {
  const t = c.get('t');
  const { place, count } = await as(c.get('user'), async (db) => {
    const place = await openPlace(db, c);
    const { count } = await db.one(`SELECT count(*) FROM apikeys WHERE ${inPlace} AND status <> 'revoked'`, [place.path]);
    return { place, count };
  });
  if (!place.owns) return message(c, 403, t.mayNot, t.ownersOnly);
  const what = c.req.param('project') ? t.dropProject : t.dropOrganization;
  const fields = new Fields(c.get('form') ?? {}, problem);
  return page(c, {
    title: what, lead: t.dropLead(count), crumbs: place.crumbs, narrow: true, status: problem ? 422 : 200,
    body: form(c, `${place.href}/drop`, fields.input('confirm_name', t.typeName(place.path), { attributes: NEEDED }),
      { submit: what, danger: true, cancel: place.href, problem }),
  });
}

async function drop(c) {
  const kind = c.req.param('project') ? 'project' : 'organization';
  const result = await change(c, async (db) => {
    const place = await openPlace(db, c);
    await db.one(`SELECT apikey_${kind}_drop($1, $2)`, [place.path, c.get('form').confirm_name]);
    return { go: '/', notice: ['dropped'] };
  });
  return result.problem ? dropPage(c, result.problem) : leave(c, result);
}

// The audit log, newest first, of a project's owners.
async function auditPage(c) {
  const t = c.get('t');
  const before = /^\d{1,18}$/.test(c.req.query('before')) ? c.req.query('before') : null;
  const { project, rows, who } = await as(c.get('user'), async (db) => {
    const project = await openProject(db, c);
    const rows = await db.all(`SELECT * FROM apikey_events WHERE project = $1 AND ($2::bigint IS NULL OR id < $2)
      ORDER BY id DESC LIMIT 31`, [project.path, before]);
    return { project, rows, who: await names(db, rows.flatMap((each) => [each.actor_subject, each.detail?.subject])) };
  });
  if (!project.owns) return message(c, 403, t.mayNot, t.ownersOnly, html`<p><a href="${project.href}">${t.back}</a></p>`);
  const more = rows.length > 30 && rows.length--;
  const line = (event) => row(
    cell(t.when, moment(c, event.at, { exact: true })),
    first(t.events[event.event] ?? event.event),
    cell(t.key, event.key_id ? html`<a href="/k/${event.key_id}">${event.key_name}</a>` : '–'),
    cell(t.by, personName(c, who, event.actor_subject, event.actor)),
    cell(t.detail, eventDetail(c, who, event)));
  return page(c, {
    title: `${t.auditLog} · ${project.path}`, heading: t.auditLog, lead: t.auditLead,
    crumbs: project.crumbs, tabs: tabs(c, project, 'audit'),
    body: html`${table(t.auditLog, [t.when, t.event, t.key, t.by, t.detail].map((text) => head(text)), rows.map(line))}
      <nav class="pages" aria-label="${t.pages}">
      ${before && html`<a class="button" href="${project.href}/audit">${t.newest}</a>`}
      ${more && html`<a class="button" rel="next" href="${project.href}/audit?before=${rows.at(-1).id}">${t.older}</a>`}</nav>`,
  });
}

// What an event's detail says, in a few words.
function eventDetail(c, who, { event, detail, client_addr }) {
  const t = c.get('t');
  if (!detail) return client_addr ?? '';
  const words = [];
  if (/^member|^transferred/.test(event) || detail.holder === 'subject') words.push(personName(c, who, detail.subject, detail.member ?? detail.owner));
  if (detail.role_before) words.push(`${t.roles[detail.role_before]} → ${t.roles[detail.role]}`);
  else if (detail.role && t.roles[detail.role]) words.push(t.roles[detail.role]);
  if (detail.unit) words.push(t.limitOf(t.limitName(detail.unit, t.kinds[detail.kind]), number(c, detail.amount), span(c, detail.period)));
  if (detail.reason) words.push(detail.reason);
  if (detail.name_before) words.push(t.wasCalled(detail.name_before));
  if (detail.columns) words.push(detail.columns.map((name) => t.fields[name] ?? name).join(', '));
  if (detail.code) words.push(`${detail.code}${detail.count > 1 ? ` × ${detail.count}` : ''}`);
  if (detail.stops_at) words.push(html`${t.stops} ${moment(c, detail.stops_at.replace('T', ' '), { exact: true })}`);
  if (detail.expires_at) words.push(moment(c, detail.expires_at.replace('T', ' '), { exact: true }));
  if (client_addr) words.push(client_addr);
  return words.map((word, i) => html`${i > 0 ? ' · ' : ''}${word}`);
}

// The signed-in user, and its end.
async function accountPage(c, problem) {
  const t = c.get('t');
  const person = c.get('person');
  return page(c, {
    title: t.account, lead: `${person.name} · ${person.email}`, narrow: true, status: problem ? 409 : 200,
    body: card(t.deleteAccount, html`<p>${t.deleteAccountLead}</p>
      ${form(c, '/account/delete', new Fields({}, problem).input('confirm_name', t.typeName(person.email), { attributes: NEEDED }),
        { submit: t.deleteAccount, danger: true, problem })}`),
  });
}

async function deleteAccount(c) {
  const t = c.get('t');
  if (c.get('form').confirm_name !== c.get('person').email)
    return accountPage(c, { field: 'confirm_name', text: t.errors.apikey_confirm_name });
  const result = await change(c, async (db) => {
    await db.one('SELECT console.delete_person($1)', [c.get('user')]);
    return { go: '/', notice: ['accountDeleted'] };
  });
  if (!result.problem) return leave(c, result);
  return accountPage(c, result.problem.code === '55000' ? { text: t.lastOwnerAccount } : result.problem);
}

export function placeRoutes(app) {
  const project = '/o/:org/p/:project', org = '/o/:org';
  app.get('/', (c) => homePage(c));
  app.post('/organizations', async (c) => {
    const result = await change(c, async (db) => {
      const { name } = c.get('form');
      await db.one('SELECT apikey_organization_create($1)', [name]);
      return { go: `/o/${name}`, notice: ['organizationCreated'] };
    });
    return result.problem ? homePage(c, result.problem) : leave(c, result);
  });
  app.get(org, organizationPage);
  app.get(`${org}/new`, (c) => newProjectPage(c));
  app.post(`${org}/new`, newProject);
  for (const at of [org, project]) {
    app.get(`${at}/members`, (c) => membersPage(c));
    app.post(`${at}/members`, addMember);
    app.get(`${at}/members/:subject`, (c) => memberPage(c));
    app.post(`${at}/members/:subject`, changeMember(false));
    app.post(`${at}/members/:subject/remove`, changeMember(true));
    app.get(`${at}/drop`, (c) => dropPage(c));
    app.post(`${at}/drop`, drop);
  }
  app.get(`${project}/settings`, (c) => settingsPage(c));
  app.post(`${project}/settings`, saveSettings);
  app.post(`${project}/apply`, applySettings);
  app.get(`${project}/audit`, auditPage);
  app.get('/account', (c) => accountPage(c));
  app.post('/account/delete', deleteAccount);
}
