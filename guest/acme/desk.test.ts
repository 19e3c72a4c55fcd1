/** A challenge counts as shown once the front shows it, however long that takes, unless the front's driver is away. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import type { AcmeSite } from '../../lib/protocol/sockets.ts';
import { Desk } from './desk.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const status = { state: 'ordering', hostImpersonable: true } as const;

function opened() {
  const desk = new Desk({
    site: () => ({ csr: '', status }),
    take: async () => {},
    alpnCertificate: async ({ domain }) => ({ certificate: `for ${domain}`, key: 'key' }),
  });
  const ask = async () => (await desk.routes()['GET /v1/site']!(undefined)) as AcmeSite;
  const tell = (...certificates: string[]) =>
    desk.routes()['POST /v1/shown']!({ certificates: certificates.map((one) => toHex(sha256(utf8(one)))) });
  /** Whether it counts as shown by now. */
  const show = (domain: string, type = 'tls-alpn-01') => {
    const shown = { by: false };
    void desk.show({ type, domain, keyAuthorization: 'token.thumbprint' }).then(() => {
      shown.by = true;
    });
    return shown;
  };
  return { ask, tell, show };
}

const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

test('a driver that is slow is waited for, until the front has the very certificate', async () => {
  const { ask, tell, show } = opened();
  const shown = show('site.example');
  for (let round = 0; round < 3; round++) {
    // One whom the answer reached too late asks again, and has shown nothing.
    await pass(30);
    expect((await ask()).alpn.map(({ domain }) => domain)).toEqual(['site.example']);
    tell('for other.example');
  }
  await pass(20);
  expect(shown.by).toBe(false);
  tell('for other.example', 'for site.example');
  await pass(1);
  expect(shown.by).toBe(true);
});

test('what answers http-01 is shown once the driver has asked twice, however long it takes', async () => {
  const { ask, show } = opened();
  const shown = show('site.example', 'http-01');
  await pass(40);
  await ask();
  await pass(40);
  expect(shown.by).toBe(false);
  await ask();
  await pass(1);
  expect(shown.by).toBe(true);
});

test('a driver that is away holds an order back for a minute, however many names it has', async () => {
  const { ask, show } = opened();
  await ask();
  const one = show('one.example');
  await pass(58);
  expect(one.by).toBe(false);
  await pass(3);
  expect(one.by).toBe(true);
  const two = show('two.example');
  await pass(1);
  expect(two.by).toBe(true);
});

test('a driver that asks and never shows it holds an order back for two minutes', async () => {
  const { ask, show } = opened();
  const shown = show('site.example');
  for (let round = 0; round < 11; round++) {
    await pass(10);
    await ask();
  }
  expect(shown.by).toBe(false);
  await pass(11);
  expect(shown.by).toBe(true);
});
