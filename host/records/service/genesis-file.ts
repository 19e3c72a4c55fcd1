/**
 * A new network, as one file: its genesis record and, behind it, as many records of the founder as the first record of anybody else has to link to.
 * Each after its length in 4 bytes, big-endian.
 */
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { ByteReader } from '../../../lib/protocol/records/byte-reader.ts';
import { decodeRecord, encodeRecord, MAX_RECORD_BYTES } from '../../../lib/protocol/records/codec.ts';
import { type DagRecord, MAX_LINKS } from '../../../lib/protocol/records/format.ts';
import {
  type Genesis,
  type GenesisRules,
  genesisOf,
  genesisValue,
} from '../../../lib/protocol/records/genesis.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { makeRecord, withoutPermit } from '../../../lib/protocol/records/make.ts';
import { verifyAlone } from '../../../lib/protocol/records/membership.ts';

export const MAX_GENESIS_FILE_BYTES = MAX_LINKS * (4 + MAX_RECORD_BYTES);

/** @param now milliseconds since 1970. @throws RECORD_GENESIS */
export function makeGenesis(rules: GenesisRules, founderSeed: Uint8Array, now: number): Uint8Array {
  const first = makeRecord(
    { type: 'genesis', timestamp: now, links: [], names: [], value: genesisValue(rules) },
    founderSeed,
    withoutPermit,
  );
  const records: DagRecord[] = [first];
  while (records.length < rules.minLinks) {
    const links = [recordId(records.at(-1)!)];
    const value = utf8(`record ${records.length + 1} of a new network`).subarray(0, rules.maxValue);
    records.push(
      makeRecord({ type: 'datum', timestamp: now, links, names: [], value }, founderSeed, withoutPermit),
    );
  }
  return new Uint8Array(
    Buffer.concat(records.map(encodeRecord).flatMap((bytes) => [lengthOf(bytes), bytes])),
  );
}

/**
 * The records of such a file, the first of which is genesis; or of a genesis record by itself.
 * @throws RECORDS_GENESIS
 */
export function parseGenesis(bytes: Uint8Array): {
  readonly genesis: Genesis;
  readonly records: readonly Uint8Array[];
} {
  try {
    const records = recordsIn(bytes);
    const first = decodeRecord(records[0]!);
    const genesis = genesisOf(first);
    for (const record of records) verifyAlone(decodeRecord(record), genesis);
    return { genesis, records };
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw new DstackError(
      'RECORDS_GENESIS',
      `this is no genesis of a network (${cause.message}); take the file that its founder gave`,
      { cause },
    );
  }
}

function recordsIn(bytes: Uint8Array): Uint8Array[] {
  // A record by itself begins with its form, which no length here does.
  if (bytes[0] !== 0) return [bytes];
  const reader = new ByteReader(bytes);
  const records: Uint8Array[] = [];
  for (let left = bytes.length; left > 0; ) {
    const length = reader.uint32('the length of a record');
    records.push(reader.take(length, 'a record'));
    left -= 4 + length;
  }
  return records;
}

function lengthOf(bytes: Uint8Array): Uint8Array {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(bytes.length);
  return out;
}
