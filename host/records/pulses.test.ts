import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { DRIFT, FOUNDER, idOf, MALLORY } from '../../lib/protocol/records/network.fixture.ts';
import { makePulse, minuteOf } from '../../lib/protocol/records/pulse.ts';
import { NOON } from '../../lib/protocol/records/records.fixture.ts';
import { chainOf } from './chain.fixture.ts';
import type { RecordsNode } from './node.ts';
import { BUCKETS, DIGEST_BYTES, PULSES_FILE } from './pulses.ts';
import { freshRecords, NOW, openNode } from './records.fixture.ts';

const CHAIN = chainOf(12);
const IDS = CHAIN.map(idOf);
const id = IDS[0]!;
const minute = minuteOf(NOON) + 30;
const NOTHING = new Uint8Array(BUCKETS * DIGEST_BYTES);

async function filled(folder = freshRecords()): Promise<RecordsNode> {
  const node = await openNode(folder);
  for (const record of CHAIN) await node.add(encodeRecord(record), 'peer');
  return node;
}

const all = (node: RecordsNode) =>
  [...node.pulses.pulsesBeside(NOTHING)].map((one) => `${one.id} ${one.minute}`).toSorted();

describe('pulses', () => {
  test('of each record the latest counts; what is of the future, of nothing that is here, or another’s, does not', async () => {
    const { pulses } = await filled();
    expect(pulses.of(id)).toBeUndefined();
    expect(pulses.addPulse(makePulse(id, minute, FOUNDER))).toBe('new');
    expect(pulses.addPulse(makePulse(id, minute, FOUNDER))).toBe('known');
    expect(pulses.addPulse(makePulse(id, minute - 1, FOUNDER))).toBe('known');
    expect(pulses.addPulse(makePulse(id, minute + 1, FOUNDER))).toBe('new');
    expect(pulses.of(id)?.minute).toBe(minute + 1);
    expect(pulses.addPulse(makePulse(id, minuteOf(NOW + DRIFT) + 1, FOUNDER))).toBe('early');
    expect(pulses.addPulse(makePulse('ab'.repeat(32), minute, FOUNDER))).toBe('unknown');
    let code = 'none';
    try {
      pulses.addPulse(makePulse(id, minute + 2, MALLORY));
    } catch (error) {
      code = codeOf(error);
    }
    expect([code, pulses.of(id)?.minute]).toEqual(['RECORD_PULSE', minute + 1]);
  });

  test('whatever the order in which they come, and whoever compares with whom, nodes have the same', async () => {
    const made = IDS.flatMap((one) => [0, 1, 2].map((later) => makePulse(one, minute + later, FOUNDER)));
    const latest = IDS.map((one) => `${one} ${minute + 2}`).toSorted();
    const orders = fc.sample(fc.shuffledSubarray(made, { minLength: made.length }), { numRuns: 2, seed: 7 });
    for (const order of orders) {
      const [a, b] = [await filled(), await filled()];
      for (const [i, pulse] of order.entries()) (i % 3 === 0 ? a : b).pulses.addPulse(pulse);
      const give = (from: RecordsNode, to: RecordsNode) => {
        for (const pulse of from.pulses.pulsesBeside(to.pulses.pulseDigests())) to.pulses.addPulse(pulse);
      };
      give(a, b);
      give(b, a);
      expect([all(a), all(b)]).toEqual([latest, latest]);
      // And then there is nothing to give.
      expect([...a.pulses.pulsesBeside(b.pulses.pulseDigests())]).toEqual([]);
    }
  }, 60_000);

  test('are there after a start; a file that can’t be read is made anew, and is its owner’s alone', async () => {
    const folder = freshRecords();
    const node = await filled(folder);
    node.pulses.addPulse(makePulse(id, minute, FOUNDER));
    await node.close();
    const again = await openNode(folder);
    expect(again.pulses.of(id)?.minute).toBe(minute);
    expect(statSync(join(folder, PULSES_FILE)).mode & 0o777).toBe(0o600);
    await again.close();
    writeFileSync(
      join(folder, PULSES_FILE),
      'no database, but long enough to be looked at as one'.repeat(100),
    );
    const anew = await openNode(folder);
    expect(anew.pulses.of(id)).toBeUndefined();
    expect(anew.pulses.addPulse(makePulse(id, minute, FOUNDER))).toBe('new');
  });
});
