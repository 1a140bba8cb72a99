// The tables of examples/schema.sql as GraphQL, opened by API keys.
import { createServer } from 'node:http';
import pg from 'pg';
import { makePluginHook, postgraphile } from 'postgraphile';

const STATUS = { PT401: 401, PT403: 403, PT429: 429, PT503: 503 };

// pgSettings hands the request's headers to the transaction; this lets the
// database authenticate the key in them, before anything else in it runs.
const authenticate = {
  withPostGraphileContext: (withContext) => (options, callback) =>
    withContext(options, async (context) => {
      try {
        await context.pgClient.query('SELECT auth.apikey_pre_request()');
      } catch (error) {
        throw Object.assign(new Error(error.detail ?? 'internal error'), { statusCode: STATUS[error.code] ?? 500 });
      }
      return callback(context);
    }),
};

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
pool.on('error', (error) => console.error(error.message));

const api = postgraphile(pool, 'api', {
  pluginHook: makePluginHook([authenticate]),
  pgSettings: ({ headers }) => ({
    role: 'web',
    'request.headers': JSON.stringify({
      'x-api-key': headers['x-api-key'],
      authorization: headers.authorization,
    }),
  }),
  ignoreRBAC: false,
  disableQueryLog: true,
});

const server = createServer(api).listen(process.env.PORT || 3000, '127.0.0.1', () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}/graphql`));
