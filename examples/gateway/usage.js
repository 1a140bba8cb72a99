// Reads what a model tells of a call's tokens from the events that it streams.

// Feed it the chunks; "usage" is brought up to date, and done() says whether the
// stream has come to its own end.
export function usageReader(usage) {
  const decoder = new TextDecoder();
  let rest = '';
  let ended = false;

  function read(chunk) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      const data = line.slice(6).trim();
      if (data === '[DONE]') { ended = true; continue; }
      try {
        const told = JSON.parse(data).usage;
        if (Number.isSafeInteger(told?.prompt_tokens)) usage.prompt_tokens = told.prompt_tokens;
        if (Number.isSafeInteger(told?.completion_tokens)) usage.completion_tokens = told.completion_tokens;
      } catch { /* an event of another kind */ }
    }
  }
  read.done = () => ended;
  return read;
}
