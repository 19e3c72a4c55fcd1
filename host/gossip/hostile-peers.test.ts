/** What peers can do wrong in the protocol of ids and bodies, one by one. Counted, never timed. */
import { afterEach, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type FalsePeer, type Says, startFalsePeer } from './false-peer.fixture.ts';
import { numberOf, someKinds, someRequest } from './gossip.fixture.ts';
import type { HttpCarrierOptions } from './http-carrier.ts';
import { type MeshHost, type MeshOptions, newMesh } from './mesh.fixture.ts';
import { messageId } from './message-kind.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function peerThat(says: Says): Promise<FalsePeer> {
  const peer = await startFalsePeer(says);
  cleanups.push(() => peer.close());
  return peer;
}

interface Seen {
  host: MeshHost;
  charges: Map<string, number>;
  checks(): number;
}

/** One relay with these peers. */
async function relayOf(
  peers: readonly FalsePeer[],
  kinds: MeshOptions['kinds'] = someKinds(),
  carrier: Partial<HttpCarrierOptions> = {},
): Promise<Seen> {
  const charges = new Map<string, number>();
  const mesh = await newMesh({
    relays: 1,
    kinds,
    carrier: {
      peers: peers.map(({ url }) => url),
      onCharge: (_source, what) => void charges.set(what, 1 + (charges.get(what) ?? 0)),
      ...carrier,
    },
  });
  cleanups.push(() => mesh.close());
  const [host] = mesh.hosts as [MeshHost];
  host.gossip.start();
  return { host, charges, checks: () => mesh.counts.checks };
}

const held = ({ host }: Seen): number[] =>
  host.gossip.messages.after(0, 1000).map(({ message }) => numberOf(message));

