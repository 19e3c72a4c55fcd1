/** Questions by name, and what of the answer is to be seen: records that the node did not make up, with names and values as who knows them reads them. */

import type { CandidateReply } from '../../host/records/service/messages.ts';
import { bytesEqual, fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { hasCode } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { conflictKey } from '../../lib/protocol/records/conflicts.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { unmaskValue } from '../../lib/protocol/records/mask.ts';
import { type NameKeys, type NameSpace, nameKeys } from '../../lib/protocol/records/names.ts';
import { MAX_ORDINAL, openOrdinal, ordinalRanges } from '../../lib/protocol/records/ordinals.ts';
import { MINUTE, verifyPulse } from '../../lib/protocol/records/pulse.ts';
import { type Client, judged, lying } from './client.ts';
import { type Selection, showName } from './selectors.ts';

export interface Question {
  readonly selections: readonly Selection[];
  readonly space: NameSpace;
  /** Of values that are masked by a key. */
  readonly maskKey?: Uint8Array;
  /** Keys of owners whose suspicions count. */
  readonly oracles: readonly string[];
  /** Records with more names than were asked for, too. */
  readonly isOpen: boolean;
  readonly from?: number;
  readonly to?: number;
}

export interface Seen {
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly owner: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** In the order in which they were asked for; unknown names, as `?` and their key, without an ordinal, at the end. */
  readonly selectors: readonly { readonly name: string; readonly ordinal: bigint | undefined }[];
  /** Undefined where it can't be read, and why. */
  readonly value: Uint8Array | undefined;
  readonly unreadable?: 'masked' | 'thrown away';
  /** By what its value was read, where that is masked. */
  readonly maskKey: Uint8Array | undefined;
  readonly trust: number;
  readonly localTrust: number;
  /** Undefined without oracles. */
  readonly oracleTrust: number | undefined;
  readonly weight: number | undefined;
  /** When its owner's first record of the set was signed. */
  readonly since: number | undefined;
  /** Milliseconds since 1970, when its owner last said that it still holds. */
  readonly pulse: number | undefined;
}

export interface Found {
  /** In the order of ordinals; in each, the one to believe first. */
  readonly sets: readonly (readonly Seen[])[];
  readonly isCut: boolean;
}

interface Named extends Selection {
  readonly keys: NameKeys;
}

/** @throws RECORDS_ANSWER for a record that was not asked for or is none */
export async function findRecords(client: Client, question: Question): Promise<Found> {
  const { selections, space, oracles, isOpen, from, to } = question;
  const named = selections.map(
    (selection): Named => ({ ...selection, keys: nameKeys(selection.name, space) }),
  );
  const { sets, isCut } = await client.query({
    names: named.map(({ keys, from, to }) => ({
      claimKey: toHex(keys.claimKey),
      tags: ordinalRanges(keys.ordinalKey, from, to).map((tag) => ({
        from: toHex(tag.from),
        to: toHex(tag.to),
      })),
    })),
    oracles: oracles.map((key) => toHex(fromHex(key))),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
  });
  const given = new Set<string>();
  const seen = sets.map((set) => {
    const records = set.map(({ record }) => judged(client.url, client.genesis, record));
    requireOneSet(client.url, records, given);
    for (const record of records) requireInTime(client.url, record, question);
    return set.map((reply, i) => seenIn(client, records[i]!, reply, { named, question }));
  });
  const shown = seen.filter(([first]) => isOpen || first!.selectors.length === selections.length);
  return { sets: shown.toSorted(byOrdinals), isCut };
}

/**
 * Else the first of one set could be shown as if it had won over another, or what lost as if it stood alone.
 * @param given what the sets before this one are about
 */
function requireOneSet(url: string, records: readonly DagRecord[], given: Set<string>): void {
  const keys = new Set(
    records.map((record) =>
      record.selectors.length === 0 ? toHex(recordId(record)) : toHex(conflictKey(record)),
    ),
  );
  if (keys.size > 1) throw lying(url, 'gave records as candidates for one thing that are about several');
  const [key] = keys;
  const ids = new Set(records.map((record) => toHex(recordId(record))));
  if (given.has(key!) || ids.size < records.length) throw lying(url, 'gave candidates for one thing twice');
  given.add(key!);
}

function requireInTime(url: string, { timestamp }: DagRecord, { from = 0, to = timestamp }: Question): void {
  if (timestamp < from || timestamp > to)
    throw lying(url, 'gave a record of another time than was asked for');
}

function seenIn(
  { url }: Client,
  record: DagRecord,
  { trust, isCollider, isRevoked, suspectedBy, weight, since, pulse }: CandidateReply,
  { named, question }: { named: readonly Named[]; question: Question },
): Seen {
  const { selectors, owner, timestamp } = record;
  const known = named.map((one) => {
    const selector = selectors.find(({ claimKey }) => bytesEqual(claimKey, one.keys.claimKey));
    const ordinal = selector && openOrdinal(one.keys.ordinalKey, selector.ordinalTag);
    if (ordinal === undefined || ordinal < one.from || ordinal > one.to)
      throw lying(url, 'gave a record with other names or ordinals than were asked for');
    return { name: showName(one.name), ordinal, key: toHex(one.keys.claimKey) };
  });
  const others = selectors
    .map(({ claimKey }) => toHex(claimKey))
    .filter((key) => !known.some((one) => one.key === key))
    .map((key) => ({ name: `?${key}`, ordinal: undefined }));
  const value = readValue(record, named, question.maskKey);
  const judges = question.oracles.length;
  return {
    id: toHex(recordId(record)),
    bytes: encodeRecord(record),
    owner: toHex(owner),
    timestamp,
    selectors: [...known.map(({ name, ordinal }) => ({ name, ordinal })), ...others],
    ...(typeof value === 'string' ? { value: undefined, unreadable: value } : { value }),
    maskKey: maskKeyOf(record, named, question.maskKey),
    trust,
    localTrust: isCollider || isRevoked ? 0 : 1,
    oracleTrust: judges === 0 ? undefined : 1 - suspectedBy.length / judges,
    weight,
    since,
    pulse: pulse && pulseIn(url, record, pulse),
  };
}

function pulseIn(
  url: string,
  record: DagRecord,
  { minute, signature }: NonNullable<CandidateReply['pulse']>,
): number {
  try {
    verifyPulse({ id: toHex(recordId(record)), minute, signature: fromHex(signature) }, record);
  } catch (error) {
    if (hasCode(error, 'RECORD_PULSE')) throw lying(url, 'gave a pulse that is not its record’s owner’s');
    throw error;
  }
  return minute * MINUTE;
}

function readValue(
  record: DagRecord,
  named: readonly Named[],
  maskKey: Uint8Array | undefined,
): Uint8Array | 'masked' | 'thrown away' {
  const { value } = record;
  if (value.kind === 'pruned') return 'thrown away';
  if (record.mask === 'none') return value.bytes;
  const key = maskKeyOf(record, named, maskKey);
  if (key === undefined) return 'masked';
  try {
    return unmaskValue(key, record, value.bytes);
  } catch (error) {
    // Whoever knows the name can write what is no masked value; it is a member all the same.
    if (hasCode(error, 'RECORD_UNREADABLE')) return 'masked';
    throw error;
  }
}

/** By what a masked value is read, if that is known. */
function maskKeyOf(
  { mask, selectors }: DagRecord,
  named: readonly Named[],
  given: Uint8Array | undefined,
): Uint8Array | undefined {
  if (mask === 'none') return undefined;
  if (mask === 'key') return given;
  const { claimKey } = selectors[mask.selector]!;
  return named.find(({ keys }) => bytesEqual(keys.claimKey, claimKey))?.keys.maskKey;
}

function byOrdinals([a]: readonly Seen[], [b]: readonly Seen[]): number {
  for (const [i, { ordinal = MAX_ORDINAL }] of a!.selectors.entries()) {
    const other = b!.selectors[i]?.ordinal ?? MAX_ORDINAL;
    if (ordinal !== other) return ordinal < other ? -1 : 1;
  }
  return 0;
}
