// The fields of a key that forms have in common, and what their values mean.
import { html } from 'hono/html';
import { refusal } from './change.js';
import { PLAIN, span } from './layout.js';

const DAYS = [7, 30, 90, 365];
const ROLES = ['developer', 'admin', 'owner'];
const WINDOWS = ['1 second', '1 minute', '1 hour', '1 day'];
const QUOTA_PERIODS = ['1 day', '1 mon']; // as PostgreSQL writes them

export const rank = (role) => ROLES.indexOf(role);

// "a b c" as a list.  A scope may hold a comma, a network does not.
export const list = (text, between = /\s+/) => String(text ?? '').split(between).filter(Boolean);
export const orNull = (text) => String(text ?? '').trim() || null;
export const networks = (text) => orNull(text) && list(text, /[\s,]+/);

// The end that a form asks for; its last day counts whole.
export async function endOf(db, { expiry = 'never', expires_on = '' }) {
  if (expiry === 'never') return null;
  if (expiry === 'date') {
    if (!/^\d{4}-\d\d-\d\d$/.test(expires_on)) throw refusal('22007', 'expires_on');
    return (await db.one(`SELECT (($1::date + 1)::timestamp AT TIME ZONE 'UTC')::text AS at`, [expires_on])).at;
  }
  if (!DAYS.includes(Number(expiry))) throw refusal('22023', 'expiry');
  return (await db.one('SELECT (now() + make_interval(days => $1::integer))::text AS at', [expiry])).at;
}

export function nameField(t, fields, project, name, label) {
  const hint = project.name_pattern ? t.nameRule(project.name_pattern) : t.nameHint;
  return fields.input(name, label, { hint, attributes: `required maxlength="64" autofocus ${PLAIN}` });
}

export function roleField(t, fields, project) {
  const roles = ROLES.filter((role) => rank(role) <= rank(project.role));
  return fields.select('role', t.role, roles.map((role) => [role, t.roles[role]]), { hint: t.keyRoleHint });
}

// With the end of a key that is there already, unless there is none.
export function expiryFields(c, fields, project, key) {
  const t = c.get('t');
  const fits = (days) => key || !project.max_ttl || days * 86400 <= Number(project.max_ttl_seconds);
  const options = [
    ...key?.expires_at ? [['keep', t.asItIs]] : [],
    ...DAYS.filter(fits).map((days) => [days, t.inDays(days)]),
    ['date', t.onDate],
    ...project.max_ttl && !(key && !key.expires_at) ? [] : [['never', t.neverExpires]]];
  return html`<div class="row">
    ${fields.select('expiry', t.expires, options, { hint: project.max_ttl && t.atMost(span(c, project.max_ttl)) })}
    ${fields.input('expires_on', t.lastDay, { type: 'date', hint: t.lastDayHint })}</div>`;
}

// This page lowers a quota that is there, no more.
export function limitFields(c, fields, { quota, quota_period } = {}) {
  const t = c.get('t');
  const window = fields.value('rate_window');
  const windows = WINDOWS.includes(window) ? WINDOWS : [...WINDOWS, window];
  const periods = quota ? [quota_period] : QUOTA_PERIODS;
  const number = (most, more = '') => ({ type: 'number', attributes: `min="1" max="${most}" ${more}` });
  return html`<div class="row">
    ${fields.input('rate_limit', t.rateLimit, { ...number(2147483647), hint: t.rateLimitHint })}
    ${fields.select('rate_window', t.rateWindow, windows.map((each) => [each, t.windows[each] ?? span(c, each)]))}</div>
    <div class="row">
    ${quota ? fields.input('quota', t.quota, { ...number(quota, 'required'), hint: t.quotaLower })
      : fields.input('quota', t.quota, { ...number(9007199254740992), hint: t.quotaHint })}
    ${fields.select('quota_period', t.rateWindow, periods.map((each) => [each, t.windows[each]]))}</div>
    ${fields.area('allowed_ips', t.allowedIps, { hint: t.allowedIpsHint, rows: 2, attributes: PLAIN })}`;
}

// A quota of requests is a limit of its own, beside the key.
export const WITH_QUOTA = `SELECT k.*, l.amount AS quota, l.period AS quota_period FROM apikeys k LEFT JOIN LATERAL (
  SELECT amount, period::text FROM apikey_limits
    WHERE key_id = k.id AND unit = 'requests' AND kind = 'quota' AND period IN ('1 day', '1 mon')
    ORDER BY created_at LIMIT 1) AS l ON true`;

export async function setQuota(db, key, { quota, quota_period }) {
  if (key.quota && !quota) throw refusal('22004', 'quota');
  if (quota && String(key.quota) !== quota)
    await db.one(`SELECT apikey_limit_set('requests', $2::bigint, $3::interval, 'quota', key => $1)`,
      [key.id, quota, key.quota_period ?? quota_period]);
}

// A key as the fields of the form that edits it.
export function asFields(key) {
  const windows = { '00:00:01': '1 second', '00:01:00': '1 minute', '01:00:00': '1 hour' };
  return {
    description: key.description,
    scopes: key.scopes.join(' '),
    role: key.role,
    expiry: key.expires_at ? 'keep' : 'never',
    rate_limit: key.rate_limit,
    rate_window: windows[key.rate_window] ?? key.rate_window,
    quota: key.quota,
    quota_period: key.quota_period ?? '1 mon',
    allowed_ips: key.allowed_ips?.join(' ') ?? '',
  };
}
