/**
 * Gossip's messages as records. The record of a message follows from the message: all relays of a network make the same one, and none
 * stores any. Its value is the message's canonical JSON; one that is longer than a value may be is cut into parts, records of their own, on
 * which the message's record stands and whose digests are its value.
 *
 * The network of these records follows from the chain and the contract, so that nobody has to lead it. Its owner's key is published: everybody may
 * write, without work. What belongs to it is what the log of messages admits, and only while it holds it; a record says nothing but its message, and
 * its signature nothing at all.
 */
import { lengthPrefixed, sha256, toHex, uint64, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { addressKey } from '../../lib/protocol/hex.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import { type DagRecord, MAX_VALUE_BYTES } from '../../lib/protocol/records/format.ts';
import { genesisValue } from '../../lib/protocol/records/genesis.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { makeRecord, withoutPermit } from '../../lib/protocol/records/make.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { canonicalMessage, type Message } from './message-kind.ts';

/** Of all these records: a message has its place in a chain's time, if in any, by what it says. */
const TIMESTAMP = 0;
/** The first byte of a value that is not a message but says of what parts one is made; a message begins with a brace. */
const IN_PARTS = 0;
const DIGEST_BYTES = 32;
/** The parts of the largest message. */
const MOST_PARTS = Math.ceil(MESSAGE_MAX_BYTES / MAX_VALUE_BYTES);

/** A message as it travels. */
export interface RecordedMessage {
  /** The identity of its record, by which peers know it. */
  readonly id: string;
  /** What its record stands on, in the order of the message; none for a message that fits into one value. */
  readonly parts: readonly string[];
}

/** What a record of a message in parts says. */
export interface PartList {
  readonly length: number;
  /** Identities of the parts, in the order of the message. */
  readonly parts: readonly string[];
}

export class MessageRecords {
  /** The network of these records: the identity of its first, in hex. */
  readonly network: string;
  /** That record. */
  readonly genesis: Uint8Array;
  readonly #seed: Uint8Array;
  readonly #owner: Uint8Array;
  readonly #root: Uint8Array;

  constructor({ chainId, contract }: Domain) {
    const name = lengthPrefixed([
      utf8('dstack/v1/gossip-records'),
      uint64(chainId),
      utf8(addressKey(contract)),
    ]);
    this.#seed = sha256(name);
    this.#owner = publicKeyOfSeed(this.#seed);
    const record = makeRecord(
      {
        type: 'genesis',
        timestamp: TIMESTAMP,
        links: [],
        names: [],
        value: genesisValue({
          version: 1,
          name: 'dstack gossip',
          contact: '',
          comment: `${addressKey(contract)} on chain ${chainId}`,
          amendable: [],
          minLinks: 1,
          maxValue: MAX_VALUE_BYTES,
          drift: 0,
          bytesPerSolution: 1,
          authorities: [],
          certificateRequired: false,
        }),
      },
      this.#seed,
      withoutPermit,
    );
    this.#root = recordId(record);
    this.network = toHex(this.#root);
    this.genesis = encodeRecord(record);
  }

  of(message: Message): RecordedMessage {
    const bytes = canonicalMessage(message);
    const parts = partsOf(bytes).map((part) => toHex(this.#idOf(part)));
    return { id: toHex(this.#idOf(...this.#said(bytes))), parts };
  }

  /** The message's record. */
  encode(message: Message): Uint8Array {
    return this.#encode(...this.#said(canonicalMessage(message)));
  }

  /** One of the parts of a message. */
  encodePart(message: Message, index: number): Uint8Array {
    return this.#encode(partsOf(canonicalMessage(message))[index]!);
  }

  /**
   * What a record says: a message's bytes, or of which parts it is made.
   * @throws GOSSIP_RECORD for one that is not made as here
   */
  read(record: DagRecord): Uint8Array | PartList {
    const value = wholeValueOf(record);
    const list = value[0] === IN_PARTS ? this.#listed(value) : undefined;
    const links = list?.parts.map((id) => Uint8Array.from(Buffer.from(id, 'hex'))) ?? [];
    // By its identity, which covers all of a record but a signature that anybody can make.
    if (toHex(this.#idOf(value, links)) !== toHex(recordId(record))) throw otherForm();
    return list ?? value;
  }

  /** What a message's record says, and on which parts it stands. */
  #said(bytes: Uint8Array): [value: Uint8Array, links: Uint8Array[]] {
    const parts = partsOf(bytes);
    if (parts.length === 0) return [bytes, []];
    const head = Buffer.alloc(5);
    head.writeUInt8(IN_PARTS);
    head.writeUInt32BE(bytes.length, 1);
    return [
      new Uint8Array(Buffer.concat([head, ...parts.map((part) => sha256(part))])),
      parts.map((part) => this.#idOf(part)),
    ];
  }

  #listed(value: Uint8Array): PartList {
    const bytes = Buffer.from(value);
    const count = (bytes.length - 5) / DIGEST_BYTES;
    if (!Number.isInteger(count) || count < 2 || count > MOST_PARTS) throw otherForm();
    const length = bytes.readUInt32BE(1);
    if (Math.ceil(length / MAX_VALUE_BYTES) !== count || length > MESSAGE_MAX_BYTES) throw otherForm();
    const parts = Array.from({ length: count }, (_, at) => {
      const hash = value.slice(5 + at * DIGEST_BYTES, 5 + (at + 1) * DIGEST_BYTES);
      const size = Math.min(MAX_VALUE_BYTES, length - at * MAX_VALUE_BYTES);
      return toHex(recordId(this.#record({ kind: 'pruned', length: size, hash })));
    });
    return { length, parts };
  }

  #idOf(value: Uint8Array, links: readonly Uint8Array[] = []): Uint8Array {
    return recordId(this.#record({ kind: 'whole', bytes: value }, links));
  }

  /** For its identity, which no signature is part of. */
  #record(value: DagRecord['value'], links: readonly Uint8Array[] = []): DagRecord {
    return {
      type: 'datum',
      shared: false,
      mask: 'none',
      timestamp: TIMESTAMP,
      owner: this.#owner,
      links: this.#linksOf(links).toSorted(Buffer.compare),
      selectors: [],
      value,
      claims: [],
      permit: { kind: 'none' },
      signature: new Uint8Array(64),
    };
  }

  #encode(value: Uint8Array, links: readonly Uint8Array[] = []): Uint8Array {
    const draft = { type: 'datum', timestamp: TIMESTAMP, names: [], value } as const;
    return encodeRecord(makeRecord({ ...draft, links: this.#linksOf(links) }, this.#seed, withoutPermit));
  }

  /** Equal parts are one record. */
  #linksOf(parts: readonly Uint8Array[]): Uint8Array[] {
    const once = new Map(parts.map((id) => [toHex(id), id]));
    return [this.#root, ...once.values()];
  }
}

/** The value of a record that has it. @throws GOSSIP_RECORD */
export function wholeValueOf({ value }: DagRecord): Uint8Array {
  if (value.kind === 'whole') return value.bytes;
  throw otherForm();
}

const otherForm = (): DstackError =>
  new DstackError('GOSSIP_RECORD', 'a record of gossip has the one form that its message gives it');

/** None for what fits into one value. */
function partsOf(bytes: Uint8Array): Uint8Array[] {
  if (bytes.length <= MAX_VALUE_BYTES) return [];
  return Array.from({ length: Math.ceil(bytes.length / MAX_VALUE_BYTES) }, (_, at) =>
    bytes.subarray(at * MAX_VALUE_BYTES, (at + 1) * MAX_VALUE_BYTES),
  );
}
