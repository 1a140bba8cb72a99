// What every page has: the frame, forms and their fields, tables' small parts.
import { html, raw } from 'hono/html';
import { getCookie, deleteCookie } from 'hono/cookie';
import { LANGUAGES } from './texts.js';

// A page.  tabs: [[href, text, current]...]; crumbs: [[href, text]...].
export function page(c, { title, heading = title, lead, crumbs = [], tabs, actions, body, narrow, status = 200 }) {
  const t = c.get('t');
  const person = c.get('person');
  const notice = takeNotice(c);
  const other = Object.keys(LANGUAGES).filter((language) => language !== c.get('language'));
  return c.html(html`<!doctype html>
<html lang="${LANGUAGES[c.get('language')].tag}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · ${t.product}</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/style.css">
<script src="/static/page.js" defer></script>
</head>
<body>
<a class="skip" href="#main">${t.skip}</a>
<header>
  <a class="brand" href="/"><svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true"><circle cx="8" cy="12" r="4.5"/>
    <path d="M12.5 12H21v4M17 12v3"/></svg>${t.product}</a>
  <div class="who">
    ${other.map((language) => html`<form method="post" action="/language">${token(c)}
      <input type="hidden" name="back" value="${c.req.method === 'GET' ? c.req.path : '/'}">
      <button name="language" value="${language}" class="plain" lang="${LANGUAGES[language].tag}">
        ${LANGUAGES[language].name}</button></form>`)}
    ${person && html`<a href="/account">${person.name}</a>`}
    ${person && !c.get('byProxy') && button(c, '/sign-out', t.signOut, 'plain')}
  </div>
</header>
${crumbs.length > 0 && html`<nav class="crumbs" aria-label="${t.whereYouAre}"><ol>
  ${crumbs.map(([href, text]) => html`<li><a href="${href}">${text}</a></li>`)}</ol></nav>`}
<main id="main" tabindex="-1" class="${narrow ? 'narrow' : ''}">
  <div class="title"><div><h1>${heading}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
    ${actions && html`<div class="actions">${actions}</div>`}</div>
  ${tabs && html`<nav class="tabs" aria-label="${t.sections}"><ul>${tabs.map(([href, text, current]) =>
    html`<li><a href="${href}" ${current && raw('aria-current="page"')}>${text}</a></li>`)}</ul></nav>`}
  ${notice && html`<p class="notice" role="status">${notice}</p>`}
  ${body}
</main>
</body>
</html>`, status);
}

// What a page says that has nothing else to say.
export function message(c, status, title, text, more) {
  return page(c, { title, narrow: true, status, body: html`<p class="lead">${text}</p>${more}` });
}

// A text for the next page: its name and numbers, which a cookie may carry.
function takeNotice(c) {
  const notice = getCookie(c, 'notice');
  if (!notice) return;
  deleteCookie(c, 'notice', c.get('cookieOptions'));
  const [name, ...numbers] = notice.split('.');
  const text = Object.hasOwn(c.get('t').notices, name) && c.get('t').notices[name];
  return typeof text === 'function' ? text(...numbers.map(Number)) : text;
}

const token = (c) => html`<input type="hidden" name="token" value="${c.get('newToken')()}">`;

// A form.  Its token is new each time it is shown.
export function form(c, action, fields, { submit, danger, cancel, problem }) {
  const t = c.get('t');
  return html`<form method="post" action="${action}" autocomplete="off">
    ${problem && html`<p class="problem" role="alert" tabindex="-1">${problem.text}</p>`}
    ${token(c)}${fields}
    <div class="buttons"><button class="${danger ? 'danger' : 'primary'}">${submit}</button>
    ${cancel && html`<a class="button" href="${cancel}">${t.cancel}</a>`}</div></form>`;
}

// A button that is a form of its own.
export const button = (c, action, text, kind = '') =>
  html`<form method="post" action="${action}">${token(c)}<button class="${kind}">${text}</button></form>`;

// What is known of a form's fields: the values to show, and what is wrong.
export class Fields {
  constructor(values, problem) {
    this.values = values;
    this.problem = problem;
  }

  value(name) { return this.values[name] ?? ''; }

  // A label with its control; control(attributes) makes the latter.
  wrap(name, label, hint, control) {
    const wrong = this.problem?.field === name;
    const described = [hint && `${name}-hint`, wrong && `${name}-problem`].filter(Boolean).join(' ');
    return html`<div class="field"><label for="${name}">${label}</label>
      ${control(html`id="${name}" name="${name}" ${described && html`aria-describedby="${described}"`}
        ${wrong && raw('aria-invalid="true"')}`)}
      ${wrong && html`<p class="wrong" id="${name}-problem">${this.problem.text}</p>`}
      ${hint && html`<p class="hint" id="${name}-hint">${hint}</p>`}</div>`;
  }

