// The database, as one of the console's users.
import pg from 'pg';

// As PostgreSQL writes them: a Date would lose the microseconds by which two
// states of a key differ, and an interval has no type here.
const TIMESTAMPTZ = 1184, DATE = 1082, INTERVAL = 1186, BIGINT = 20;
pg.types.setTypeParser(DATE, (text) => text);
pg.types.setTypeParser(TIMESTAMPTZ, (text) => text);
pg.types.setTypeParser(INTERVAL, (text) => text);
pg.types.setTypeParser(BIGINT, Number);

const pool = new pg.Pool({ user: 'console', max: 10, connectionTimeoutMillis: 3000 }); // and PGHOST, PGPORT, ...
pool.on('error', (error) => console.error(`database: ${error.message}`));

// Runs work(db) in a transaction that acts for this user.  The setting ends with
// the transaction, so a pooler may give the connection to anybody then.
export async function as(user, work) {
  if (!user) throw new Error('nobody to act for');
  const client = await pool.connect();
  let lost;
  try {
    await client.query('BEGIN');
    await client.query(`SELECT set_config('console.subject', $1, true)`, [user]);
    const result = await work({
      all: async (sql, values) => (await client.query(sql, values)).rows,
      one: async (sql, values) => (await client.query(sql, values)).rows[0],
    });
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((why) => { lost = why; });
    throw error;
  } finally {
    client.release(lost);
  }
}

// What has nothing to do with keys: who there is.
export async function people(where, ...values) {
  const { rows } = await pool.query(
    `SELECT id, email, name FROM console.person WHERE deleted_at IS NULL AND ${where} ORDER BY id`, values);
  return rows;
}

export async function forgetOldForms() {
  await pool.query(`DELETE FROM console.sent WHERE at < now() - interval '30 days'`);
}

// Whether an error says that the database cannot be reached, or has no room.
export function isAway(error) {
  return /^(08|53[0123]|57P|57014|58)/.test(error.code ?? '') && error.code !== '53400'
    || /^E[A-Z]+$/.test(error.code ?? '')
    || /connection terminated|timeout exceeded when trying to connect|not queryable/i.test(error.message);
}

// Whether it is the database's answer to what somebody wanted.
export function isRefusal(error) {
  return /^(22|23|40|42501|42704|53400|55)/.test(error.code ?? '');
}
