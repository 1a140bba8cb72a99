// Verifies keys and tokens in the database, each time anew: nothing is kept.
import { keyOf, offer } from './credential.js';
import { askOnce, failure, inTransaction, isMistake, NotBegun } from './database.js';
import { rateLimitFields } from './headers.js';
import { ApikeyRefused } from './refusal.js';

/** @typedef {import('./database.js').Pool} Pool */
/** @typedef {import('./database.js').Client} Client */
/** @typedef {import('./headers.js').Limit} Limit */
/** @typedef {import('./credential.js').Offer} Offer */
/** @typedef {'developer' | 'admin' | 'owner'} Role */

/**
 * A value, or how it follows from the request.
 *
 * @template T, R
 * @typedef {T | ((request: R) => T | Promise<T>)} Asked
 */

/**
 * What is demanded of a key.
 *
 * @template R
 * @typedef {object} Demand
 * @property {Asked<string | null | undefined, R>} [project] whose key: an organization's ("acme") or a project's ("acme/payments")
 * @property {Asked<string | null | undefined, R>} [owner] whose key: the role's; its personal keys where no project is named
 * @property {Asked<readonly string[], R>} [scopes] all of them
 * @property {Asked<Role | null | undefined, R>} [minRole] in the project
 * @property {Asked<number, R>} [cost] how much of "requests" is spent: 1
 * @property {Asked<Record<string, number> | null | undefined, R>} [costs] how much of other units, {"tokens": 800}
 * @property {boolean} [optional] a request without a key passes, as nobody
 */

/**
 * @template R
 * @typedef {object} Place
 * @property {Pool} pool
 * @property {string} [schema] where the extension is: "public"
 * @property {string} [header] "x-api-key"; a Bearer token is taken in any case
 * @property {number} [timeout] milliseconds to wait for a connection and for an answer: 2,000
 * @property {boolean | ((limit: Limit) => boolean)} [rateLimitFields] which limits are told: all
 * @property {(error: Error) => void} [onError] is told why it was 503: console.error
 */

/**
 * @template R
 * @typedef {Place<R> & Demand<R>} Options
 */

/**
 * A verified key.
 *
 * @typedef {object} Key
 * @property {string} id
 * @property {string} name
 * @property {string | null} project
 * @property {string} owner
 * @property {string | null} subject
 * @property {Role | null} role
 * @property {string[]} scopes
 * @property {Record<string, unknown>} metadata
 * @property {Date | null} expiresAt
 * @property {number | null} credits
 * @property {number | null} rateRemaining
 * @property {Date | null} rateResetAt
 * @property {Record<string, any> | null} detail
 */

/**
 * A demand with its values, as the arguments of SQL.
 *
 * @typedef {object} Asking
 * @property {readonly string[]} scopes
 * @property {string | null} project
 * @property {Role | null} minRole
 * @property {string | null} address
 * @property {number} cost
 * @property {Record<string, number> | null} costs
 * @property {string | null} owner
 */

/**
 * A request, whatever the framework.
 *
 * @typedef {object} Incoming
 * @property {(name: string) => string | undefined} header
 * @property {string | null} address the client's, behind trusted proxies
 */

/**
 * @template T, R
 * @param {Asked<T, R>} asked
 * @param {R} request
 * @returns {Promise<T>}
 */
async function valueOf(asked, request) {
  return typeof asked === 'function' ? /** @type {(request: R) => T} */ (asked)(request) : asked;
}

/** @param {string} name */
function quoted(name) {
  return `"${name.replace(/"/g, '""')}"`;
}

/** @param {unknown} value @returns {value is string[]} */
function areTexts(value) {
  return Array.isArray(value) && value.every((text) => typeof text === 'string');
}

/** @param {any} row as JSON @returns {Key} */
function keyFrom(row) {
  /** @param {string | null} text */
  const date = (text) => (text === null ? null : new Date(text));
  return {
    id: row.key_id, name: row.name, project: row.project, owner: row.owner, subject: row.subject,
    role: row.role, scopes: row.scopes, metadata: row.metadata, expiresAt: date(row.expires_at),
    credits: row.credits, rateRemaining: row.rate_remaining, rateResetAt: date(row.rate_reset_at),
    detail: row.detail,
  };
}

