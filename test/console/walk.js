// Walks through examples/console as its users would.
import { check, done } from './tools.js';

// A browser that does not answer ends a part: what was checked last tells where.
const PART = 300000;
for (const part of (process.env.WALK || 'dialogs roles limits servers bad_days').split(' ')) {
  const started = Date.now();
  let timer;
  try {
    await Promise.race([
      import(`./${part}.js`).then((walk) => walk.default()),
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${part} did not end in ${PART / 1000} s`)), PART);
      }),
    ]);
  } catch (error) {
    check(false, `${part} ends`, error.stack);
  } finally {
    clearTimeout(timer);
  }
  console.log(`# ${part}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}
await done();
