// What is done with a key: each dialog is a page with a form.
import { html } from 'hono/html';
import { as } from './database.js';
import { change, Conflict, leave, lock, statusOf } from './change.js';
import { hrefs } from './project.js';
import { frame, keyPage, made, openKey, secretPage } from './keys.js';
import { asFields, endOf, expiryFields, limitFields, list, nameField, networks, orNull, roleField, setQuota } from './keyform.js';
import { Fields, form, NEEDED, page, PLAIN } from './layout.js';

const GRACES = ['0', '1 hour', '1 day', '7 days', '30 days'];

// A dialog's form keeps the state that it was made from: what somebody else has
// changed meanwhile is shown, and not overwritten.  allowed is what mayDo calls
// it, values(key) are the fields' first values, load(db, key) reads what body
// needs besides, and work(db, key, typed) does it.
function dialog(app, action, { allowed, title, lead, submit, danger, values = () => ({}), load, body = () => '', work, after }) {
  async function show(c, problem) {
    const t = c.get('t');
    const { key, project, may, extra } = await as(c.get('user'), async (db) => {
      const opened = await openKey(db, c);
      return { ...opened, extra: await load?.(db, opened.key) };
    });
    // Whoever may not, or not any more, sees how the key stands.
    if (!may[allowed]) return keyPage(c, { text: t.mayNotNow });
    if (['55000', '42501'].includes(problem?.code)) return keyPage(c, problem);
    const typed = c.get('form');
    const fields = new Fields({ ...values(key), ...typed }, problem);
    return page(c, {
      title: title(t, key),
      lead: lead?.(t),
      crumbs: frame(c, key),
      narrow: true,
      status: statusOf(problem),
      body: form(c, `/k/${key.id}/${action}`, html`
        ${problem?.conflict && others(t, values(key), typed)}
        ${fields.hidden('state', key.state)}${body({ c, t, key, project, fields, extra })}`,
      { submit: submit(t), danger, cancel: `/k/${key.id}`, problem }),
    });
  }
  app.get(`/k/:id/${action}`, (c) => show(c));
  app.post(`/k/:id/${action}`, async (c) => {
    const typed = c.get('form');
    const result = await change(c, async (db) => {
      await lock(db, c.req.param('id'));
      const { key } = await openKey(db, c);
      if (typed.state !== key.state) throw new Conflict(c.get('t').changedMeanwhile);
      return { go: `/k/${key.id}`, ...await work(db, key, typed, c) };
    });
    if (result.problem) return show(c, result.problem);
    return after ? after(c, result) : leave(c, result);
  });
}

// What the others wrote, beside what stands in the form.
function others(t, current, typed) {
  const text = (value) => String(value ?? '').trim();
  const different = Object.keys(current).filter((name) => name in typed && text(typed[name]) !== text(current[name]));
  return different.length > 0 && html`<div class="warning"><p>${t.nowIs}</p><dl>${different.map((name) =>
    html`<dt>${t.fields[name] ?? name}</dt><dd>${current[name] || '–'}</dd>`)}</dl></div>`;
}

