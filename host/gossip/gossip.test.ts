import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { HexOf, Strict } from '../../lib/protocol/schema.ts';
import type { Carrier, Exchange } from './carrier.ts';
import { someKinds, someRequest } from './gossip.fixture.ts';
import { Gossip, type GossipOptions } from './gossip.ts';
import { type Message, type MessageKind, MessageKinds, messageId } from './message-kind.ts';

function newGossip<Context = undefined>(options: Partial<GossipOptions<Context>> = {}): Gossip<Context> {
  return new Gossip<Context>({
    store: openStore(':memory:'),
    kinds: someKinds(),
    context: () => undefined as Context,
    carriers: [],
    log: { warn: () => {} },
    ...options,
  });
}

test('a late subscriber sees everything, in order, then what is new; one that throws harms nobody', async () => {
  const gossip = newGossip();
  for (const n of [1, 2, 3]) await gossip.publish(someRequest(n));
  const seen: number[] = [];
  gossip.subscribe(() => {
    throw new Error('a bad subscriber');
  }, 0);
  const stop = gossip.subscribe(({ sequence }) => void seen.push(sequence), 1);
  await gossip.publish(someRequest(4));
  expect(seen).toEqual([2, 3, 4]);
  stop();
  await gossip.publish(someRequest(5));
  expect(seen).toEqual([2, 3, 4]);
});

test('what is held is not checked again; nobody need be asked for what was refused a moment ago, but who sends it is heard', async () => {
  const judged: number[] = [];
  const gossip = newGossip({
    kinds: someKinds(async (message) => {
      const n = Number(BigInt(String(message.node)));
      judged.push(n);
      if (n === 2) throw new DstackError('NO', 'no');
      if (n === 3) throw new Retryable('LATER', 'not yet');
      return message;
    }),
  });
  for (const source of ['a', 'b', 'c']) {
    expect((await gossip.accept(someRequest(1), source)).fresh).toBe(source === 'a');
    await expect(gossip.accept(someRequest(2), source)).rejects.toMatchObject({ code: 'NO' });
    await expect(gossip.accept(someRequest(3), source)).rejects.toMatchObject({ code: 'LATER' });
  }
  expect(judged).toEqual([1, 2, 3, 2, 3, 2, 3]);
  expect([1, 2, 3].map((n) => gossip.knows(messageId(someRequest(n)), 'd'))).toEqual([true, true, false]);
});

/** A wire between two hosts, without a network: each end hands the other what is new in its own log. */
class Wire implements Carrier {
  readonly peers: readonly string[];
  readonly #name: string;
  #other: Wire | undefined;
  #exchange!: Exchange;
  #isOpen = true;
  #running = Promise.resolve();

  constructor(name: string, peer: string) {
    this.#name = name;
    this.peers = [peer];
  }

  static pair(one: string, other: string): [Wire, Wire] {
    const [a, b] = [new Wire(one, other), new Wire(other, one)];
    a.#other = b;
    b.#other = a;
    return [a, b];
  }

  attach(exchange: Exchange): void {
    this.#exchange = exchange;
  }

  start(): void {
    this.#running = this.#run();
  }

