/**
 * What nodes say to each other once they are connected, as bytes: version, kind, and what belongs to it. Integers are big-endian; each
 * message has one encoding, and says nothing more. docs/records.md has the table.
 */
import { fromHex, toHex, utf8 } from '../../encoding.ts';
import { DstackError } from '../../errors.ts';
import { ID_BYTES } from '../format.ts';
import { decodePulse, encodePulse, PULSE_BYTES, type Pulse } from '../pulse.ts';

export const MESSAGE_VERSION = 1;
/** No message is larger; the largest record fits with its length. */
export const MAX_MESSAGE_BYTES = 131_072;
/** Of one message. */
export const MAX_IDS = 1024;
/** Of one message: each costs a signature. */
export const MAX_PULSES = 128;
/** What is asked, and what of it may wait for its answer at once. */
export const MAX_ASK_BYTES = 512;
export const MAX_ASKS = 32;
/** 256 of 8 bytes. */
const PULSE_DIGESTS_BYTES = 2048;
const CODE = /^[A-Z][A-Z_]{0,47}$/;

export type Message =
  /** The first of each side. @property features bits; those that are not known mean nothing */
  | { readonly kind: 'hello'; readonly network: string; readonly features: number }
  /** Of negentropy (ranges.ts), by the side that began. @property session of that side's own count */
  | { readonly kind: 'question'; readonly session: number; readonly ranges: Uint8Array }
  | { readonly kind: 'answer'; readonly session: number; readonly ranges: Uint8Array }
  /** No further question of this session. */
  | { readonly kind: 'end'; readonly session: number }
  /** Asks for records, by identity in hex. */
  | { readonly kind: 'want'; readonly ids: readonly string[] }
  /** Records that were asked for. */
  | { readonly kind: 'records'; readonly records: readonly Uint8Array[] }
  /** What was asked for and is not here. */
  | { readonly kind: 'lack'; readonly ids: readonly string[] }
  /** Members that the other side may not have. */
  | { readonly kind: 'announce'; readonly ids: readonly string[] }
  /** Of records that are members. */
  | { readonly kind: 'pulses'; readonly pulses: readonly Pulse[] }
  /** Digests of all pulses that are here, by the first byte of their records: the other side gives what is not. */
  | { readonly kind: 'pulse-digests'; readonly digests: Uint8Array }
  /** Asks for what is no record, in words of whoever uses the wire. @property number of the asking side's own count */
  | { readonly kind: 'ask'; readonly number: number; readonly what: Uint8Array }
  /** What was asked for; empty for what is not here. */
  | { readonly kind: 'tell'; readonly number: number; readonly what: Uint8Array }
  /** Why the connection ends. */
  | { readonly kind: 'refuse'; readonly code: string };

const NUMBERS: Readonly<Record<Message['kind'], number>> = {
  hello: 1,
  question: 2,
  answer: 3,
  end: 4,
  want: 5,
  records: 6,
  lack: 7,
  announce: 8,
  refuse: 9,
  pulses: 10,
  'pulse-digests': 11,
  ask: 12,
  tell: 13,
};
const KINDS = new Map(Object.entries(NUMBERS).map(([kind, number]) => [number, kind as Message['kind']]));

/** @throws SYNC_SIZE for what is larger than a message may be */
export function encodeMessage(message: Message): Uint8Array {
  const bytes = Buffer.concat([
    Uint8Array.of(MESSAGE_VERSION, NUMBERS[message.kind]),
    ...contentsOf(message),
  ]);
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw new DstackError(
      'SYNC_SIZE',
      `a message has up to ${MAX_MESSAGE_BYTES} bytes, not ${bytes.length}; divide it`,
    );
  }
  return new Uint8Array(bytes);
}

/** What a record takes in a message. */
export const sizeInMessage = (record: Uint8Array): number => 4 + record.length;

/**
 * @throws SYNC_SIZE, SYNC_VERSION, SYNC_KIND, SYNC_TRUNCATED, SYNC_TRAILING; SYNC_COUNT for no identities or records, or too many; SYNC_CODE
 */
