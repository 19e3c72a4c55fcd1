/** Pulses between nodes. */
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { FOUNDER, idOf, MALLORY } from '../../../lib/protocol/records/network.fixture.ts';
import { makePulse, minuteOf } from '../../../lib/protocol/records/pulse.ts';
import { NOON } from '../../../lib/protocol/records/records.fixture.ts';
import type { Message } from '../../../lib/protocol/records/sync/messages.ts';
import { chainOf } from '../chain.fixture.ts';
import type { RecordsNode } from '../node.ts';
import type { PulseSet } from '../pulses.ts';
import { freshRecords, NOW, openNode } from '../records.fixture.ts';
import { Allowance } from './allowance.ts';
import type { WireLimits } from './limits.ts';
import { KNOWS_PULSES, PulseExchange } from './pulse-exchange.ts';
import { keyOf } from './sockets.fixture.ts';
import type { RecordStore } from './types.ts';
import { RecordWire, type WireEvent } from './wire.ts';

const HOST = '127.0.0.1';
const CHAIN = chainOf(5);
const [id, other, third] = CHAIN.map(idOf) as [string, string, string];
const minute = minuteOf(NOON) + 30;

async function nodeWith(): Promise<RecordsNode> {
  const node = await openNode(freshRecords());
  for (const record of CHAIN) await node.add(encodeRecord(record), 'peer');
  return node;
}

function wireOf(
  store: RecordStore,
  label: string,
  limits: Partial<WireLimits> = {},
): { wire: RecordWire; events: WireEvent[] } {
  const events: WireEvent[] = [];
  const wire = new RecordWire({
    store,
    staticKey: keyOf(label),
    // What the machine has to do besides is no peer's.
    limits: {
      cpu: { perSecond: 1_000, burst: 20_000 },
      interval: 200,
      again: 50,
      pulses: 200,
      redial: [50, 200],
      ...limits,
    },
    now: () => NOW,
    onEvent: (event) => events.push(event),
  });
  onTestFinished(() => wire.stop());
  return { wire, events };
}

