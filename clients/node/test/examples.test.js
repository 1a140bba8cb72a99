// The programs that README shows.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import net from 'node:net';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { admin, createKey } from './support.js';

after(() => admin.end());

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answering(url, headers) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await fetch(url, { headers });
    } catch (error) {
      if (attempt > 1000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

for (const name of ['express', 'fastify', 'hono']) {
  test(name, async (t) => {
    const port = await freePort();
    const program = spawn(process.execPath, [fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url))],
      { env: { ...process.env, PORT: String(port) }, stdio: 'inherit' });
    t.after(() => program.kill());
    const url = `http://127.0.0.1:${port}/invoices`;
    assert.equal((await answering(url, {})).status, 401);
    // Allowed from there alone: the proxy is believed.
    const key = await createKey("'acme/website', scopes => '{invoices:read}', allowed_ips => '{198.51.100.7}'");
    assert.equal((await answering(url, { 'x-api-key': key })).status, 401);
    const response = await answering(url, { 'x-api-key': key, 'x-forwarded-for': '198.51.100.7' });
    assert.equal(response.status, 200);
    assert.deepEqual((await response.json()).invoices.map((row) => row.customer), ['Linus']);
  });
}
