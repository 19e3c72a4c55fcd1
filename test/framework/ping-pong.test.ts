/** The template's two processes, killed wherever they act on the outside, and on a chain that is re-organised. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type PingPong, startPingPong } from './support/app.ts';
import { callsOf, expectKilledAt } from './support/kills.ts';
import type { Toll } from './support/toll.ts';

let app: PingPong;
const tolls: Toll[] = [];
beforeEach(async () => {
  app = await startPingPong();
});
afterEach(async ({ task }) => {
  // The processes' own words are what tells why.
  if (task.result?.state === 'fail')
    task.result.errors?.push({ name: 'log', message: app.log().slice(-6000) });
  await app.stop();
  for (const toll of tolls.splice(0)) toll.stop();
});

/** Every request settled once, in order. */
async function expectSettled(count: number): Promise<{ sequence: number; text: string }[]> {
  await expect.poll(async () => (await app.progress()).settled).toBe(count);
  const pongs = await app.pongs();
  expect(pongs.map(({ sequence }) => sequence)).toEqual(Array.from({ length: count }, (_, at) => at + 1));
  return pongs;
}

test('pings are answered in their order; one that is refused is settled too, by its code', async () => {
  app.start('enclave');
  app.start('host');
  await app.ping('one');
  await app.ping('x'.repeat(201));
  await app.ping('three');
  const [first, second, third] = await expectSettled(3);
  expect(first!.text).toMatch(/^pong 1: one \([0-9a-f]{8}\)$/);
  expect(second!.text).toBe('TOO_LONG');
  expect(third!.text).toMatch(/^pong 3: three/);
});

test.each(['host', 'enclave'] as const)(
  'killed before and after each of its calls, the %s goes on where the contract is',
  async (which) => {
    const points = await callsOf(app, which, tolls);
    app.start(which === 'host' ? 'enclave' : 'host');
    const pings = await expectKilledAt(app, which, points, { ask: (text) => app.ping(text) });
    const pongs = await expectSettled(pings);
    expect(pongs[0]!.text).toContain(`: ${points[0]!.label} before`);
  },
);

test('what a re-organisation drops is settled again, and an answer to a request that is gone settles nothing', async () => {
  app.start('enclave');
  app.start('host');
  await app.ping('stays');
  await expectSettled(1);
  // Drops the block with the answer alone.
  await app.chain.rpc('anvil_reorg', 1, []);
  await app.chain.mine(1);
  await expectSettled(1);
  await app.ping('goes');
  const [, gone] = await expectSettled(2);
  expect(gone!.text).toMatch(/^pong 2: goes/);
  // Drops the request too; another one takes its number.
  await app.chain.rpc('anvil_reorg', 2, []);
  await app.ping('comes instead');
  await app.chain.mine(1);
  const [stays, instead] = await expectSettled(2);
  expect(stays!.text).toMatch(/^pong 1: stays/);
  expect(instead!.text).toMatch(/^pong 2: comes instead/);
});

test('an enclave without its disk, and a host without its store, go on where the contract is', async () => {
  const enclave = app.start('enclave');
  const host = app.start('host');
  await app.ping('one');
  await expectSettled(1);
  await Promise.all([enclave.kill(), host.kill()]);
  Object.assign(app.env, {
    ENCLAVE_DATA: join(app.folder, 'another enclave'),
    HOST_DATA: join(app.folder, 'another host'),
  });
  app.start('enclave');
  app.start('host');
  await app.ping('two');
  await expectSettled(2);
});