export function dialogRoutes(app) {
  dialog(app, 'edit', {
    allowed: 'edit',
    title: (t, key) => t.editKey(key.name),
    submit: (t) => t.save,
    values: asFields,
    body: ({ c, t, key, project, fields }) => html`
      ${fields.input('description', t.description, { attributes: 'maxlength="1000"' })}
      ${fields.input('scopes', t.scopes, { hint: t.scopesHint, attributes: PLAIN })}
      ${roleField(t, fields, project)}
      ${expiryFields(c, fields, project, key)}
      ${limitFields(c, fields, key)}`,
    work: async (db, key, typed) => {
      const end = typed.expiry === 'keep' ? key.expires_at : await endOf(db, typed);
      await db.one(`UPDATE apikeys SET description = $2, scopes = $3, role = $4::apikey_role, expires_at = $5::timestamptz,
          rate_limit = $6::integer, rate_window = $7::interval, allowed_ips = $8::cidr[] WHERE id = $1`,
      [key.id, orNull(typed.description), list(typed.scopes), typed.role, end,
        orNull(typed.rate_limit), typed.rate_window, networks(typed.allowed_ips)]);
      await setQuota(db, key, typed);
      return { notice: ['saved'] };
    },
  });

  dialog(app, 'rename', {
    allowed: 'edit',
    title: (t, key) => t.renameKey(key.name),
    submit: (t) => t.rename,
    values: (key) => ({ new_name: key.name }),
    body: ({ t, project, fields }) => nameField(t, fields, project, 'new_name', t.newName),
    work: async (db, key, typed) => {
      await db.one('SELECT apikey_rename($1, $2)', [key.id, typed.new_name]);
      return { notice: ['renamed'] };
    },
  });

  dialog(app, 'rotate', {
    allowed: 'edit',
    title: (t, key) => t.rotateKey(key.name),
    lead: (t) => t.rotateLead,
    submit: (t) => t.rotate,
    values: () => ({ grace: '1 day' }),
    body: ({ t, fields }) => fields.select('grace', t.grace, GRACES.map((each) => [each, t.graces[each]]), { hint: t.graceHint }),
    work: async (db, key, typed) => {
      const { text } = await db.one('SELECT apikey_rotate($1, $2::interval) AS text', [key.id, typed.grace]);
      return made(db, text);
    },
    after: (c, result) => secretPage(c, result, c.get('t').keyRotated),
  });

  dialog(app, 'reveal', {
    allowed: 'reveal',
    title: (t, key) => t.revealKey(key.name),
    lead: (t) => t.revealLead,
    submit: (t) => t.showAgain,
    work: async (db, key) => ({ row: key, key: (await db.one('SELECT apikey_reveal($1) AS text', [key.id])).text }),
    after: (c, result) => secretPage(c, result, c.get('t').keyShown, { again: true }),
  });

  dialog(app, 'transfer', {
    allowed: 'edit',
    title: (t, key) => t.transferKey(key.name),
    lead: (t) => t.transferLead,
    submit: (t) => t.transfer,
    values: (key) => ({ new_owner: key.subject }),
    load: (db, key) => db.all(`SELECT m.subject, max(m.role) AS role, p.name
      FROM apikey_members m JOIN console.person p ON p.id = m.subject
      WHERE m.path IN ($1, split_part($1, '/', 1)) GROUP BY m.subject, p.name ORDER BY p.name`, [key.project]),
    body: ({ t, fields, extra }) => fields.select('new_owner', t.newOwner,
      extra.map((member) => [member.subject, `${member.name} (${t.roles[member.role]})`])),
    work: async (db, key, typed) => {
      await db.one(`SELECT apikey_transfer($1, 'console', $2)`, [key.id, typed.new_owner]);
      return { notice: ['transferred'] };
    },
  });

  dialog(app, 'revoke', {
    allowed: 'revoke',
    title: (t, key) => t.revokeKey(key.name),
    lead: (t) => t.revokeLead,
    submit: (t) => t.revoke,
    danger: true,
    body: ({ t, fields }) => fields.input('reason', t.reason, { hint: t.reasonHint, attributes: 'maxlength="500"' }),
    work: async (db, key, typed) => {
      await db.one('SELECT apikey_revoke($1, $2)', [key.id, orNull(typed.reason)]);
      return { notice: ['revoked'] };
    },
  });

  dialog(app, 'delete', {
    allowed: 'remove',
    title: (t, key) => t.deleteKey(key.name),
    lead: (t) => t.deleteLead,
    submit: (t) => t.delete,
    danger: true,
    body: ({ t, key, fields }) => fields.input('confirm_name', t.typeName(key.name), { attributes: NEEDED }),
    work: async (db, key, typed, c) => {
      await db.one('SELECT apikey_delete($1, $2)', [key.id, typed.confirm_name]);
      return { go: hrefs(c, key.project).href, notice: ['deleted'] };
    },
  });
}