  status() {
    return this.peers.map((peer) => ({ peer, reachable: this.#isOpen }));
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    await this.#running;
  }

  async #run(): Promise<void> {
    let position = 0;
    while (this.#isOpen) {
      for (const { sequence, message } of this.#exchange.after(position, 10)) {
        // As bytes: nothing but the message itself may get across.
        await this.#other!.#exchange.accept(JSON.parse(JSON.stringify(message)), this.#name).catch(() => {});
        position = sequence;
      }
      await this.#exchange.change(position, 60_000);
    }
  }
}

/** A kind that no relay has: a host says that it is alive. */
const PingSchema = Strict({
  type: Type.Literal('ping'),
  host: HexOf(32),
  text: Type.String({ maxLength: 20 }),
});
const pingKind: MessageKind<{ type: 'ping'; host: string; text: string }, { banned: string }> = {
  type: 'ping',
  schema: PingSchema,
  subjectOf: ({ host }) => host,
  async admit(message, { banned }) {
    if (message.text === 'later') throw new Retryable('PING_LATER', 'not yet');
    if (message.host === banned) throw new DstackError('PING_BANNED', 'not from here');
    return message;
  },
};

test('carriers of different sorts feed one log, and each takes on what the other brought', async () => {
  const [toB, fromA] = Wire.pair('wire/a', 'wire/b');
  const [toC, fromB] = Wire.pair('radio/b', 'radio/c');
  const [a, b, c] = [[toB], [fromA, toC], [fromB]].map((carriers) => newGossip({ carriers })) as [
    Gossip<undefined>,
    Gossip<undefined>,
    Gossip<undefined>,
  ];
  try {
    for (const host of [a, b, c]) host.start();
    await a.publish(someRequest(1));
    await c.publish(someRequest(2));
    for (const host of [a, b, c]) await expect.poll(() => host.last).toBe(2);
    expect(b.peers()).toEqual([
      { peer: 'wire/a', reachable: true },
      { peer: 'radio/c', reachable: true },
    ]);
  } finally {
    await Promise.all([a, b, c].map((host) => host.close()));
  }
  expect(b.peers().map(({ reachable }) => reachable)).toEqual([false, false]);
});

test("a carrier's peers have room of their own in the log", async () => {
  const carrier = new Wire('me', 'peer');
  const gossip = newGossip({ carriers: [carrier], limits: { loosePerSource: 2, loose: 2 } });
  await gossip.accept(someRequest(1), 'peer');
  for (let n = 10; n < 20; n += 1) await gossip.accept(someRequest(n), `stranger ${n}`);
  expect(gossip.after(0, 100).map(({ source }) => source)).toEqual(['peer', 'stranger 18', 'stranger 19']);
});

test('a kind is registered with its form and its checks, and travels, is found and is kept like any other', async () => {
  const [here, there] = Wire.pair('wire/here', 'wire/there');
  const banned = 'bb'.repeat(32);
  const refused: string[] = [];
  const options = { kinds: [...someKinds(), pingKind], context: () => ({ banned }) };
  const a = newGossip<{ banned: string }>({
    ...options,
    carriers: [here],
    onRefused: (code) => refused.push(code),
  });
  const b = newGossip<{ banned: string }>({ ...options, carriers: [there] });
  const ping = { type: 'ping' as const, host: 'aa'.repeat(32), text: 'hello' };
  try {
    for (const host of [a, b]) host.start();
    await a.publish(ping);
    await expect.poll(() => b.messages.about(pingKind, ping.host)).toEqual([ping]);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
  b.messages.keep(ping.host);
  expect(b.messages.count()).toEqual({ loose: 0, kept: 1 });
  expect(b.messages.subjects(pingKind)).toEqual(new Set([ping.host]));

  const bad: [unknown, string][] = [
    [{ ...ping, host: banned }, 'PING_BANNED'],
    [{ ...ping, text: 'later' }, 'PING_LATER'],
    [{ ...ping, more: 1 }, 'GOSSIP_MALFORMED'],
    [{ ...ping, type: 'pong' }, 'GOSSIP_MALFORMED'],
    [{ ...someRequest(1), type: 'ping' }, 'GOSSIP_MALFORMED'],
  ];
  for (const [message, code] of bad) {
    await expect(a.accept(message, 'x').catch(codeOf)).resolves.toBe(code);
  }
  expect(refused).toEqual(bad.map(([, code]) => code));
  // Who has not registered the kind takes none of it.
  await expect(newGossip().accept(ping, 'x')).rejects.toMatchObject({ code: 'GOSSIP_MALFORMED' });
});

test('two kinds of one type, or of one that is no key, are a fault of the program', () => {
  for (const kinds of [
    [...someKinds(), ...someKinds()],
    [{ ...pingKind, type: 'a/b' } as MessageKind<Message>],
  ]) {
    expect(() => new MessageKinds(kinds as MessageKind[])).toThrow(/lower-case letters and dashes/);
  }
});