/** Another's pulses, or none, beside a node's records. */
const storeOf = (own: RecordsNode, pulses: PulseSet | undefined): RecordStore =>
  new Proxy(own, {
    get: (target, name) => {
      if (name === 'pulses') return pulses;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  }) as RecordStore;

test('what one node hears, all hear, over others too; who was away has the latest when it is back', async () => {
  const nodes = [await nodeWith(), await nodeWith(), await nodeWith()] as const;
  nodes[0].pulses.addPulse(makePulse(other, minute, FOUNDER));
  const [a, b, c] = nodes.map((node, i) => wireOf(node, `node ${i}`).wire) as [
    RecordWire,
    RecordWire,
    RecordWire,
  ];
  const port = await b.listen(HOST, 0);
  a.dial({ host: HOST, port });
  c.dial({ host: HOST, port });
  const heard = (one: string) => nodes.map((node) => node.pulses.of(one)?.minute);
  // From before they met.
  await vi.waitFor(() => expect(heard(other)).toEqual([minute, minute, minute]), 20_000);
  nodes[0].pulses.addPulse(makePulse(id, minute, FOUNDER));
  await vi.waitFor(() => expect(heard(id)).toEqual([minute, minute, minute]), 20_000);
  await c.stop();
  nodes[0].pulses.addPulse(makePulse(id, minute + 1, FOUNDER));
  await vi.waitFor(() => expect(nodes[1].pulses.of(id)?.minute).toBe(minute + 1), 20_000);
  expect(heard(id)[2]).toBe(minute);
  wireOf(nodes[2], 'node 2').wire.dial({ host: HOST, port });
  await vi.waitFor(() => expect(heard(id)).toEqual([minute + 1, minute + 1, minute + 1]), 20_000);
});

test('a peer that gives a pulse which is none is not spoken to; one without pulses is a peer all the same', async () => {
  const node = await nodeWith();
  const { wire, events } = wireOf(node, 'node');
  const port = await wire.listen(HOST, 0);
  const without = await nodeWith();
  const silent = wireOf(storeOf(without, undefined), 'without').wire;
  silent.dial({ host: HOST, port });
  await vi.waitFor(() => expect(silent.isSynchronised(1, 10_000)).toBe(true), 20_000);
  node.pulses.addPulse(makePulse(id, minute, FOUNDER));

  const liar: PulseSet = {
    addPulse: () => 'known',
    pulseDigests: async () => new Uint8Array(2048),
    pulsesIn: () => [makePulse(id, minute + 5, MALLORY)],
    subscribePulses: () => () => {},
  };
  wireOf(storeOf(await nodeWith(), liar), 'liar').wire.dial({ host: HOST, port });
  await vi.waitFor(
    () => expect(events).toContainEqual(expect.objectContaining({ kind: 'ended', code: 'SYNC_PULSE' })),
    20_000,
  );
  expect(node.pulses.of(id)?.minute).toBe(minute);
  expect(silent.isSynchronised(1, 10_000)).toBe(true);
});

test('what it takes to look at an owner’s pulses does not hold up the peer that passes them on', async () => {
  const [maker, node] = [await nodeWith(), await nodeWith()];
  const costly: PulseSet = {
    addPulse(pulse, mayJudge) {
      // As a signature, it is looked at once.
      const until =
        process.threadCpuUsage().user + (node.pulses.of(pulse.id)?.minute === minute ? 0 : 600_000);
      while (process.threadCpuUsage().user < until);
      return node.pulses.addPulse(pulse, mayJudge);
    },
    pulseDigests: () => node.pulses.pulseDigests(),
    pulsesIn: (bucket) => node.pulses.pulsesIn(bucket),
    subscribePulses: (listener) => node.pulses.subscribePulses(listener),
  };
  // What is spent is not given back: a peer that is charged with one of them is not read any more.
  const { wire } = wireOf(storeOf(node, costly), 'node', { cpu: { perSecond: 0.001, burst: 550 } });
  const port = await wire.listen(HOST, 0);
  const { wire: other } = wireOf(maker, 'maker');
  other.dial({ host: HOST, port });
  await vi.waitFor(() => expect(other.isSynchronised(1, 10_000)).toBe(true), 20_000);
  maker.pulses.addPulse(makePulse(id, minute, FOUNDER));
  await vi.waitFor(() => expect(node.pulses.of(id)?.minute).toBe(minute), 20_000);
  maker.pulses.addPulse(makePulse(third, minute, FOUNDER));
  await vi.waitFor(() => expect(node.pulses.of(third)?.minute).toBe(minute), 5_000);
});

describe('an exchange with one peer', () => {
  const rateOf = (burst: number) => ({ perSecond: 1, burst });

  function exchangeWith(isBad = false) {
    const state = { uptime: 0, cpu: 0, judged: [] as string[], forgiven: 0 };
    const sent: Message[] = [];
    const pulses: PulseSet = {
      addPulse({ id: of, minute: at }, mayJudge = () => true) {
        state.cpu += 1;
        if (at === 0) return 'known';
        if (!mayJudge(of.startsWith('aa') ? 'mine' : 'theirs')) return 'passed over';
        state.cpu += 10;
        if (isBad) throw new DstackError('RECORD_PULSE', 'bad');
        state.judged.push(of.slice(0, 2));
        return 'new';
      },
      pulseDigests: async () => new Uint8Array(2048),
      pulsesIn: () => [],
      subscribePulses: () => () => {},
    };
    const exchange = new PulseExchange({
      ...{ pulses, interval: 600, perOwner: rateOf(3), uptime: () => state.uptime, cpu: () => state.cpu },
      allowance: new Allowance(rateOf(5), () => state.uptime),
      forgive: (milliseconds) => {
        state.forgiven += milliseconds;
      },
      send: (message) => void sent.push(message),
      isBehind: () => false,
      paced: async (work) => work(),
      fail: (error) => {
        throw error;
      },
    });
    exchange.meet(KNOWS_PULSES);
    return { state, sent, exchange };
  }
  const pulseOf = (first: string, at = minute) => ({
    ...{ id: first.padEnd(64, '0'), minute: at, signature: new Uint8Array(64) },
  });

  test('looks at so many of an owner, and in all; others are passed over, and asked for again soon', async () => {
    const { state, sent, exchange } = exchangeWith();
    exchange.compare(true);
    await vi.waitFor(() => expect(sent).toHaveLength(1));
    exchange.hear(Array.from({ length: 20 }, () => pulseOf('aa')));
    exchange.hear(Array.from({ length: 20 }, () => pulseOf('bb')));
    expect(state.judged).toEqual(['aa', 'aa', 'aa', 'bb', 'bb']);
    // What it took to look at these, and not what the others took.
    expect(state.forgiven).toBe(5 * 11);
    exchange.compare(true);
    await vi.waitFor(() => expect(sent).toHaveLength(2));
    exchange.compare(true);
    state.uptime = 2_000;
    exchange.hear([pulseOf('aa'), pulseOf('aa'), pulseOf('aa')]);
    expect(state.judged.slice(5)).toEqual(['aa', 'aa']);
  });

  test('one that is known, or bad, is the bearer’s', () => {
    const { state, exchange } = exchangeWith();
    exchange.hear([pulseOf('aa', 0)]);
    expect(state.forgiven).toBe(0);
    const bad = exchangeWith(true);
    expect(() => bad.exchange.hear([pulseOf('aa')])).toThrow(expect.objectContaining({ code: 'SYNC_PULSE' }));
    expect(bad.state.forgiven).toBe(0);
  });

  test('compares where nothing is missing; where something always is, after another interval', async () => {
    const { state, sent, exchange } = exchangeWith();
    exchange.compare(false);
    state.uptime = 599;
    exchange.compare(false);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual([]);
    state.uptime = 600;
    exchange.compare(false);
    await vi.waitFor(() => expect(sent).toHaveLength(1));
    state.uptime = 1_200;
    exchange.compare(true);
    await vi.waitFor(() => expect(sent).toHaveLength(2));
  });
});
