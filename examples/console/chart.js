// Use over time, as SVG that the page carries within itself.
import { html } from 'hono/html';
import { number } from './layout.js';

const DAYS = 30;

// The use of some keys, by key and day, oldest first.  The database shows it to
// a key's owner and to the project's owners.
export async function usage(db, keys) {
  const rows = await db.all(`
    SELECT key_id, to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, sum(use_count) AS uses,
           sum((SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(denied))) AS denied
      FROM apikey_usage_history
      WHERE key_id = ANY ($1) AND starts_at >= date_trunc('day', now()) - make_interval(days => $2)
      GROUP BY 1, 2`, [keys, DAYS - 1]);
  return (key) => days(rows.filter((row) => row.key_id === key));
}

// Thirty days, those without use too.
function days(rows) {
  const of = new Map(rows.map((row) => [row.day, row]));
  return Array.from({ length: DAYS }, (_, i) => {
    const day = new Date(Date.now() - (DAYS - 1 - i) * 86400e3).toISOString().slice(0, 10);
    return { day, uses: Number(of.get(day)?.uses ?? 0), denied: Number(of.get(day)?.denied ?? 0) };
  });
}

const sum = (series, what) => series.reduce((total, each) => total + each[what], 0);

const short = (number) => number.toFixed(1);

function bars(series, width, height, gap) {
  const most = Math.max(1, ...series.map((each) => each.uses + each.denied));
  const step = width / series.length;
  const high = (count) => count === 0 ? 0 : Math.max(1.5, count / most * height);
  const bar = (i, from, to, kind) => to > 0 && html`<rect class="${kind}" rx="${Math.min(1.5, to / 2)}"
    x="${short(i * step)}" y="${short(height - from - to)}" width="${short(step - gap)}" height="${short(to)}"/>`;
  return series.map(({ uses, denied }, i) => [bar(i, 0, high(uses), 'uses'), bar(i, high(uses), high(denied), 'denied')]);
}

// One line of a table.
export function sparkline(c, series) {
  const t = c.get('t');
  const label = t.usesIn30Days(number(c, sum(series, 'uses')));
  return html`<svg class="sparkline" viewBox="0 0 90 20" width="90" height="20" role="img" aria-label="${label}">
    <line x1="0" x2="90" y1="19.5" y2="19.5"/>${bars(series, 90, 19, 1)}</svg>`;
}

// The chart of a page, and its numbers as a table for who does not see it.
export function chart(c, series) {
  const t = c.get('t');
  const most = Math.max(...series.map((each) => each.uses + each.denied));
  const used = series.filter((each) => each.uses + each.denied > 0);
  return html`<figure class="chart">
    <figcaption><span class="uses">${t.usesIn30Days(number(c, sum(series, 'uses')))}</span>
      <span class="denied">${t.refusedIn30Days(number(c, sum(series, 'denied')))}</span></figcaption>
    <svg viewBox="0 0 1080 110" preserveAspectRatio="none" role="img" aria-label="${t.useOverTime}">
      ${[0.5, 55, 109.5].map((y) => html`<line x1="0" x2="1080" y1="${y}" y2="${y}"/>`)}${bars(series, 1080, 109, 8)}</svg>
    <p class="axis"><span>${series[0].day}</span><span>${t.mostADay(number(c, most))}</span><span>${series.at(-1).day}</span></p>
    ${used.length > 0 && html`<details><summary>${t.numbers}</summary><table>
      <thead><tr>${[t.day, t.uses, t.refused].map((text) => html`<th scope="col">${text}</th>`)}</tr></thead>
      <tbody>${used.map((each) => html`<tr><th scope="row">${each.day}</th>
        <td>${number(c, each.uses)}</td><td>${number(c, each.denied)}</td></tr>`)}</tbody></table></details>`}
  </figure>`;
}
