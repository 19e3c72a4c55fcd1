/** Pulses between nodes. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { FOUNDER, idOf, MALLORY } from '../../../lib/protocol/records/network.fixture.ts';
import { makePulse, minuteOf } from '../../../lib/protocol/records/pulse.ts';
import { NOON } from '../../../lib/protocol/records/records.fixture.ts';
import { chainOf } from '../chain.fixture.ts';
import type { RecordsNode } from '../node.ts';
import type { PulseSet } from '../pulses.ts';
import { freshRecords, NOW, openNode } from '../records.fixture.ts';
import { keyOf } from './sockets.fixture.ts';
import type { RecordStore } from './types.ts';
import { RecordWire, type WireEvent } from './wire.ts';

const HOST = '127.0.0.1';
const CHAIN = chainOf(5);
const [id, other] = CHAIN.map(idOf) as [string, string];
const minute = minuteOf(NOON) + 30;

async function nodeWith(): Promise<RecordsNode> {
  const node = await openNode(freshRecords());
  for (const record of CHAIN) await node.add(encodeRecord(record), 'peer');
  return node;
}

function wireOf(store: RecordStore, label: string): { wire: RecordWire; events: WireEvent[] } {
  const events: WireEvent[] = [];
  const wire = new RecordWire({
    store,
    staticKey: keyOf(label),
    limits: { interval: 200, again: 50, pulses: 200, redial: [50, 200] },
    now: () => NOW,
    onEvent: (event) => events.push(event),
  });
  onTestFinished(() => wire.stop());
  return { wire, events };
}

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
  const storeOf = (own: RecordsNode, pulses: PulseSet | undefined): RecordStore =>
    new Proxy(own, {
      get: (target, name) => {
        if (name === 'pulses') return pulses;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    }) as RecordStore;
  const silent = wireOf(storeOf(without, undefined), 'without').wire;
  silent.dial({ host: HOST, port });
  await vi.waitFor(() => expect(silent.isSynchronised(1, 10_000)).toBe(true), 20_000);
  node.pulses.addPulse(makePulse(id, minute, FOUNDER));

  const liar: PulseSet = {
    addPulse: () => 'known',
    pulseDigests: () => new Uint8Array(2048),
    pulsesBeside: () => [makePulse(id, minute + 5, MALLORY)],
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
