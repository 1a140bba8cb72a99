// A gateway to a language model.  A call reserves what it may take, streams, and
// is charged what it took; the limits are PostgreSQL's.  No connection to the
// database is held while a model speaks.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { ApikeyRefused, bareAddress, Verifier } from 'pg-apikey';
import { usageReader } from './usage.js';

const model = process.env.MODEL_URL ?? 'http://127.0.0.1:3001';
const LONGEST = 1 << 20; // bytes of a request
const TOKENS = 4096; // of an answer, at most
// What is passed on.  Whatever else a model's server knows, such as n, may take more
// than is reserved here.
const FIELDS = ['messages', 'max_tokens', 'stream', 'model', 'temperature', 'top_p', 'stop'];
const MESSAGE = ['role', 'content'];
const ROLES = ['system', 'user', 'assistant'];

const pool = new pg.Pool({ user: 'web' }); // and PGHOST, PGDATABASE, ...
const verifier = new Verifier({ pool, schema: 'auth', project: 'acme' });
const demand = verifier.demanding({ costs: (call) => ({ tokens: call.reserved }) });
const settling = new Set();

class BadRequest extends Error {}

function refuseOthers(object, known) {
  const other = Object.keys(object).find((name) => !known.includes(name));
  if (other !== undefined) throw new BadRequest(`only these are taken: ${known.join(', ')}`);
}

async function readCall(req) {
  const chunks = [];
  let length = 0;
  for await (const chunk of req) {
    length += chunk.length;
    if (length > LONGEST) throw new BadRequest('too long');
    chunks.push(chunk);
  }
  let body;
  try { body = JSON.parse(Buffer.concat(chunks)); } catch { throw new BadRequest('no JSON'); }
  const { messages, max_tokens: most = 256 } = body ?? {};
  if (!Array.isArray(messages) || messages.length === 0 || messages.some((message) => typeof message?.content !== 'string'))
    throw new BadRequest('messages is an array of {"content": text}');
  refuseOthers(body, FIELDS);
  for (const message of messages) refuseOthers(message, MESSAGE);
  if (messages.some(({ role = 'user' }) => !ROLES.includes(role))) throw new BadRequest(`a role is ${ROLES.join(', ')}`);
  if (!Number.isInteger(most) || most < 1 || most > TOKENS) throw new BadRequest(`max_tokens is 1 to ${TOKENS}`);
  // What it may take: four bytes a token is a guess, the answer's end is not.
  const prompt = messages.reduce((sum, { content }) => sum + Math.ceil(Buffer.byteLength(content) / 4), 0);
  return { id: randomUUID(), body: { ...body, max_tokens: most, stream: true }, reserved: prompt + most };
}

// The row and the charge are one statement, so they are there together or not at
// all; where the answer is lost, the row tells that it has been charged.
const SETTLE = `WITH call AS (
    INSERT INTO api.call (id, key_id, project, prompt_tokens, completion_tokens, reserved)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING RETURNING *)
  SELECT auth.apikey_charge(key_id, jsonb_build_object('tokens', prompt_tokens + completion_tokens - reserved), project => project)
    FROM call`;

async function settle(call, key, usage) {
  const values = [call.id, key.id, key.project, usage.prompt_tokens, usage.completion_tokens, call.reserved];
  for (let wait = 50; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await pool.query(SETTLE, values);
    } catch (error) {
      // Deleted more than a day ago, or moved to another project: nobody's bill.
      if (/^(22|42)/.test(error.code)) return console.error(`call ${call.id} is not charged: ${error.message}`);
    }
    await pause(wait); // the database is away, or a lease is late
  }
}

// What a call took that did not end by itself: the model knows, though perhaps
// not yet, where the call was given up while it was still on its way.
async function usageOf(call, seen) {
  for (let wait = 20; wait < 5000; wait *= 2) {
    const response = await fetch(`${model}/v1/usage/${call.id}`).catch(() => null);
    if (response?.status === 200) return response.json();
    await pause(wait);
  }
  return seen;
}

// The client has read on, or is gone.
function drained(res) {
  return new Promise((resume) => {
    const go = () => { res.off('drain', go).off('close', go); resume(); };
    res.on('drain', go).on('close', go);
  });
}

// Streams the answer, and says what it took as far as the model has told, and
// whether that is all.
async function relay(call, res, seen) {
  const hangUp = new AbortController();
  const gone = () => hangUp.abort();
  res.on('close', gone);
  try {
    if (res.destroyed) return true; // nobody has asked the model
    const answer = await fetch(`${model}/v1/chat/completions`, {
      method: 'POST', signal: hangUp.signal, body: JSON.stringify(call.body),
      headers: { 'content-type': 'application/json', 'x-request-id': call.id },
    });
    if (!answer.ok) {
      res.writeHead(502, { 'content-type': 'application/json' }).end('{"error":"model"}');
      return false;
    }
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const read = usageReader(seen);
    for await (const chunk of answer.body) {
      read(chunk);
      if (!res.write(chunk) && !res.destroyed) await drained(res);
    }
    res.end();
    return read.done();
  } catch (error) {
    if (!res.headersSent && !res.destroyed) res.writeHead(502, { 'content-type': 'application/json' }).end('{"error":"model"}');
    else res.destroy();
    return false;
  } finally {
    res.off('close', gone);
  }
}

async function answerCall(req, res) {
  const call = await readCall(req);
  const caller = await verifier.admit({
    header: (name) => req.headers[name],
    address: bareAddress(req.socket.remoteAddress),
  }, demand, call);
  const fields = { ...caller.headers, Vary: 'x-api-key, authorization' };
  for (const [name, value] of Object.entries(fields)) res.setHeader(name, value);
  const seen = { prompt_tokens: 0, completion_tokens: 0 };
  // From here on it is settled, whatever happens to the client.
  const settled = relay(call, res, seen)
    .then((complete) => (complete ? seen : usageOf(call, seen)))
    .then((usage) => settle(call, caller.key, usage))
    .finally(() => settling.delete(settled));
  settling.add(settled);
  await settled;
}

function refuse(res, error) {
  if (res.headersSent) return res.destroy();
  const json = (status, fields, body) => res.writeHead(status, { ...fields, 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (error instanceof ApikeyRefused) return json(error.status, error.headers, limitTold(error));
  if (error instanceof BadRequest) return json(400, {}, { error: error.message });
  console.error(error.message);
  json(500, {}, { error: 'internal error' });
}

// Whose limit it is: the customer's own, or that of its project or organization.
function limitTold(refused) {
  const limit = refused.key?.detail?.limit;
  return limit ? { ...refused.body, holder: limit.holder, unit: limit.unit } : refused.body;
}

const server = createServer((req, res) => {
  if (req.method === 'POST' && req.url === '/v1/chat/completions') answerCall(req, res).catch((error) => refuse(res, error));
  else res.writeHead(404).end();
});

// Who is told to end takes no more calls, and charges those that it has.
process.on('SIGTERM', async () => {
  server.close();
  while (settling.size > 0) await Promise.allSettled(settling);
  await pool.end();
  process.exit(0);
});

server.listen(process.env.PORT || 3000, '127.0.0.1', () => {
  console.log(`a gateway on http://127.0.0.1:${server.address().port}`);
});