  input(name, label, { hint, type = 'text', attributes = '' } = {}) {
    return this.wrap(name, label, hint, (own) =>
      html`<input type="${type}" value="${this.value(name)}" ${own} ${raw(attributes)}>`);
  }

  area(name, label, { hint, rows = 3, attributes = '' } = {}) {
    return this.wrap(name, label, hint, (own) =>
      html`<textarea rows="${rows}" ${own} ${raw(attributes)}>
${this.value(name)}</textarea>`);
  }

  select(name, label, options, { hint } = {}) {
    const option = ([value, text]) => html`<option value="${value}"
      ${String(this.value(name)) === String(value) && raw('selected')}>${text}</option>`;
    return this.wrap(name, label, hint, (own) => html`<select ${own}>${options.map(option)}</select>`);
  }

  check(name, label, { hint, value = 'yes', attributes = '' } = {}) {
    const wrong = this.problem?.field === name;
    return html`<div class="field"><label class="check"><input type="checkbox" name="${name}" id="${name}" value="${value}"
      ${this.value(name) === value && raw('checked')}
      ${wrong && html`aria-invalid="true" aria-describedby="${name}-problem"`} ${raw(attributes)}>
      <span>${label}</span></label>${wrong && html`<p class="wrong" id="${name}-problem">${this.problem.text}</p>`}
      ${hint && html`<p class="hint">${hint}</p>`}</div>`;
  }

  hidden(name, value = this.value(name)) {
    return html`<input type="hidden" name="${name}" value="${value}">`;
  }
}

// A table, which on a small screen is a list of cards.  What each part is has to
// be said, since a browser forgets it of what is not laid out as a table.
export const table = (caption, heads, rows) => html`<table class="cards" role="table">
  <caption class="unseen">${caption}</caption>
  <thead role="rowgroup"><tr role="row">${heads}</tr></thead>
  <tbody role="rowgroup">${rows}</tbody></table>`;
export const head = (text, sorted) =>
  html`<th scope="col" role="columnheader" ${sorted && html`aria-sort="${sorted}"`}>${text}</th>`;
export const row = (...cells) => html`<tr role="row">${cells}</tr>`;
export const first = (content) => html`<th scope="row" role="rowheader">${content}</th>`;
export const cell = (label, content) => html`<td role="cell" data-label="${label}">${content}</td>`;

export const card = (title, content) => html`<section class="card">${title && html`<h2>${title}</h2>`}${content}</section>`;

// Attributes of a field for what is not prose.
export const PLAIN = 'spellcheck="false"';
export const NEEDED = 'required spellcheck="false"';

// What is known of something: [[label, value]...], of which some may be missing.
export const facts = (...pairs) => html`<dl class="facts">${pairs.filter(Boolean).map(([label, value]) =>
  html`<div><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`;

// "2026-11-26 12:21:50.622408+00" as a Date.
const date = (text) => new Date(text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00'));

// A moment: the day, and with exact the time; empty where there is none.
export function moment(c, text, { empty = '–', exact = false } = {}) {
  if (!text) return empty;
  const at = date(text);
  const { tag } = LANGUAGES[c.get('language')];
  const show = (options) => new Intl.DateTimeFormat(tag, { timeZone: 'UTC', ...options }).format(at);
  const full = `${show({ dateStyle: 'medium', timeStyle: 'short' })} UTC`;
  return html`<time datetime="${at.toISOString()}" title="${full}">${exact ? full : show({ dateStyle: 'medium' })}</time>`;
}

export const number = (c, value) => new Intl.NumberFormat(LANGUAGES[c.get('language')].tag).format(value);

// "90 days", "1 mon", "00:01:00" as PostgreSQL writes intervals, for people.
export function span(c, text) {
  if (!text) return '';
  const t = c.get('t');
  const words = [];
  const clock = /(\d+):(\d\d):(\d\d)/.exec(text);
  for (const [, count, unit] of text.matchAll(/(\d+) (year|mon|day)/g)) words.push(t.units[unit](Number(count)));
  if (clock) ['hour', 'minute', 'second'].forEach((unit, i) => {
    if (Number(clock[i + 1]) > 0) words.push(t.units[unit](Number(clock[i + 1])));
  });
  return words.join(' ');
}

export const badge = (c, status) => html`<span class="badge ${status}">${c.get('t').statuses[status] ?? status}</span>`;
