// Walks through examples/console as its users would.
import { check, done } from './tools.js';

for (const part of (process.env.WALK || 'dialogs roles bad_days').split(' ')) {
  const started = Date.now();
  try {
    await (await import(`./${part}.js`)).default();
  } catch (error) {
    check(false, `${part} ends`, error.stack);
  }
  console.log(`# ${part}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}
await done();
