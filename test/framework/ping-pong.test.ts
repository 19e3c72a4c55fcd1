/** The template's two processes, killed wherever they act on the outside, on a chain that is re-organised, by a host that lies. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type PingPong, startPingPong } from './support/app.ts';

let app: PingPong;
beforeEach(async () => {
  app = await startPingPong();
});
afterEach(async () => {
  await app.stop();
});

/** Every request settled once, in order. */
async function expectSettled(count: number): Promise<void> {
  await expect.poll(async () => (await app.progress()).settled, { message: app.log() }).toBe(count);
  const pongs = await app.pongs();
  expect(pongs.map(({ sequence }) => sequence)).toEqual(Array.from({ length: count }, (_, at) => at + 1));
}

test('pings are answered in their order; one that is refused is settled too, by its code', async () => {
  app.start('enclave');
  app.start('host');
  await app.ping('one');
  await app.ping('x'.repeat(201));
  await app.ping('three');
  await expectSettled(3);
  const [first, second, third] = await app.pongs();
  expect(first!.text).toMatch(/^pong 1: one \([0-9a-f]{8}\)$/);
  expect(second!.text).toBe('TOO_LONG');
  expect(third!.text).toMatch(/^pong 3: three/);
});
