// Many clients at once: node load.js URL CLIENTS CALLS KEY...
// Every third call hangs up in the middle, every tenth at once.  Prints how many
// calls ended how, and how many words came.
const [url, clients, calls, ...keys] = process.argv.slice(2);
const ended = {};
let words = 0;

function count(how) {
  ended[how] = (ended[how] ?? 0) + 1;
}

async function call(number) {
  const hangUp = new AbortController();
  const leaves = number % 10 === 9 ? 0 : number % 3 === 2 ? 1 + number % 7 : Infinity; // after so many chunks
  const content = Array.from({ length: 1 + number % 40 }, (_, i) => `w${i}`).join(number % 2 ? ' ' : '  and then ');
  try {
    if (leaves === 0) setTimeout(() => hangUp.abort(), number % 30);
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST', signal: hangUp.signal,
      headers: { 'x-api-key': keys[number % keys.length], 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content }], max_tokens: 1 + number % 60 }),
    });
    if (answer.status !== 200) {
      await answer.arrayBuffer();
      return count(answer.status);
    }
    let chunks = 0;
    for await (const chunk of answer.body) {
      words += String(Buffer.from(chunk)).split('"content"').length - 1;
      if (++chunks < leaves) continue;
      hangUp.abort();
      break;
    }
    count(chunks >= leaves ? 'hung up' : 200);
  } catch (error) {
    count(error.name === 'AbortError' ? 'hung up' : error.message);
  }
}

await Promise.all(Array.from({ length: Number(clients) }, async (_, client) => {
  for (let i = 0; i < Number(calls); i++) await call(client * Number(calls) + i);
}));
console.log(JSON.stringify({ ended, words }));
