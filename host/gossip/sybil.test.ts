/** One host that says it is many: keys cost nothing, so they must not be worth anything either. Counted against the time that passed. */
import { afterEach, expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { numberOf, someKinds, someRequest } from './gossip.fixture.ts';
import { type MeshHost, newMesh, spread } from './mesh.fixture.ts';
import { PEER_HEADER, PeerKeys } from './peer-keys.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const KEYS = 1000;
/** As http-carrier.ts gives an address: at once, and in a second. */
const RATES = { polls: [120, 10], announcements: [60, 4], pushes: [60, 2] } as const;

test('a thousand keys of one host get what one stranger gets, and take nothing of the peers', async () => {
  const mesh = await newMesh({ relays: 2, kinds: someKinds(), carrier: { askMs: 60_000 } });
  cleanups.push(() => mesh.close());
  const [host, peer] = mesh.hosts as [MeshHost, MeshHost];
  for (const { gossip } of mesh.hosts) gossip.start();
  await peer.gossip.publish(someRequest(1));
  await spread([host], 1);

  const begun = performance.now();
  const served = { polls: 0, announcements: 0, pushes: 0 };
  const wanted = new Set<string>();
  for (let from = 0; from < KEYS; from += 20) {
    const some = Array.from({ length: 20 }, (_, n) => from + n);
    await Promise.all(some.map((nth) => pretend(host, nth, served, wanted)));
  }
  const seconds = (performance.now() - begun) / 1000;
  // What it is told to send is paid for like what it sends by itself.
  const paid = { ...served, pushes: served.pushes + wanted.size };
  for (const [what, [burst, perSecond]] of Object.entries(RATES)) {
    const { [what as keyof typeof paid]: count } = paid;
    expect(count, what).toBeLessThanOrEqual(burst + perSecond * seconds + 1);
    expect(count, what).toBeGreaterThan(burst / 4);
  }
  const held = host.gossip.messages.after(0, 5000).map(({ message }) => numberOf(message));
  // The room of one source.
  expect(held.filter((n) => n >= 1000).length).toBeLessThanOrEqual(64);

  await peer.gossip.publish(someRequest(2));
  await expect
    .poll(() => host.gossip.messages.after(0, 5000).map(({ message }) => numberOf(message)))
    .toEqual(expect.arrayContaining([1, 2]));
}, 240_000);

/** One of the keys polls, announces what nobody has, and pushes a message of its own. */
async function pretend(
  { url }: MeshHost,
  nth: number,
  served: { polls: number; announcements: number; pushes: number },
  wanted: Set<string>,
): Promise<void> {
  const store = openStore(':memory:');
  const keys = new PeerKeys(store);
  const call = async (path: string, body?: unknown) => {
    const method = body === undefined ? 'GET' : 'POST';
    const reply = await fetch(`${url}${path}`, {
      method,
      headers: {
        [PEER_HEADER]: keys.header(undefined, method, path)!,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const said = (await reply.json()) as { wanted?: string[] };
    return { isServed: reply.status === 200, said };
  };
  if ((await call('/v1/gossip/ids?after=0&wait=0')).isServed) served.polls += 1;
  const ids = Array.from({ length: 64 }, (_, n) => (1 + 64 * nth + n).toString(16).padStart(64, '0'));
  const announced = await call('/v1/gossip/ids', { ids });
  if (announced.isServed) served.announcements += 1;
  for (const id of announced.said.wanted ?? []) wanted.add(id);
  if ((await call('/v1/gossip', someRequest(1000 + nth))).isServed) served.pushes += 1;
  store.close();
}
