import { afterEach, expect, test } from 'vitest';
import { numberOf, someKinds, someRequest } from './gossip.fixture.ts';
import { newMesh, spread } from './mesh.fixture.ts';
import { Mesh, type MeshPeer } from './mesh.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test.each([8, 16, 32])(
  'among %i relays that all know each other a body reaches each relay once, and is checked once',
  async (relays) => {
    // A machine that is busy with other things makes nobody late.
    const mesh = await newMesh({ relays, kinds: someKinds(), carrier: { askMs: 60_000 } });
    cleanups.push(() => mesh.close());
    for (const { gossip } of mesh.hosts) gossip.start();
    // From the first message on: while nobody knows yet who listens to whom.
    const messages = 8;
    for (let n = 1; n <= messages; n += 1) {
      await mesh.hosts[n % relays]!.gossip.publish(someRequest(n));
      await spread(mesh.hosts, n, 120_000);
    }
    const ways = messages * (relays - 1);
    expect(mesh.counts.bodies).toBeGreaterThanOrEqual(ways);
    expect(mesh.counts.bodies).toBeLessThanOrEqual(1.1 * ways);
    expect(mesh.counts.checks).toBeLessThanOrEqual(1.1 * messages * relays);
    for (const { gossip } of mesh.hosts) {
      const held = gossip.messages.after(0, 100).map(({ message }) => numberOf(message));
      expect(held.toSorted((a, b) => a - b)).toEqual(Array.from({ length: messages }, (_, n) => n + 1));
    }
  },
  300_000,
);

test('along a line, where nobody can reach back, a message still gets from end to end', async () => {
  const mesh = await newMesh({
    relays: 5,
    kinds: someKinds(),
    peersOf: (nth) => (nth === 0 ? [] : [nth - 1]),
  });
  cleanups.push(() => mesh.close());
  for (const { gossip } of mesh.hosts) gossip.start();
  await mesh.hosts[0]!.gossip.publish(someRequest(1));
  await mesh.hosts[4]!.gossip.publish(someRequest(2));
  await spread(mesh.hosts, 2);
  expect(mesh.counts.bodies).toBe(8);
});

class Peer implements MeshPeer {
  readonly peer: string;
  isReachable: boolean | undefined = true;
  usefulAt = 0;
  hurried = 0;
  constructor(nth: number) {
    this.peer = `peer ${nth}`;
  }
  hurry(): void {
    this.hurried += 1;
  }
}

test('a few at random are eager; who has what they lack becomes so too, and the least useful makes room', () => {
  const peers = Array.from({ length: 20 }, (_, nth) => new Peer(nth));
  const mesh = new Mesh(peers);
  const lazy = () => peers.filter((peer) => !mesh.isEager(peer));
  expect(mesh.eager).toHaveLength(6);
  expect(new Mesh(peers, () => 0.1).eager).not.toEqual(new Mesh(peers, () => 0.9).eager);
  for (const peer of peers) peer.usefulAt = 10;
  const [first, second, third] = lazy() as [Peer, Peer, Peer];
  for (const peer of [first, second]) mesh.graft(peer);
  expect(mesh.eager).toHaveLength(8);
  first.usefulAt = 1;
  mesh.graft(third);
  expect(mesh.isEager(third)).toBe(true);
  expect(mesh.isEager(first)).toBe(false);
  expect(mesh.eager).toHaveLength(8);
  expect(third.hurried).toBe(1);
});

test('however many are grafted, and however useful, none takes a place that went by lot', () => {
  const peers = Array.from({ length: 40 }, (_, nth) => new Peer(nth));
  const mesh = new Mesh(peers);
  const chosen = peers.filter((peer) => mesh.isEager(peer));
  for (const peer of peers) {
    if (!mesh.isEager(peer)) peer.usefulAt = 100;
    mesh.graft(peer);
  }
  expect(chosen.every((peer) => mesh.isEager(peer))).toBe(true);
  expect(mesh.eager).toHaveLength(8);
  // One of those that can't be reached makes room, for nobody.
  const grafted = peers.find((peer) => mesh.isEager(peer) && !chosen.includes(peer))!;
  mesh.failed(grafted);
  expect(mesh.eager).toHaveLength(7);
});

test('an eager peer that can not be reached gives its place to one that can', () => {
  const peers = Array.from({ length: 20 }, (_, nth) => new Peer(nth));
  const mesh = new Mesh(peers);
  const gone = peers.find((peer) => mesh.isEager(peer))!;
  for (const peer of peers) peer.isReachable = false;
  mesh.failed(gone);
  expect(mesh.isEager(gone)).toBe(true);
  const there = peers.find((peer) => !mesh.isEager(peer))!;
  there.isReachable = true;
  mesh.failed(gone);
  expect([mesh.isEager(gone), mesh.isEager(there)]).toEqual([false, true]);
});