/**
 * Verifies for one place of keys; what it demands may be told anew each time.
 *
 * @template R
 */
export class Verifier {
  /** @param {Options<R>} options */
  constructor({ pool, schema = 'public', header = 'x-api-key', timeout = 2000, rateLimitFields: told = true, onError, ...demand }) {
    if (!pool) throw new TypeError('pg-apikey: no pool');
    if (!(timeout > 0)) throw new TypeError('pg-apikey: timeout has to be positive');
    this.pool = pool;
    this.header = header;
    this.timeout = timeout;
    /** @type {Demand<R>} */
    this.demand = demand;
    /** @type {(limit: Limit) => boolean} */
    this.told = typeof told === 'function' ? told : () => told;
    this.tells = told !== false;
    this.onError = onError ?? ((/** @type {Error} */ error) => console.error(`pg-apikey: ${error.message}`));
    // A connection that is lost while nobody uses it would end the process.
    if (pool.listenerCount('error') === 0) pool.on('error', this.onError);

    const at = quoted(schema);
    // A role's name is no number and needs no quotes.
    const args = `$1::text, $2::bytea, scopes => $3::text[], project => $4::text, min_role => $5::${at}.apikey_role, ` +
      'client_addr => $6::inet, cost => $7::integer, owner => quote_ident($8::text)::regrole, costs => $9::jsonb';
    this.sql = {
      verify: 'SELECT json_build_object(\'now\', extract(epoch FROM clock_timestamp()) * 1000, \'verdict\', row_to_json(v))::text ' +
        `FROM ${at}.apikey_verify_digest(${args}) AS v`,
      authenticate: `SELECT ${at}.apikey_authenticate_digest(${args})`,
      charge: `SELECT ${at}.apikey_charge($1::uuid, $2::jsonb, project => $3::text, owner => quote_ident($4::text)::regrole)`,
    };
  }

  /**
   * Says what is wrong with a demand before the first request comes.
   *
   * @param {Demand<R>} demand
   * @returns {Demand<R>} with what holds in general
   */
  demanding(demand) {
    const all = { ...this.demand, ...demand };
    if (!all.project && !all.owner)
      throw new TypeError('pg-apikey: whose keys? Name a project, an organization or an owner');
    if (all.scopes !== undefined && typeof all.scopes !== 'function' && !areTexts(all.scopes))
      throw new TypeError('pg-apikey: scopes has to be an array of texts');
    return all;
  }

  /**
   * @param {Demand<R>} demand
   * @param {R} request
   * @param {string | null} address
   * @returns {Promise<Asking>}
   */
  async asking(demand, request, address) {
    const project = await valueOf(demand.project, request);
    const owner = await valueOf(demand.owner, request);
    const scopes = await valueOf(demand.scopes ?? [], request);
    const minRole = await valueOf(demand.minRole, request);
    // A demand is never dropped by mistake: a table that has no line for this
    // request would open it to every key, or to the caller's own.
    for (const [name, asked, value] of [['project', demand.project, project], ['owner', demand.owner, owner], ['minRole', demand.minRole, minRole]])
      if (asked && !value) throw new TypeError(`pg-apikey: for this request ${name} is nothing`);
    if (!areTexts(scopes)) throw new TypeError('pg-apikey: for this request scopes is no array of texts');
    return {
      project: project ?? null,
      owner: owner ?? null,
      address,
      scopes,
      minRole: minRole ?? null,
      cost: (await valueOf(demand.cost, request)) ?? 1,
      // Asked with costs, the database tells of all limits.
      costs: (await valueOf(demand.costs, request)) ?? (this.tells ? {} : null),
    };
  }

  /**
   * @param {Offer} offered
   * @param {Asking} asking
   */
  argumentsOf(offered, asking) {
    return [offered.handle, offered.digest, asking.scopes, asking.project, asking.minRole, asking.address,
      asking.cost, asking.owner, asking.costs === null ? null : JSON.stringify(asking.costs)];
  }

