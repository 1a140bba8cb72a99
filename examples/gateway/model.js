// A stand-in for a model's server: it streams words, says with each how many
// tokens the call has taken so far, and knows it afterwards, too.
//
//   POST /v1/chat/completions   {"messages": [{"content": ...}], "max_tokens": 20}
//   GET /v1/usage/ID            of a call that has ended; the ID is its x-request-id
//   GET /totals                 of all calls
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const delay = Number(process.env.MODEL_DELAY ?? 20); // milliseconds between words
const calls = new Map(); // by x-request-id

async function readJson(req) {
  let text = '';
  for await (const chunk of req) text += chunk;
  return JSON.parse(text);
}

// A token is a word here.
function countTokens(messages) {
  return messages.reduce((sum, { content }) => sum + content.split(/\s+/).filter(Boolean).length, 0);
}

async function complete(req, res) {
  const { messages, max_tokens: most } = await readJson(req);
  const usage = { prompt_tokens: countTokens(messages), completion_tokens: 0 };
  const call = { usage, ended: false };
  calls.set(req.headers['x-request-id'], call);
  if (messages.at(-1).content === 'fail') {
    usage.prompt_tokens = 0;
    call.ended = true;
    res.writeHead(500).end();
    return;
  }
  let gone = false;
  res.on('close', () => { gone = true; });
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  // It says three words of four it might say.
  const words = Math.max(1, Math.floor(most * 3 / 4));
  for (let word = 1; word <= words && !gone; word++) {
    usage.completion_tokens++;
    res.write(`data: ${JSON.stringify({ choices: [{ delta: { content: `word${word} ` } }], usage })}\n\n`);
    await pause(delay);
  }
  call.ended = true;
  res.end('data: [DONE]\n\n');
}

const server = createServer((req, res) => {
  const id = req.url.match(/^\/v1\/usage\/([\w-]+)$/)?.[1];
  const json = (status, body) => res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (req.method === 'POST' && req.url === '/v1/chat/completions')
    complete(req, res).catch((error) => { console.error(error.message); res.destroy(); });
  else if (id !== undefined) {
    const call = calls.get(id);
    json(call === undefined ? 404 : call.ended ? 200 : 409, call?.usage ?? {});
  } else if (req.url === '/totals') {
    const all = [...calls.values()];
    const sum = (name) => all.reduce((total, { usage }) => total + usage[name], 0);
    json(200, { calls: all.length, open: all.filter(({ ended }) => !ended).length,
      tokens: sum('prompt_tokens') + sum('completion_tokens') });
  } else json(404, {});
});

server.listen(process.env.MODEL_PORT || process.env.PORT || 3001, '127.0.0.1', () => {
  console.log(`a model on http://127.0.0.1:${server.address().port}`);
});
