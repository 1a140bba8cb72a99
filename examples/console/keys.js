// A key: made, shown once, looked at.
import { html } from 'hono/html';
import { as } from './database.js';
import { change, leave, NotFound } from './change.js';
import { hrefs, isId, names, openProject, personName } from './project.js';
import { expiryFields, limitFields, list, nameField, networks, orNull, endOf, rank, roleField, setQuota, WITH_QUOTA } from './keyform.js';
import { badge, button, facts, Fields, form, message, moment, number, page, PLAIN, span } from './layout.js';
import { chart, usage } from './chart.js';

// New.
async function newPage(c, problem) {
  const t = c.get('t');
  const project = await as(c.get('user'), (db) => openProject(db, c));
  if (!project.manages)
    return message(c, 403, t.mayNot, t.mayNotCreate, html`<p><a href="${project.href}">${t.back}</a></p>`);
  const usual = { rate_window: '1 minute', quota_period: '1 mon', role: 'developer', ...project.max_ttl
    ? { expiry: 'date', expires_on: project.latest_day } : { expiry: '90' } };
  const fields = new Fields(c.get('form') ?? usual, problem);
  const limited = ['rate_limit', 'quota', 'allowed_ips'].some((name) => problem?.field === name || fields.value(name));
  // What was agreed to is what stands here; when it has changed, not yet.
  const agreed = problem && fields.value('accept_terms') === project.terms;
  return page(c, {
    title: t.createKey,
    lead: t.createLead(project.path),
    crumbs: project.crumbs,
    narrow: true,
    status: problem ? 422 : 200,
    body: form(c, `${project.href}/new`, html`
      ${nameField(t, fields, project, 'name', t.name)}
      ${fields.input('description', t.description, { hint: t.optional, attributes: 'maxlength="1000"' })}
      ${expiryFields(c, fields, project)}
      ${fields.input('scopes', t.scopes, { hint: t.scopesHint, attributes: PLAIN })}
      ${roleField(t, fields, project)}
      <details ${limited && html`open`}><summary>${t.limits}</summary>${limitFields(c, fields)}</details>
      ${project.terms && html`<fieldset><legend>${t.terms}</legend>
        <div class="terms" tabindex="0" role="region" aria-label="${t.terms}">${project.terms}</div>
        ${new Fields({ accept_terms: agreed && project.terms }, problem).check('accept_terms', t.agree, { value: project.terms })}
        </fieldset>`}`,
    { submit: t.createKey, cancel: project.href, problem }),
  });
}

async function create(c) {
  const values = c.get('form');
  const result = await change(c, async (db) => {
    const project = await openProject(db, c);
    const { key } = await db.one(`SELECT apikey_create($1, project => $2, description => $3, scopes => $4,
        role => $5::apikey_role, expires_at => $6::timestamptz, rate_limit => $7::integer,
        rate_window => coalesce($8::interval, '1 minute'), allowed_ips => $9::cidr[], accept_terms => $10) AS key`,
    [values.name, project.path, orNull(values.description), list(values.scopes), values.role, await endOf(db, values),
      orNull(values.rate_limit), orNull(values.rate_window), networks(values.allowed_ips), values.accept_terms || null]);
    const result = await made(db, key);
    await setQuota(db, result.row, values);
    return result;
  });
  if (result.problem?.code === '55000') result.problem.text = c.get('t').noLibrary;
  return result.problem ? newPage(c, result.problem) : secretPage(c, result, c.get('t').keyCreated);
}

// A new key's text and where it is to be found, by its id.
export async function made(db, key) {
  const row = await db.one('SELECT * FROM apikeys WHERE id = apikey_id($1)', [key]);
  return { go: `/k/${row.id}`, key, row };
}