  /**
   * What is no verdict: a mistake of ours is thrown on, everything else means
   * that nobody can decide now.
   *
   * @param {unknown} error
   * @returns {ApikeyRefused}
   */
  undecided(error) {
    if (isMistake(error)) throw error;
    this.onError(/** @type {Error} */ (error));
    return new ApikeyRefused('unavailable', { cause: error });
  }

  /**
   * Whoever asks, or null for a request without a key where that may be.
   * Throws ApikeyRefused.
   *
   * @param {Incoming} incoming
   * @param {Demand<R>} demand by demanding()
   * @param {R} request what the functions of the demand are called with
   * @returns {Promise<Caller | null>}
   */
  async admit(incoming, demand, request) {
    const text = keyOf(incoming.header, this.header, demand.optional ?? false);
    if (text === '' && demand.optional) return null;
    const offered = offer(text);
    const asking = await this.asking(demand, request, incoming.address);
    const answer = await askOnce(this.pool, this.sql.verify, this.argumentsOf(offered, asking), this.timeout)
      .catch((error) => { throw this.undecided(error); });
    const { now, verdict } = JSON.parse(answer);
    const key = verdict.key_id === null ? null : keyFrom(verdict);
    /** @type {Limit[]} */
    const limits = verdict.detail?.limits ?? (verdict.detail?.limit ? [verdict.detail.limit] : []);
    const fields = rateLimitFields(limits.filter(this.told), now);
    if (verdict.valid !== true || key === null)
      throw new ApikeyRefused(verdict.code, {
        key, now, fields, scopes: asking.scopes,
        retryAt: verdict.detail?.limit?.resets_at ?? verdict.rate_reset_at,
      });
    return new Caller(this, key, offered, asking, fields);
  }
}

/** Whoever asks, by its key. */
export class Caller {
  /** @type {Verifier<any>} */ #verifier;
  /** @type {Offer} */ #offered;
  /** @type {Asking} */ #asking;

  /**
   * @param {Verifier<any>} verifier
   * @param {Key} key
   * @param {Offer} offered
   * @param {Asking} asking
   * @param {Record<string, string>} fields
   */
  constructor(verifier, key, offered, asking, fields) {
    this.#verifier = verifier;
    this.#offered = offered;
    this.#asking = asking;
    /** the verified key */
    this.key = key;
    /** fields of the response: what is left of the limits */
    this.headers = fields;
  }

  /**
   * Runs work in a transaction that is known as this key, for policies on the
   * application's tables.  The key is verified again, uncounted; where it was
   * revoked meanwhile, ApikeyRefused is thrown.
   *
   * @template T
   * @param {(client: Client) => Promise<T> | T} work
   * @param {{ readOnly?: boolean, isolation?: 'read committed' | 'repeatable read' | 'serializable' }} [options]
   * @returns {Promise<T>}
   */
  async transaction(work, { readOnly = false, isolation } = {}) {
    const verifier = this.#verifier;
    const begin = ['BEGIN'];
    if (isolation !== undefined) {
      if (!/^(read committed|repeatable read|serializable)$/.test(isolation)) throw new TypeError(`pg-apikey: isolation ${isolation}`);
      begin.push(`ISOLATION LEVEL ${isolation}`);
    }
    if (readOnly) begin.push('READ ONLY');
    const asking = { ...this.#asking, cost: 0, costs: null };
    try {
      return await inTransaction(verifier.pool, {
        begin: begin.join(' '), text: verifier.sql.authenticate,
        values: verifier.argumentsOf(this.#offered, asking), timeout: verifier.timeout,
      }, work);
    } catch (error) {
      if (!(error instanceof NotBegun)) throw error;
      const { sqlstate, detail } = failure(error.cause);
      if (sqlstate === '28000' && detail !== null)
        throw new ApikeyRefused(detail, { key: this.key, scopes: asking.scopes, cause: error.cause });
      throw verifier.undecided(error.cause);
    }
  }

  /**
   * What the request turned out to cost, beside what it was verified with:
   * spends, or with negative values gives back.
   *
   * @param {Record<string, number>} costs
   */
  async charge(costs) {
    const { pool, sql, timeout } = this.#verifier;
    const { project, owner } = this.#asking;
    await askOnce(pool, sql.charge, [this.key.id, JSON.stringify(costs), project, owner], timeout);
  }
}