export function decodeMessage(bytes: Uint8Array): Message {
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw new DstackError('SYNC_SIZE', `a message has up to ${MAX_MESSAGE_BYTES} bytes, not ${bytes.length}`);
  }
  const reader = new MessageReader(bytes);
  const version = reader.number(1);
  if (version !== MESSAGE_VERSION) {
    throw new DstackError(
      'SYNC_VERSION',
      `a message of version ${version}; ${MESSAGE_VERSION} is known here`,
    );
  }
  const number = reader.number(1);
  const kind = KINDS.get(number);
  if (kind === undefined) throw new DstackError('SYNC_KIND', `there is no message ${number}`);
  const message = readContents(kind, reader);
  reader.end();
  return message;
}

function contentsOf(message: Message): Uint8Array[] {
  switch (message.kind) {
    case 'hello':
      return [fromHex(message.network, ID_BYTES), uint(message.features, 4)];
    case 'question':
    case 'answer':
      return [uint(message.session, 4), message.ranges];
    case 'end':
      return [uint(message.session, 4)];
    case 'records':
      return message.records.flatMap((record) => [uint(record.length, 4), record]);
    case 'pulses':
      return message.pulses.map(encodePulse);
    case 'pulse-digests':
      return [message.digests];
    case 'ask':
    case 'tell':
      return [uint(message.number, 4), message.what];
    case 'refuse':
      return [utf8(message.code)];
    case 'want':
    case 'lack':
    case 'announce':
      return message.ids.map((id) => fromHex(id, ID_BYTES));
  }
}

function readContents(kind: Message['kind'], reader: MessageReader): Message {
  switch (kind) {
    case 'hello':
      return { kind, network: toHex(reader.take(ID_BYTES)), features: reader.number(4) };
    case 'question':
    case 'answer':
      return { kind, session: reader.number(4), ranges: reader.rest() };
    case 'end':
      return { kind, session: reader.number(4) };
    case 'records':
      return { kind, records: reader.some(() => reader.take(reader.number(4))) };
    case 'pulses':
      return { kind, pulses: reader.some(() => decodePulse(reader.take(PULSE_BYTES)), MAX_PULSES) };
    case 'pulse-digests':
      return { kind, digests: reader.take(PULSE_DIGESTS_BYTES) };
    case 'ask':
      return { kind, number: reader.number(4), what: reader.upTo(MAX_ASK_BYTES) };
    case 'tell':
      return { kind, number: reader.number(4), what: reader.rest() };
    case 'refuse':
      return { kind, code: codeIn(reader.rest()) };
    case 'want':
    case 'lack':
    case 'announce':
      return { kind, ids: reader.some(() => toHex(reader.take(ID_BYTES))) };
  }
}

/** It is shown to people: nothing but a code passes. */
function codeIn(bytes: Uint8Array): string {
  const code = Buffer.from(bytes).toString('latin1');
  if (CODE.test(code)) return code;
  throw new DstackError('SYNC_CODE', 'a refusal has a code of up to 48 capital letters and underscores');
}

class MessageReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  number(length: 1 | 4): number {
    const part = this.take(length);
    return Buffer.from(part).readUIntBE(0, length);
  }

  /** Shares the message's memory. */
  take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length)
      throw new DstackError('SYNC_TRUNCATED', 'a message ends too early; send the whole');
    const part = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }

  rest(): Uint8Array {
    return this.take(this.#bytes.length - this.#offset);
  }

  /** All that follows. @throws SYNC_SIZE */
  upTo(most: number): Uint8Array {
    const length = this.#bytes.length - this.#offset;
    if (length > most)
      throw new DstackError('SYNC_SIZE', `what is asked has up to ${most} bytes, not ${length}`);
    return this.take(length);
  }

  /** All that follow, one at least. */
  some<T>(one: () => T, most = MAX_IDS): T[] {
    const all: T[] = [];
    do {
      if (all.length === most)
        throw new DstackError('SYNC_COUNT', `a message has up to ${most} of them; divide it`);
      all.push(one());
    } while (this.#offset < this.#bytes.length);
    return all;
  }

  end(): void {
    if (this.#offset < this.#bytes.length) {
      throw new DstackError('SYNC_TRAILING', 'there are bytes after the end of a message; send one alone');
    }
  }
}

function uint(value: number, length: 1 | 4): Uint8Array {
  const bytes = Buffer.alloc(length);
  bytes.writeUIntBE(value, 0, length);
  return bytes;
}
