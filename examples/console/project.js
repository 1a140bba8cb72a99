// What is asked on every page of a project or an organization: may this user see
// it, and do what?
import { html } from 'hono/html';
import { NotFound } from './change.js';

// The project of the address, as this user sees it.  Whoever is no member is
// told the same as of one that does not exist.
export async function openProject(db, c, path = `${c.req.param('org')}/${c.req.param('project')}`) {
  const project = await db.one(`SELECT *, (now() + max_ttl)::date - 1 AS latest_day,
    extract(epoch FROM max_ttl) AS max_ttl_seconds, extract(epoch FROM max_idle) AS max_idle_seconds FROM apikey_projects WHERE path = $1`, [path]);
  if (!project) throw new NotFound();
  return { ...project, ...hrefs(c, path), owns: project.role === 'owner', manages: project.role !== 'developer' };
}

export function hrefs(c, path) {
  const [org, name] = path.split('/');
  return { href: `/o/${org}/p/${name}`, crumbs: [['/', c.get('t').projects], [`/o/${org}`, org], [`/o/${org}/p/${name}`, name]] };
}

// An organization, as its member sees it, or a member of one of its projects.
export async function openOrganization(db, c) {
  const name = c.req.param('org');
  const organization = await db.one('SELECT name, role FROM apikey_organizations WHERE name = $1', [name]);
  const projects = await db.all(
    `SELECT path, role FROM apikey_projects WHERE split_part(path, '/', 1) = $1 ORDER BY path`, [name]);
  if (!organization && projects.length === 0) throw new NotFound();
  return { name, path: name, href: `/o/${name}`, role: organization?.role, owns: organization?.role === 'owner', projects,
    crumbs: [['/', c.get('t').projects], [`/o/${name}`, name]] };
}

export const openPlace = (db, c) => c.req.param('project') ? openProject(db, c) : openOrganization(db, c);

export function tabs(c, place, current) {
  const t = c.get('t');
  const both = [['/members', 'members', t.members], ['/limits', 'limits', t.limits]];
  return (place.projects ? [['', 'projects', t.projects], ...both]
    : [['', 'keys', t.apiKeys], ...both, ...place.owns ? [['/audit', 'audit', t.auditLog]] : [], ['/settings', 'settings', t.settings]])
    .map(([end, name, text]) => [place.href + end, text, name === current]);
}

// May a text from an address be an id?
export const isId = (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);

// The names of people by their ids.
export async function names(db, ids) {
  const rows = await db.all('SELECT id, name, email, deleted_at IS NOT NULL AS deleted FROM console.person WHERE id = ANY ($1)',
    [ids.filter(Boolean)]);
  return new Map(rows.map((row) => [row.id, row]));
}

// A person by its subject.  Whoever acts without one is a role of the database.
export function personName(c, who, subject, role) {
  const t = c.get('t');
  if (!subject) return html`<span class="role">${role ?? '–'}</span>`;
  const person = who.get(subject);
  if (!person || person.deleted) return html`<i>${t.deletedUser}</i>`;
  return html`<span title="${person.email}">${person.name}${subject === c.get('user') && html` <small>${t.you}</small>`}</span>`;
}
