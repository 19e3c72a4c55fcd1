/** Records of a small network, for tests in and outside of the test runner. */
import { uint64, utf8 } from '../../lib/protocol/encoding.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { FOUNDER, genesisRecord, SECOND, write } from '../../lib/protocol/records/network.fixture.ts';
import { keysFor, NOON } from '../../lib/protocol/records/records.fixture.ts';

export const GENESIS = genesisRecord();

/** Of the chain's, those whose values the tests with kills throw away. */
export const PRUNED_BEFORE = NOON + 100 * SECOND;

/** So many of the founder's records, each on the two before it, under a few names. */
export function chainOf(count: number): DagRecord[] {
  const records = [GENESIS];
  for (let n = 1; n <= count; n++) {
    const links = records.slice(-2).map(recordId);
    const names = [{ keys: keysFor(`name ${n % 5}`), ordinal: BigInt(n) }];
    // Longer than its hash.
    const value = Buffer.concat([utf8('value '.repeat(6)), uint64(n)]);
    records.push(write(FOUNDER, { links, names, value, timestamp: NOON + n * SECOND }));
  }
  return records.slice(1);
}