// The answer to the form that asked for it, and to nothing else: the text is in
// no address, no cache, and not kept by us.
export function secretPage(c, { key, row }, title, { again } = {}) {
  const t = c.get('t');
  return page(c, {
    title,
    crumbs: frame(c, row),
    narrow: true,
    body: html`<div class="secret" data-warn="${again ? '' : 'yes'}">
      <p class="warning">${again ? t.shownAgain : row.revealable ? t.shownFirst : t.shownOnce}</p>
      <div class="field"><label for="key">${t.keyOf(row.name)}</label>
        <div class="copy">
          <input id="key" value="${key}" readonly autocomplete="off" aria-describedby="copied" spellcheck="false">
          <button type="button" class="primary" data-copy="key">${t.copy}</button></div>
        <p class="hint" id="copied" role="status" data-copied="${t.copied}" data-failed="${t.copyFailed}"></p></div>
      ${facts([t.id, html`<code>${row.id}</code>`],
        [t.expires, moment(c, row.expires_at, { empty: t.never, exact: true })])}
      <div class="buttons"><a class="button" href="/k/${row.id}" data-leave>${again ? t.done : t.haveStored}</a></div></div>`,
  });
}

// What this user may do with a key, in the state that it is in; the database
// decides again when it is done.
export function mayDo(c, key, project) {
  const live = !['revoked', 'retiring'].includes(key.status);
  const manages = project?.manages;
  const above = manages && rank(key.role) > rank(project.role);
  const mine = [key.subject, key.vouched_by_subject].includes(c.get('user'));
  return {
    edit: manages && !above && live,
    reveal: manages && !above && key.revealable && key.status !== 'revoked',
    disable: manages && live && key.status !== 'disabled',
    enable: manages && !above && key.status === 'disabled',
    revoke: (manages || mine) && key.status !== 'revoked',
    remove: manages,
  };
}

export async function openKey(db, c) {
  const id = c.req.param('id');
  const key = isId(id)
    && await db.one(`${WITH_QUOTA} WHERE k.id = $1 AND k.project IS NOT NULL`, [id]);
  if (!key) throw new NotFound();
  key.state = [key.updated_at, key.quota, key.quota_period].join(' ').trim();
  // Whoever has left sees its own keys, and no project.
  const project = await openProject(db, c, key.project ?? '').catch((error) => {
    if (error instanceof NotFound) return undefined;
    throw error;
  });
  return { key, project, may: mayDo(c, key, project) };
}

export const frame = (c, key) => [...hrefs(c, key.project).crumbs, [`/k/${key.id}`, key.name]];

const codes = (list) => list.map((each) => html`<code>${each}</code> `);

