/**
 * The first record of a network. Its identity is the network's; its value is the rules by which every node decides, for ever and alike, what
 * belongs to the network. Only the words that describe the network can be amended later: a rule that changed would make what is a member
 * depend on when it was read.
 */
import { type Static, Type } from 'typebox';
import { utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { HexOf, OneOf, parseJson, Strict } from '../schema.ts';
import { type DagRecord, MAX_LINKS, MAX_VALUE_BYTES } from './format.ts';
import { recordId } from './identity.ts';

const MAX_GENESIS_BYTES = 16_384;

const words = {
  name: Type.String({ minLength: 1, maxLength: 64 }),
  contact: Type.String({ maxLength: 256 }),
  comment: Type.String({ maxLength: 1024 }),
};
export const AMENDABLE = ['name', 'contact', 'comment'] as const;

const GenesisRules = Strict({
  version: Type.Literal(1),
  ...words,
  /** Which words their owner may change later. The others never change. */
  amendable: Type.Array(OneOf(AMENDABLE), { uniqueItems: true, maxItems: AMENDABLE.length }),
  /** So many earlier records does each record link to, but those of genesis' owner and the authorities. */
  minLinks: Type.Integer({ minimum: 1, maximum: MAX_LINKS }),
  /** In bytes. */
  maxValue: Type.Integer({ minimum: 1, maximum: MAX_VALUE_BYTES }),
  /** In milliseconds: how far clocks may be apart. */
  drift: Type.Integer({ minimum: 0, maximum: 86_400_000 }),
  /** Billable bytes for which one solution pays. */
  bytesPerSolution: Type.Integer({ minimum: 1, maximum: 1 << 20 }),
  /** Ed25519 keys that certify owners. */
  authorities: Type.Array(HexOf(32), { uniqueItems: true, maxItems: 16 }),
  /** Whether only certified owners may write: work alone lets nobody in. */
  certificateRequired: Type.Boolean(),
});
export type GenesisRules = Static<typeof GenesisRules>;

const Amendment = Strict({
  name: Type.Optional(words.name),
  contact: Type.Optional(words.contact),
  comment: Type.Optional(words.comment),
});
export type Amendment = Static<typeof Amendment>;

/** A network, as its genesis record says it. */
export interface Genesis {
  /** Identity of the genesis record: the network. */
  readonly id: Uint8Array;
  readonly owner: Uint8Array;
  /** Of the genesis record, in milliseconds. */
  readonly timestamp: number;
  readonly rules: GenesisRules;
}

/** The value of a genesis record. @throws RECORD_GENESIS */
export function genesisValue(rules: GenesisRules): Uint8Array {
  const bytes = utf8(JSON.stringify(rules));
  parseRules(bytes);
  return bytes;
}

/**
 * What a genesis record says. Whether it is the right one, only its identity tells, which whoever joins has from elsewhere. Its signature is
 * checked by signatures.ts, like every record's.
 * @throws RECORD_GENESIS
 */
export function genesisOf(record: DagRecord): Genesis {
  if (!isFirst(record)) {
    throw new DstackError(
      'RECORD_GENESIS',
      'the first record of a network is of type genesis, without links',
    );
  }
  if (record.selectors.length > 0 || record.permit.kind !== 'none' || record.shared) {
    throw new DstackError(
      'RECORD_GENESIS',
      'the first record of a network has no selectors, mode and permit',
    );
  }
  const rules = parseRules(wholeValue(record));
  return { id: recordId(record), owner: record.owner, timestamp: record.timestamp, rules };
}

/** Whether it says that it begins a network; others of type genesis amend one. */
export function isFirst(record: DagRecord): boolean {
  return record.type === 'genesis' && record.links.length === 0;
}

/** What an amendment says anew. @throws RECORD_AMENDMENT */
export function amendmentOf(record: DagRecord, rules: GenesisRules): Amendment {
  const text = strictText(wholeValue(record), 'RECORD_AMENDMENT', 'an amendment');
  const said = parseJson(Amendment, text, 'RECORD_AMENDMENT', 'an amendment', MAX_GENESIS_BYTES);
  const fixed = AMENDABLE.find((word) => said[word] !== undefined && !rules.amendable.includes(word));
  if (fixed !== undefined) {
    throw new DstackError('RECORD_AMENDMENT', `${fixed} of this network never changes; leave it out`);
  }
  return said;
}

function parseRules(bytes: Uint8Array): GenesisRules {
  const text = strictText(bytes, 'RECORD_GENESIS', 'a genesis');
  const rules = parseJson(GenesisRules, text, 'RECORD_GENESIS', 'a genesis', MAX_GENESIS_BYTES);
  if (rules.certificateRequired && rules.authorities.length === 0) {
    throw new DstackError(
      'RECORD_GENESIS',
      'certificates are required, but nobody could give one; name an authority',
    );
  }
  return rules;
}

/** UTF-8 and nothing else, without a mark at its beginning: what one reader mends and another refuses would divide a network. */
function strictText(bytes: Uint8Array, code: string, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new DstackError(code, `${what} is not UTF-8 text; write it as JSON in UTF-8`, { cause });
  }
}

function wholeValue({ value }: DagRecord): Uint8Array {
  if (value.kind === 'whole') return value.bytes;
  throw new DstackError('RECORD_GENESIS', 'the value of a genesis is not there; fetch the whole record');
}
