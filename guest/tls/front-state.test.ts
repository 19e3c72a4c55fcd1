import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { LED_FOR, LED_WITHOUT, REST } from '../bridges.ts';
import { Leads, silenceOf } from './front-state.ts';

test("while kubernethes is away visitors are led as before; later nowhere, and no app's domain becomes the website's", () => {
  let now = 1_000;
  const leads = new Leads(() => now);
  expect(leads.heard('silent')).toBeUndefined();
  const at = (app: string) => ({
    upstream: { app, host: '10.90.0.64', port: 80, protocol: 'http1' as const },
  });
  const led = { website: at('greeting'), sites: [{ domain: 'shop.example', ...at('shop') }] };
  expect(leads.heard(led)).toBe(led);
  now += LED_FOR - 1;
  expect(leads.heard('silent')).toBe(led);
  now += 1;
  const reason = 'the node is still starting';
  expect(leads.heard('silent')).toEqual({
    website: { reason },
    sites: [{ domain: 'shop.example', reason }],
  });
  // Its silence does not make it longer, and its next word counts at once.
  now += 1;
  expect(leads.heard('silent')).toEqual({
    website: { reason },
    sites: [{ domain: 'shop.example', reason }],
  });
  expect(leads.heard(led)).toBe(led);
});

test('a kubernethes that is gone changes nothing, for ten minutes; one that was back and is silent has its forty seconds', () => {
  let now = 1_000;
  const leads = new Leads(() => now);
  const led = {
    website: { upstream: { app: 'a', host: '10.90.0.64', port: 80, protocol: 'http1' as const } },
    sites: [],
  };
  const nowhere = { website: { reason: 'the node is still starting' }, sites: [] };
  expect(leads.heard('gone')).toBeUndefined();
  leads.heard(led);
  for (let times = 0; times < 5; times += 1) {
    now += LED_FOR - 1;
    expect(leads.heard('gone')).toBe(led);
  }
  now += LED_FOR - 1;
  expect(leads.heard('silent')).toBe(led);
  now += 1;
  expect(leads.heard('silent')).toEqual(nowhere);
  // It may have given the address to another one before it was gone.
  expect(leads.heard('gone')).toEqual(nowhere);
  leads.heard(led);
  const spoke = now;
  while (now + LED_FOR - 1 < spoke + LED_WITHOUT) {
    now += LED_FOR - 1;
    expect(leads.heard('gone')).toBe(led);
  }
  now = spoke + LED_WITHOUT;
  expect(leads.heard('gone')).toEqual(nowhere);
});

test('no address has another owner before the front has forgotten whose it was', () => {
  // One look that waits for its answer as long as it may, the pause before it, and some seconds for telling the front.
  expect(LED_FOR + 10_000 + 1_000).toBeLessThan(REST - 5_000);
});

test('only one that nobody listens for is gone, or one that says that it has not taken over', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-silence-'));
  const path = join(folder, 'tls.sock');
  const ask = (timeout = 5_000) =>
    callUnix({ path, method: 'POST', route: '/v1/upstream', body: {}, reply: Type.Object({}), timeout }).then(
      () => 'answered',
      silenceOf,
    );
  expect(await ask()).toBe('gone');
  let code = 'NOT_READY';
  const server = await serveUnix({
    path,
    routes: {
      'POST /v1/upstream': () => {
        throw new DstackError(code, 'no');
      },
    },
  });
  expect(await ask()).toBe('gone');
  code = 'APP_RECORD';
  expect(await ask()).toBe('silent');
  server.close();
  rmSync(path, { force: true });
  // It is there, and stuck, or hangs up.
  const stuck = createServer(() => {}).listen(path);
  expect(await ask(200)).toBe('silent');
  stuck.removeAllListeners('request').on('request', (request) => void request.socket.destroy());
  expect(await ask()).toBe('silent');
  stuck.closeAllConnections();
  stuck.close();
  rmSync(folder, { recursive: true, force: true });
});