// Details.
export async function keyPage(c, problem) {
  const t = c.get('t');
  const { key, may, project, who, series, events, limits } = await as(c.get('user'), async (db) => {
    const opened = await openKey(db, c);
    const { key } = opened;
    const events = await db.all('SELECT * FROM apikey_events WHERE key_id = $1 ORDER BY id DESC LIMIT 8', [key.id]);
    return { ...opened, events, series: (await usage(db, [key.id]))(key.id),
      limits: await db.all('SELECT * FROM apikey_limits WHERE key_id = $1 ORDER BY unit, kind', [key.id]),
      who: await names(db, [key.subject, key.created_by_subject, key.vouched_by_subject,
        ...events.map((event) => event.actor_subject)]) };
  });
  const at = `/k/${key.id}`;
  const link = (allowed, action, text, kind = '') =>
    allowed && html`<a class="button ${kind}" href="${at}/${action}">${text}</a>`;
  const sunk = key.status === 'active' && key.effective_role !== key.role;
  const seesUse = project?.owns || key.subject === c.get('user');
  return page(c, {
    title: key.name,
    heading: html`${key.name} ${badge(c, key.status)}`,
    lead: key.description,
    crumbs: frame(c, key).slice(0, -1),
    status: problem ? 409 : 200,
    actions: [link(may.edit, 'edit', t.edit), link(may.edit, 'rename', t.rename), link(may.edit, 'rotate', t.rotate),
      link(may.reveal, 'reveal', t.showAgain), may.disable && button(c, `${at}/disable`, t.disable),
      may.enable && button(c, `${at}/enable`, t.enable), link(may.edit, 'transfer', t.transfer),
      link(may.revoke, 'revoke', t.revoke, 'danger'), link(may.remove, 'delete', t.delete, 'danger')],
    body: html`
      ${problem && html`<p class="problem" role="alert" tabindex="-1">${problem.text}</p>`}
      ${t.statusNotes[key.status] && html`<p class="warning">${t.statusNotes[key.status]}
        ${key.rotated_to && html` <a href="/k/${key.rotated_to}">${t.successor}</a>`}</p>`}
      ${sunk && html`<p class="warning">${t.sunk(t.roles[key.role], t.roles[key.effective_role])}</p>`}
      <section><h2>${t.use}</h2>
        ${seesUse ? chart(c, series) : html`<p class="hint">${t.useForOwners}</p>`}
        ${facts([t.usesAll, number(c, key.use_count)], [t.refusedAll, number(c, key.denied_count)],
          [t.lastUsed, moment(c, key.last_used_at, { empty: '-', exact: true })],
          [t.lastAddress, key.last_used_addr ?? '–'])}</section>
      <section><h2>${t.details}</h2>${facts(
        [t.key, html`<code>${key.masked_key}</code>`],
        [t.id, html`<code>${key.id}</code>`],
        [t.createdBy, personName(c, who, key.created_by_subject, key.created_by)],
        [t.created, moment(c, key.created_at, { exact: true })],
        [t.changed, moment(c, key.updated_at, { exact: true })],
        [t.belongsTo, personName(c, who, key.subject, key.owner)],
        [t.vouchedBy, personName(c, who, key.vouched_by_subject, key.vouched_by)],
        [t.role, key.effective_role ? t.roles[key.effective_role] : '–'],
        [t.scopes, key.scopes.length ? codes(key.scopes) : t.noScopes],
        key.starts_at && [t.starts, moment(c, key.starts_at, { exact: true })],
        [t.expires, moment(c, key.expires_at, { empty: t.never, exact: true })],
        [t.rateLimit, key.rate_limit ? t.ratePer(number(c, key.rate_limit), span(c, key.rate_window)) : t.none],
        ...limits.map((limit) => [t.limitName(limit.unit, t.kinds[limit.kind]), t.limitLeft(number(c, limit.amount),
          span(c, limit.period), limit.remaining === null ? '?' : number(c, limit.remaining))]),
        key.credits !== null && [t.credits, number(c, key.credits)],
        [t.allowedIps, key.allowed_ips ? codes(key.allowed_ips) : t.anyAddress],
        key.accepted_terms && [t.terms, t.accepted],
        key.revoked_at && [t.revoked,
          html`${moment(c, key.revoked_at, { exact: true })} – ${key.revoke_reason ?? t.noReason}`],
      )}</section>
      ${events.length > 0 && html`<section><h2>${t.whatHappened}</h2><ol class="events">${events.map((event) => html`<li>
        ${moment(c, event.at, { exact: true })} <b>${t.events[event.event] ?? event.event}</b>
        ${personName(c, who, event.actor_subject, event.actor)}</li>`)}</ol></section>`}`,
  });
}

export function keyRoutes(app) {
  const at = '/o/:org/p/:project';
  app.get(`${at}/new`, (c) => newPage(c));
  app.post(`${at}/new`, create);
  app.get('/k/:id', (c) => keyPage(c));

  for (const action of ['disable', 'enable'])
    app.post(`/k/:id/${action}`, async (c) => {
      const result = await change(c, async (db) => {
        await db.one(`SELECT apikey_${action}($1)`, [c.req.param('id')]);
        return { go: `/k/${c.req.param('id')}`, notice: [`${action}d`] };
      });
      return result.problem ? keyPage(c, result.problem) : leave(c, result);
    });
}
