// One statement on a pool's connection, within a time; transactions.

/**
 * What we need of pg.Pool.
 *
 * @typedef {Pick<import('pg').Pool, 'connect' | 'on' | 'listenerCount'>} Pool
 */
/** @typedef {import('pg').PoolClient} Client */

/** @typedef {{ sqlstate: string | null, detail: string | null, usable: boolean }} Failure */

/**
 * What an error of pg says: a SQLSTATE where the server answered, and whether
 * its connection may be used on.
 *
 * @param {unknown} error
 * @returns {Failure}
 */
export function failure(error) {
  const { severity, code, detail } = /** @type {{ severity?: string, code?: string, detail?: string }} */ (error ?? {});
  const sqlstate = severity !== undefined && /^[0-9A-Z]{5}$/.test(code ?? '') ? /** @type {string} */ (code) : null;
  return { sqlstate, detail: detail ?? null, usable: sqlstate !== null && !/^(08|57P|58|XX)/.test(sqlstate) };
}

/**
 * Was it asked wrongly (a bad value, a name that is not there, a right that is
 * missing)?  Everything else is a bad day, which may pass.
 *
 * @param {unknown} error
 */
export function isMistake(error) {
  const { sqlstate } = failure(error);
  return error instanceof TypeError || (sqlstate !== null && /^(0A|22|3D|3F|42)/.test(sqlstate));
}

/**
 * The promise, or an error when the time is over.
 *
 * @template T
 * @param {Promise<T>} promise
 * @param {number} milliseconds
 * @returns {Promise<T>}
 */
async function within(promise, milliseconds) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the database did not answer within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
    promise.catch(() => {}); // what comes later is nobody's
  }
}

// Of a connection that is lost while it is ours, what we ask of it fails and
// says so; without this the process would end.
const alreadyTold = () => {};

/**
 * @param {Client} client
 * @param {Error} [broken] why it is not to be used on
 */
function release(client, broken) {
  client.off('error', alreadyTold);
  client.release(broken);
}

/**
 * A connection; one that comes too late goes back to the pool.
 *
 * @param {Pool} pool
 * @param {number} timeout
 */
async function connect(pool, timeout) {
  /** @type {Promise<Client>} */
  const connecting = new Promise((resolve, reject) => {
    pool.connect((error, client) => {
      if (client === undefined) return reject(error);
      // Now: the server may have ended it in the same breath.
      client.on('error', alreadyTold);
      resolve(client);
    });
  });
  try {
    return await within(connecting, timeout);
  } catch (error) {
    connecting.then((client) => release(client), () => {});
    throw error;
  }
}

/**
 * A statement in the extended protocol: one round trip, and nothing that
 * PgBouncer would have to remember.
 *
 * @param {Client} client
 * @param {string} text
 * @param {readonly unknown[]} values
 * @param {number} timeout
 * @returns {Promise<any>} the first column of the first row
 */
async function ask(client, text, values, timeout) {
  const { rows } = await within(client.query({ text, values: [...values], rowMode: 'array' }), timeout);
  return /** @type {any} */ (rows)[0]?.[0];
}

/**
 * @param {Pool} pool
 * @param {string} text
 * @param {readonly unknown[]} values
 * @param {number} timeout
 */
export async function askOnce(pool, text, values, timeout) {
  const client = await connect(pool, timeout);
  let broken;
  try {
    return await ask(client, text, values, timeout);
  } catch (error) {
    if (!failure(error).usable) broken = /** @type {Error} */ (error);
    throw error;
  } finally {
    release(client, broken);
  }
}

/**
 * A failure before the work began.
 */
export class NotBegun extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super('the transaction did not begin', { cause });
  }
}

/**
 * Runs work in a transaction that begins with a statement.
 *
 * @template T
 * @param {Pool} pool
 * @param {{ begin: string, text: string, values: readonly unknown[], timeout: number }} first
 * @param {(client: Client) => Promise<T> | T} work
 * @returns {Promise<T>}
 */
export async function inTransaction(pool, { begin, text, values, timeout }, work) {
  const client = await connect(pool, timeout).catch((error) => { throw new NotBegun(error); });
  let broken;
  try {
    try {
      await ask(client, begin, [], timeout);
      await ask(client, text, values, timeout);
    } catch (error) {
      throw new NotBegun(error);
    }
    const result = await work(client);
    const { command } = await client.query('COMMIT');
    if (command === 'ROLLBACK') throw new Error('the transaction was rolled back: a statement in it had failed');
    return result;
  } catch (error) {
    await within(client.query('ROLLBACK'), timeout).catch((lost) => { broken = lost; });
    throw error;
  } finally {
    release(client, broken);
  }
}
