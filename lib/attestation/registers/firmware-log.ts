/**
 * The firmware's event log: what RTMR0 to RTMR2 were extended with before the guest's first own instruction, as TDVF and the
 * kernel's EFI stub recorded it. Replayed, it must give the registers; what is in it is then as true as they are.
 *
 * Sources: TCG PC Client Platform Firmware Profile 1.06, section 10 (TCG_PCR_EVENT, TCG_PCR_EVENT2, Spec ID event); ACPI 6.5,
 * section 5.2.34 (CCEL table); Intel TDVF Design Guide, section 8 (measurement register index 0 is MRTD, 1 to 4 are RTMR0 to
 * RTMR3). Integers are little-endian. The log area is larger than the log: what follows the last event is all 0x00 or all 0xFF,
 * up to the area's end; bytes like those in front of other entries end nothing. An EV_NO_ACTION entry extends nothing, whatever
 * its index is, and 0xFFFFFFFF is usual. An entry of index 0 is one of MRTD: it is kept, and no RTMR's replay has it.
 *
 * This is the only reader of such logs: what a guest shows of its own, and what `image measure` compares, is read by it.
 */
import { utf8 } from '../../protocol/encoding.ts';
import { ByteReader } from '../bytes/byte-reader.ts';
import { uint16, uint32 } from '../bytes/little-endian.ts';
import { AttestationError } from '../errors.ts';
import { extendRegister, REGISTER_BYTES, zeroRegister } from './rtmr.ts';

/** The largest log area accepted; TDVF's is 64 KiB, Google's 256. */
export const MAX_FIRMWARE_LOG_BYTES = 2 ** 20;
/** Length of a CCEL table. */
export const CCEL_BYTES = 56;

const MAX_EVENTS = 4096;
const MAX_ALGORITHMS = 8;
const SHA384 = 0x000c;
const EV_NO_ACTION = 3;
const SPEC_ID = 'Spec ID Event03\0';
const CC_TYPE_TDX = 2;

/** One event. Byte fields of a parsed one are views of the log. */
export interface FirmwareEvent {
  readonly register: 'mrtd' | 'rtmr0' | 'rtmr1' | 'rtmr2' | 'rtmr3';
  /** TCG event type. */
  readonly type: number;
  /** SHA-384: what extended the register. */
  readonly digest: Uint8Array;
  /** What was measured, or a description of it: as its type says. Not checked against the digest. */
  readonly data: Uint8Array;
}

/** The registers that a log leads to; 48 bytes each. */
export interface FirmwareRegisters {
  readonly rtmr0: Uint8Array;
  readonly rtmr1: Uint8Array;
  readonly rtmr2: Uint8Array;
}

const registerNames = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'] as const;

/**
 * The events of a log area, in order, without those that extend nothing.
 * @throws AttestationError FIRMWARE_LOG_FORMAT
 */
export function parseFirmwareLog(bytes: Uint8Array): FirmwareEvent[] {
  if (bytes.length > MAX_FIRMWARE_LOG_BYTES) {
    throw formatError(`it has ${bytes.length} bytes, more than ${MAX_FIRMWARE_LOG_BYTES}`);
  }
  const reader = new ByteReader(bytes, 'the firmware log', 'FIRMWARE_LOG_FORMAT');
  const digestLengths = parseSpecId(reader);
  const events: FirmwareEvent[] = [];
  for (let read = 0; !isFill(reader.rest()); read++) {
    if (read === MAX_EVENTS) throw formatError(`it has more than ${MAX_EVENTS} events`);
    const event = parseEvent(reader, digestLengths);
    if (event !== undefined) events.push(event);
  }
  return events;
}

/** RTMR0 to RTMR2 after exactly these events from zero. */
export function replayFirmwareLog(events: readonly FirmwareEvent[]): FirmwareRegisters {
  const replay = (name: FirmwareEvent['register']) =>
    events
      .filter(({ register }) => register === name)
      .reduce((value, { digest }) => extendRegister(value, digest), zeroRegister());
  return { rtmr0: replay('rtmr0'), rtmr1: replay('rtmr1'), rtmr2: replay('rtmr2') };
}

/** A log area of exactly these events, without fill. The inverse of `parseFirmwareLog`. */
export function encodeFirmwareLog(events: readonly FirmwareEvent[]): Uint8Array {
  const specId = [
    Buffer.from(SPEC_ID, 'latin1'),
    uint32(0), // platform class
    Buffer.from([0, 2, 0, 2]), // minor, major, errata, uintn size
    uint32(1),
    uint16(SHA384),
    uint16(REGISTER_BYTES),
    Buffer.from([0]), // vendor info
  ];
  const specIdLength = specId.reduce((sum, part) => sum + part.length, 0);
  const header = [uint32(1), uint32(EV_NO_ACTION), Buffer.alloc(20), uint32(specIdLength), ...specId];
  const encoded = events.flatMap(({ register, type, digest, data }) => [
    ...[uint32(registerNames.indexOf(register)), uint32(type), uint32(1), uint16(SHA384), digest],
    ...[uint32(data.length), data],
  ]);
  return new Uint8Array(Buffer.concat([...header, ...encoded]));
}

/** An event that names what was measured in words. */
export function firmwareEvent(
  register: FirmwareEvent['register'],
  type: number,
  digest: Uint8Array,
  description: string,
): FirmwareEvent {
  return { register, type, digest, data: utf8(description) };
}