async function until(holds: () => boolean, seen: () => unknown): Promise<void> {
  for (const deadline = Date.now() + 45_000; !holds(); ) {
    if (Date.now() > deadline)
      throw new Error(`waited 45000 ms in vain for more than ${JSON.stringify(seen())}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const ghost = (n: number): string => n.toString(16).padStart(64, '0');
const post = (url: string, path: string, body: unknown): Promise<Response> =>
  fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

test('a peer that announces ids of nothing, without end, is charged, then left alone; the others are heard', async () => {
  const ids = Array.from({ length: 5000 }, (_, n) => ghost(n + 1));
  const liar = await peerThat({ ids });
  const honest = await peerThat({ messages: [someRequest(1), someRequest(2)] });
  const seen = await relayOf([liar, honest]);
  await until(
    () => held(seen).length === 2 && liar.asked.length >= 16,
    () => [held(seen), liar.asked.length],
  );
  expect(seen.charges.get('GOSSIP_MISSING') ?? 0).toBeGreaterThanOrEqual(16);
  // Its credit is for so many; then only what it regains.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(liar.asked.length).toBeLessThan(100);
  expect(honest.asked).toHaveLength(2);
}, 90_000);

test('ids of bodies that are refused: each is fetched and checked once, from whichever of many peers', async () => {
  const bad = Array.from({ length: 10 }, (_, n) => someRequest(n + 1));
  const refusing = someKinds(async () => {
    throw new DstackError('GOSSIP_SIGNATURE', 'not signed by the node');
  });
  const peers = await Promise.all([1, 2, 3, 4].map(() => peerThat({ messages: bad })));
  const seen = await relayOf(peers, refusing);
  await until(
    () => seen.checks() >= 10 && peers.every((peer) => peer.polls() >= 2),
    () => [seen.checks(), peers.map(({ asked }) => asked.length)],
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(seen.checks()).toBe(10);
  expect(peers.flatMap(({ asked }) => asked)).toHaveLength(10);
  expect(seen.charges.get('GOSSIP_REFUSED')).toBe(10);
  expect(held(seen)).toEqual([]);
}, 90_000);

test('a peer that never sends the body it announced: another is asked, once, and the silent one is charged', async () => {
  const silent = await peerThat({ messages: [someRequest(1)], bodies: () => undefined });
  const seen = await relayOf([silent], someKinds(), { askMs: 400 });
  await until(
    () => silent.asked.length >= 1,
    () => silent.asked,
  );
  const other = await peerThat({ messages: [someRequest(1)] });
  const both = await relayOf([silent, other], someKinds(), { askMs: 400 });
  await until(
    () => held(both).length === 1,
    () => [silent.asked.length, other.asked.length],
  );
  expect(other.asked).toEqual([messageId(someRequest(1))]);
  await until(
    () => (seen.charges.get('GOSSIP_UNDELIVERED') ?? 0) >= 1,
    () => [...seen.charges],
  );
}, 120_000);

test('another body under an id is not looked at: it is not taken, not held against the id, and charged', async () => {
  const ids = [messageId(someRequest(1))];
  const liar = await peerThat({
    ids,
    bodies: () => ({ messages: [{ message: someRequest(2) }], missing: [] }),
  });
  const alone = await relayOf([liar]);
  await until(
    () => (alone.charges.get('GOSSIP_OTHER_BODY') ?? 0) >= 1,
    () => [...alone.charges],
  );
  expect(alone.checks()).toBe(0);
  const honest = await peerThat({ messages: [someRequest(1)] });
  const seen = await relayOf([liar, honest]);
  await until(
    () => held(seen).length > 0,
    () => [liar.asked.length, honest.asked.length],
  );
  expect(held(seen)).toEqual([1]);
  expect(seen.checks()).toBe(1);
}, 90_000);

test('a part that is left out, and that the reader does not have, makes no message', async () => {
  const ids = [messageId(someRequest(1))];
  const { quote: _, ...rest } = someRequest(1);
  let times = 0;
  const liar = await peerThat({
    ids,
    bodies: () => {
      times += 1;
      return { messages: [{ message: rest, without: { quote: 'ab'.repeat(8) } }], missing: [] };
    },
  });
  const seen = await relayOf([liar]);
  await until(
    () => (seen.charges.get('GOSSIP_OTHER_BODY') ?? 0) >= 2,
    () => [...seen.charges],
  );
  expect(held(seen)).toEqual([]);
  expect(seen.checks()).toBe(0);
  // Nor is it asked again and again without a pause.
  expect(times).toBeLessThan(20);
}, 90_000);

test('what an honest relay may hold and is of no use here costs it nothing: all that is good comes', async () => {
  const messages = Array.from({ length: 85 }, (_, n) => someRequest(n + 1));
  const stale = someKinds(async (message) => {
    if (numberOf(message) > 80) return message;
    throw new DstackError('GOSSIP_STALE', 'too old');
  });
  const honest = await peerThat({ messages });
  const seen = await relayOf([honest], stale);
  await until(
    () => held(seen).length === 5,
    () => [held(seen), [...seen.charges]],
  );
  expect([...seen.charges]).toEqual([['GOSSIP_USELESS', 80]]);
}, 90_000);

test('who has no credit left is heard later, from where it was left: nothing of it is lost', async () => {
  const messages = Array.from({ length: 66 }, (_, n) => someRequest(n + 1));
  const forged = someKinds(async (message) => {
    if (numberOf(message) > 65) return message;
    throw new DstackError('GOSSIP_SIGNATURE', 'not signed by the node');
  });
  const seen = await relayOf([await peerThat({ messages })], forged);
  await until(
    () => held(seen).length === 1,
    () => [held(seen), [...seen.charges]],
  );
  expect(seen.charges.get('GOSSIP_REFUSED')).toBe(65);
}, 90_000);

test('a peer that announces what nobody else does, and does not have it, becomes no more important by that', async () => {
  const honest = await Promise.all(Array.from({ length: 6 }, () => peerThat({})));
  const liars = await Promise.all([1, 2, 3].map((n) => peerThat({ ids: [ghost(n)] })));
  const seen = await relayOf([...honest, ...liars], someKinds(), { lazyMs: 60_000 });
  await until(
    () => liars.every(({ asked }) => asked.length > 0),
    () => liars.map(({ asked }) => asked),
  );
  const before = [...honest, ...liars].map((peer) => peer.polls());
  await until(
    () => [...honest, ...liars].filter((peer, n) => peer.polls() > before[n]! + 3).length >= 6,
    () => [...honest, ...liars].map((peer) => peer.polls()),
  );
  // As many as before are listened to.
  expect([...honest, ...liars].filter((peer, n) => peer.polls() > before[n]! + 1)).toHaveLength(6);
  expect(seen.charges.get('GOSSIP_MISSING')).toBe(3);
}, 90_000);

test('a peer that announces everything first and never gives a body is soon asked no more; all comes from the other', async () => {
  const messages = Array.from({ length: 60 }, (_, n) => someRequest(n + 1));
  const silent = await peerThat({ messages, bodies: () => undefined });
  const honest = await peerThat({ messages });
  const begun = performance.now();
  const seen = await relayOf([silent, honest], someKinds(), { askMs: 400 });
  await until(
    () => held(seen).length === 60,
    () => [held(seen).length, silent.asked.length, [...seen.charges]],
  );
  // Sixteen at a time: its credit is for one such time, then for one in two seconds.
  expect(silent.asked.length).toBeLessThanOrEqual(32 + 8 * ((performance.now() - begun) / 1000));
}, 120_000);

test('a peer that gives one body of those that it is asked for, and holds back the others, holds up none of them', async () => {
  const messages = Array.from({ length: 60 }, (_, n) => someRequest(n + 1));
  const one = (ids: readonly string[]) => ({
    messages: messages.filter((message) => messageId(message) === ids[0]).map((message) => ({ message })),
    missing: [],
  });
  const holding = await peerThat({ messages, bodies: one });
  const honest = await peerThat({ messages });
  const seen = await relayOf([holding, honest], someKinds(), { askMs: 60_000 });
  await until(
    () => held(seen).length === 60,
    () => [held(seen).length, holding.asked.length, honest.asked.length],
  );
  expect(seen.checks()).toBe(60);
  // What it held back was asked of the other next.
  expect(honest.asked.length).toBeGreaterThan(20);
}, 120_000);

test('strangers who announce and do not send: each holds a message up once, has so many open, and is told to stop', async () => {
  const { host, charges, ...seen } = await relayOf([]);
  type Reply = { wanted: string[]; later: string[]; code?: string };
  const announce = async (ids: string[]): Promise<Reply> =>
    (await (await post(host.url, '/v1/gossip/ids', { ids })).json()) as Reply;
  const answers: Reply[] = [];
  for (let n = 0; n < 3; n += 1) {
    answers.push(await announce(Array.from({ length: 64 }, (_, at) => ghost(64 * n + at + 1))));
  }
  // What it may send is what it could push anyway.
  expect(answers.flatMap(({ wanted }) => wanted ?? []).length).toBeLessThanOrEqual(80);
  await until(
    () => (charges.get('GOSSIP_UNDELIVERED') ?? 0) >= 16,
    () => [...charges],
  );
  expect((await announce([ghost(999)])).code).toBe('GOSSIP_CREDIT');
  // It may still push what it has: that is paid for in another way.
  expect((await post(host.url, '/v1/gossip', someRequest(7))).status).toBe(200);
  expect(held({ host, charges, ...seen })).toEqual([7]);
}, 90_000);

test('what is announced is wanted of one, and is due later from the others; what was sent is wanted no more', async () => {
  const { host } = await relayOf([]);
  const ids = [messageId(someRequest(1))];
  const announce = async () => (await post(host.url, '/v1/gossip/ids', { ids })).json();
  expect(await announce()).toEqual({ wanted: ids, later: [] });
  expect(await announce()).toEqual({ wanted: [], later: ids });
  expect(await (await post(host.url, '/v1/gossip', someRequest(1))).json()).toEqual({
    id: ids[0],
    fresh: true,
  });
  expect(await announce()).toEqual({ wanted: [], later: [] });
  expect(await (await post(host.url, '/v1/gossip', someRequest(1))).json()).toEqual({
    id: ids[0],
    fresh: false,
  });
});

test('who asks for bodies gets those that are held, is told which are not, and not more than a reply may have', async () => {
  const { host } = await relayOf([]);
  const large = Array.from({ length: 16 }, (_, n) => someRequest(n + 1, 'ff'.repeat(16_000)));
  for (const message of large) await host.gossip.publish(message);
  const ids = large.map(messageId);
  const ask = async (wanted: string[]) => {
    const reply = await post(host.url, '/v1/gossip/bodies', { ids: wanted, knows: [] });
    return { status: reply.status, text: await reply.text() };
  };
  expect(JSON.parse((await ask([ghost(1), ids[0]!])).text)).toEqual({
    messages: [{ message: large[0] }],
    missing: [ghost(1)],
  });
  expect((await ask(ids)).text.length).toBeLessThan(600_000);
  expect((await ask([...ids, ghost(1)])).status).toBe(400);
  expect((await ask([])).status).toBe(400);
});

test('a relay of before can still call; one that is called is named as such, and heard no more than it calls', async () => {
  const said: string[] = [];
  const old = await peerThat({});
  const log = {
    info() {},
    warn: (fields: object) => void said.push(String((fields as { code?: string }).code)),
  };
  const { host } = await relayOf([{ ...old, url: `${old.url}/none` }], someKinds(), { log });
  await host.gossip.publish(someRequest(1));
  const page = (await (await fetch(`${host.url}/v1/gossip?after=0&wait=0`)).json()) as {
    messages: unknown[];
  };
  expect(page.messages).toEqual([someRequest(1)]);
  expect((await post(host.url, '/v1/gossip', someRequest(2))).status).toBe(200);
  await until(
    () => said.length > 0,
    () => said,
  );
  expect(said[0]).toBe('GOSSIP_OLD_PEER');
});

test('a peer that is this relay itself is named, and not listened to', async () => {
  const said: string[] = [];
  const log = {
    info() {},
    warn: (fields: object) => void said.push(String((fields as { code?: string }).code)),
  };
  const mesh = await newMesh({ relays: 1, kinds: someKinds(), peersOf: () => [0], carrier: { log } });
  cleanups.push(() => mesh.close());
  mesh.hosts[0]!.gossip.start();
  await until(
    () => said.length > 0,
    () => said,
  );
  expect(said[0]).toBe('GOSSIP_SELF');
});

test('what one stranger brought is news to another at the same address', async () => {
  const { host } = await relayOf([]);
  expect((await post(host.url, '/v1/gossip', someRequest(1))).status).toBe(200);
  const poll = (await (await fetch(`${host.url}/v1/gossip/ids?after=0&wait=0`)).json()) as { ids: string[] };
  expect(poll.ids).toEqual([messageId(someRequest(1))]);
});
