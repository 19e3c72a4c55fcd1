/** Values that are longer than a record's may be: written as parts, and put together where they are read. */
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import type { Draft } from '../../lib/protocol/records/make.ts';
import { unmaskValue } from '../../lib/protocol/records/mask.ts';
import {
  encodePartList,
  looksLikeParts,
  type PartList,
  partSizes,
  Whole,
} from '../../lib/protocol/records/part-list.ts';
import { type Client, lying } from './client.ts';
import { type WriteOptions, writeRecord } from './write.ts';

/** What no value is longer than, whatever a network allows: it is in memory. */
export const MAX_FILE_BYTES = 128 << 20;

/** @param value without its mask */
export const needsParts = (value: Uint8Array, maxValue: number): boolean =>
  value.length > partSizes(maxValue).part || looksLikeParts(value);

/**
 * Writes the parts.
 * @param maskKey what the parts are masked by; absent: nothing
 * @returns the list, which is what is written under the names
 * @throws RECORD_VALUE before anything is written, for what has too many parts; what `writeRecord` throws
 */
export async function writeParts(
  client: Client,
  value: Uint8Array,
  { seed, maskKey, ...options }: WriteOptions & { seed: Uint8Array; maskKey: Uint8Array | undefined },
): Promise<Uint8Array> {
  const { part, parts: most } = partSizes(client.genesis.rules.maxValue);
  const count = Math.ceil(value.length / part);
  if (count > most || value.length > MAX_FILE_BYTES) {
    const bytes = Math.min(most * part, MAX_FILE_BYTES);
    throw new DstackError(
      'RECORD_VALUE',
      `a value of this network has up to ${bytes} bytes, in parts, not ${value.length}`,
    );
  }
  const parts: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const draft: Omit<Draft, 'timestamp' | 'links'> = {
      type: 'datum',
      names: [],
      value: value.slice(i * part, (i + 1) * part),
      ...(maskKey && { mask: { key: maskKey } }),
    };
    const id = await writeRecord(client, draft, seed, options);
    // Of the same bytes, within a millisecond and on the same links: a list has each part once, and the next is another record.
    if (parts.includes(id)) i -= 1;
    else parts.push(id);
    options.say(`part ${parts.length} of ${count}  ${id}`);
  }
  return encodePartList({ length: value.length, hash: sha256(value), parts });
}

/**
 * The whole value.
 * @throws RECORDS_ANSWER where the node gives another record than the part; RECORDS_NO_RECORD where it has it not; RECORD_PARTS, RECORD_UNREADABLE for
 *   what its writer made so
 */
export async function readParts(
  client: Client,
  list: PartList,
  maskKey: Uint8Array | undefined,
): Promise<Uint8Array> {
  if (list.length > MAX_FILE_BYTES)
    throw new DstackError(
      'RECORD_PARTS',
      `a value of ${list.length} bytes is longer than the ${MAX_FILE_BYTES} that are read`,
    );
  const whole = new Whole(list, client.genesis.rules.maxValue);
  for (const id of list.parts) {
    const record = await client.record(id);
    if (toHex(recordId(record)) !== id)
      throw lying(client.url, 'gave another record than the part of a value');
    whole.add(partIn(record, id, maskKey));
  }
  return whole.finish();
}

function partIn(record: DagRecord, id: string, maskKey: Uint8Array | undefined): Uint8Array {
  const { value, mask } = record;
  if (value.kind === 'pruned')
    throw new DstackError(
      'RECORDS_NO_RECORD',
      `the node has thrown away the value of part ${id}; ask another one`,
    );
  if (mask === 'none') return value.bytes;
  if (mask !== 'key' || maskKey === undefined)
    throw new DstackError('RECORD_PARTS', 'a part of a value is masked in another way than the value');
  return unmaskValue(maskKey, record, value.bytes);
}
