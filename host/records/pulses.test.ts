import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { DRIFT, FOUNDER, idOf, MALLORY } from '../../lib/protocol/records/network.fixture.ts';
import { makePulse, minuteOf } from '../../lib/protocol/records/pulse.ts';
import { NOON } from '../../lib/protocol/records/records.fixture.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { chainOf } from './chain.fixture.ts';
import type { RecordsNode } from './node.ts';
import { BUCKETS, bucketsApart, DIGEST_BYTES, PULSES_FILE, Pulses } from './pulses.ts';
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

/** What a node gives to one that has these digests. */
const beside = async (pulses: Pulses, digests: Uint8Array) =>
  bucketsApart(await pulses.pulseDigests(), digests).flatMap((bucket) => [...pulses.pulsesIn(bucket)]);
const all = async (node: RecordsNode) =>
  (await beside(node.pulses, NOTHING)).map((one) => `${one.id} ${one.minute}`).toSorted();

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

  test('of one record one a minute is passed on, however many it has; comparisons give the latest', async () => {
    const folder = freshRecords();
    const member = { owner: publicKeyOfSeed(FOUNDER), timestamp: NOON };
    let uptime = 0;
    const pulses = new Pulses(join(folder, 'alone.sqlite'), {
      ...{ memberOf: () => member, now: () => NOON + 100 * 60_000, drift: 0, uptime: () => uptime },
    });
    const heard: string[] = [];
    pulses.subscribePulses(({ id: of, minute: at }) => heard.push(`${of === id ? 'one' : 'other'} ${at}`));
    const first = minuteOf(NOON);
    for (let n = 0; n < 50; n += 1) expect(pulses.addPulse(makePulse(id, first + n, FOUNDER))).toBe('new');
    pulses.addPulse(makePulse(IDS[1]!, first, FOUNDER));
    expect(heard).toEqual([`one ${first}`, `other ${first}`]);
    uptime = 60_000;
    pulses.addPulse(makePulse(id, first + 60, FOUNDER));
    expect(heard.at(-1)).toBe(`one ${first + 60}`);
    expect((await beside(pulses, NOTHING)).map((one) => one.minute).toSorted()).toEqual([first, first + 60]);
    pulses.close();
  });

  test('where not all fit into an answer, the next has others', async () => {
    const folder = freshRecords();
    const member = { owner: publicKeyOfSeed(FOUNDER), timestamp: NOON };
    const pulses = new Pulses(join(folder, 'alone.sqlite'), {
      ...{ memberOf: () => member, now: () => NOON + 100 * 60_000, drift: 0 },
    });
    // All of one bucket.
    const ids = Array.from({ length: 40 }, (_, n) => `aa${n.toString(16).padStart(2, '0')}`.padEnd(64, 'c'));
    for (const [n, one] of ids.entries())
      pulses.addPulse(
        makePulse(`aa${(n * 6).toString(16).padStart(2, '0')}${one.slice(4)}`, minute, FOUNDER),
      );
    const seen = new Set<string>();
    for (let answer = 0; answer < 200; answer += 1)
      for (const [n, one] of [...pulses.pulsesIn(0xaa)].entries()) if (n < 5) seen.add(one.id);
    expect(seen.size).toBe(40);
    pulses.close();
  });

  test('whatever the order in which they come, and whoever compares with whom, nodes have the same', async () => {
    const made = IDS.flatMap((one) => [0, 1, 2].map((later) => makePulse(one, minute + later, FOUNDER)));
    const latest = IDS.map((one) => `${one} ${minute + 2}`).toSorted();
    const orders = fc.sample(fc.shuffledSubarray(made, { minLength: made.length }), { numRuns: 2, seed: 7 });
    for (const order of orders) {
      const [a, b] = [await filled(), await filled()];
      for (const [i, pulse] of order.entries()) (i % 3 === 0 ? a : b).pulses.addPulse(pulse);
      const give = async (from: RecordsNode, to: RecordsNode) => {
        for (const pulse of await beside(from.pulses, await to.pulses.pulseDigests()))
          to.pulses.addPulse(pulse);
      };
      await give(a, b);
      await give(b, a);
      expect([await all(a), await all(b)]).toEqual([latest, latest]);
      // And then there is nothing to give.
      expect(await beside(a.pulses, await b.pulses.pulseDigests())).toEqual([]);
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

  test('of records that are gone are dropped, and digests are made, a part at a time: others have their turn between', async () => {
    const path = join(freshRecords(), 'alone.sqlite');
    const member = { owner: publicKeyOfSeed(FOUNDER), timestamp: NOON };
    const options = { now: () => NOON + 100 * 60_000, drift: 0 };
    const before = new Pulses(path, { ...options, memberOf: () => member });
    // More of one bucket than are swept at once.
    const many = Array.from({ length: 150 }, (_, n) => `07${(n + 1).toString(16).padStart(62, '0')}`);
    for (const one of [...IDS, ...many]) before.addPulse(makePulse(one, minute, FOUNDER));
    const digests = await before.pulseDigests();
    before.close();

    let looked = 0;
    const after = new Pulses(path, {
      ...options,
      memberOf: (one) => {
        looked += 1;
        return one === many[140] ? undefined : member;
      },
    });
    // A start looks at none.
    expect(looked).toBe(0);
    let turns = 0;
    let isDone = false;
    const turn = () => {
      turns += 1;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    const anew = await after.pulseDigests();
    isDone = true;
    expect(turns).toBeGreaterThanOrEqual(BUCKETS);
    expect([looked, bucketsApart(anew, digests)]).toEqual([IDS.length + many.length, [7]]);
    expect([...after.pulsesIn(7)].map(({ id: one }) => one)).not.toContain(many[140]);
    // A node that closes meanwhile ends it.
    const cut = after.pulseDigests();
    after.close();
    await cut;
  });
});