/** What a CCEL table says: where the log area is in the guest's memory, and its length in bytes. */
export interface Ccel {
  readonly logLength: number;
  readonly logAddress: number;
}

/** @throws AttestationError CCEL_FORMAT unless it is a CCEL table of a TD, with a right checksum. */
export function parseCcel(table: Uint8Array): Ccel {
  const bytes = Buffer.from(table.buffer, table.byteOffset, table.byteLength);
  const refuse = (why: string) => new AttestationError('CCEL_FORMAT', `not a CCEL table of a TD: ${why}`);
  if (bytes.length !== CCEL_BYTES || bytes.readUInt32LE(4) !== CCEL_BYTES) {
    throw refuse(`it must have ${CCEL_BYTES} bytes, not ${bytes.length}`);
  }
  if (bytes.toString('latin1', 0, 4) !== 'CCEL') throw refuse('its signature is another');
  if (sum(bytes) !== 0) throw refuse('its checksum is wrong');
  if (bytes[36] !== CC_TYPE_TDX) throw refuse(`it is of confidential computing type ${bytes[36]}, not 2`);
  return {
    logLength: Number(bytes.readBigUInt64LE(40)),
    logAddress: Number(bytes.readBigUInt64LE(48)),
  };
}

/** The inverse of `parseCcel`. */
export function encodeCcel({ logLength, logAddress }: Ccel): Uint8Array {
  const table = Buffer.alloc(CCEL_BYTES);
  table.write('CCEL', 0, 'latin1');
  table.writeUInt32LE(CCEL_BYTES, 4);
  table[8] = 1; // revision
  table.write('DSTACKSIMULATE', 10, 'latin1'); // OEM id and OEM table id
  table[36] = CC_TYPE_TDX;
  table.writeBigUInt64LE(BigInt(logLength), 40);
  table.writeBigUInt64LE(BigInt(logAddress), 48);
  table[9] = (256 - sum(table)) % 256;
  return new Uint8Array(table);
}

/** The first event, which has the older form; it says which digests the others have. Lengths by algorithm. */
function parseSpecId(reader: ByteReader): ReadonlyMap<number, number> {
  reader.take(4, 'register index of the first event');
  if (reader.uint32('type of the first event') !== EV_NO_ACTION) throw formatError('it has no Spec ID event');
  reader.take(20, 'digest of the first event');
  const body = reader.take(reader.uint32('length of the Spec ID event'), 'Spec ID event');
  const spec = new ByteReader(body, 'the Spec ID event', 'FIRMWARE_LOG_FORMAT');
  if (Buffer.from(spec.take(16, 'signature')).toString('latin1') !== SPEC_ID) {
    throw formatError('it has no Spec ID event of version 03');
  }
  spec.take(8, 'platform class and version');
  const count = spec.uint32('number of algorithms');
  if (count > MAX_ALGORITHMS) throw formatError(`it has ${count} digest algorithms`);
  const lengths = new Map<number, number>();
  for (let index = 0; index < count; index++) {
    lengths.set(spec.uint16('algorithm'), spec.uint16('digest length'));
  }
  if (lengths.get(SHA384) !== REGISTER_BYTES) throw formatError('it has no SHA-384 digests');
  const [vendorInfo = 0] = spec.take(1, 'length of vendor info');
  spec.take(vendorInfo, 'vendor info');
  spec.end();
  return lengths;
}

/** The next entry; undefined when it extends nothing. */
function parseEvent(
  reader: ByteReader,
  digestLengths: ReadonlyMap<number, number>,
): FirmwareEvent | undefined {
  const index = reader.uint32('register index');
  const type = reader.uint32('event type');
  const register = registerNames[index];
  if (register === undefined && type !== EV_NO_ACTION) {
    throw formatError(`there is no measurement register ${index}`);
  }
  const digest = parseDigests(reader, digestLengths);
  const data = reader.take(reader.uint32('length of an event'), 'event');
  if (type === EV_NO_ACTION || register === undefined) return undefined;
  if (digest === undefined) throw formatError('an event has no SHA-384 digest');
  return { register, type, digest, data };
}

/** The SHA-384 digest among those of an entry. */
function parseDigests(reader: ByteReader, lengths: ReadonlyMap<number, number>): Uint8Array | undefined {
  const count = reader.uint32('number of digests');
  if (count > MAX_ALGORITHMS) throw formatError(`an event has ${count} digests`);
  let digest: Uint8Array | undefined;
  for (let at = 0; at < count; at++) {
    const algorithm = reader.uint16('digest algorithm');
    const length = lengths.get(algorithm);
    if (length === undefined)
      throw formatError(`an event has a digest of unannounced algorithm ${algorithm}`);
    const value = reader.take(length, 'digest');
    if (algorithm !== SHA384) continue;
    if (digest !== undefined) throw formatError('an event has two SHA-384 digests');
    digest = value;
  }
  return digest;
}

function isFill(rest: Uint8Array): boolean {
  const [first] = rest;
  return first === undefined || ((first === 0 || first === 0xff) && rest.every((byte) => byte === first));
}

function formatError(why: string): AttestationError {
  return new AttestationError('FIRMWARE_LOG_FORMAT', `not a firmware event log: ${why}`);
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) % 256, 0);
}
