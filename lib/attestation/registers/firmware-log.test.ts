/** The real log, its CCEL table and the registers of the same TD are Google's (testdata/attestation/README.md). */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, sha384, toHex, utf8 } from '../../protocol/encoding.ts';
import { codeOf } from '../../protocol/errors.ts';
import { simulatedMeasurement } from '../simulated/measurement.ts';
import {
  encodeCcel,
  encodeFirmwareLog,
  type FirmwareEvent,
  firmwareEvent,
  MAX_FIRMWARE_LOG_BYTES,
  parseCcel,
  parseFirmwareLog,
  replayFirmwareLog,
} from './firmware-log.ts';
import { extendRegister, zeroRegister } from './rtmr.ts';

const vector = (name: string) =>
  new Uint8Array(
    readFileSync(new URL(`../../../testdata/attestation/firmware-log/${name}`, import.meta.url)),
  );
const REAL = vector('cos-113.log.bin');
const TABLE = vector('cos-113.table.bin');
const REAL_REGISTERS = {
  rtmr0: '3fa2f61f395b7f5feefb4ec2df61297f109ad8abcd6410c1b7df60f21f37b19297fc35e544039c7e1edece752afd17f6',
  rtmr1: 'f62dbc072bd5d3f3438b7b35c39a727f5aea2ffc2473f43723953f530daf62504f0a7944aa62c41a86e8a878c2b122c1',
  rtmr2: '4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1',
};
const hex = (registers: object) =>
  Object.fromEntries(Object.entries(registers).map(([name, value]) => [name, toHex(value)]));

test("a real TD's log replays to its registers", () => {
  const events = parseFirmwareLog(REAL);
  expect(events).toHaveLength(43);
  expect(new Set(events.map(({ register }) => register))).toEqual(new Set(['rtmr0', 'rtmr1', 'rtmr2']));
  expect(hex(replayFirmwareLog(events))).toEqual(REAL_REGISTERS);
});

test.each([0x00, 0xff])('what fills the log area with %i is no event', (byte) => {
  const area = new Uint8Array(REAL.length + 100_000).fill(byte);
  area.set(REAL);
  expect(parseFirmwareLog(area)).toEqual(parseFirmwareLog(REAL));
  area[area.length - 1] = 1;
  expect(() => parseFirmwareLog(area)).toThrow(expect.objectContaining({ code: 'FIRMWARE_LOG_FORMAT' }));
});

test('an event more, less or changed makes other registers; MRTD and RTMR3 are not replayed', () => {
  const events = parseFirmwareLog(REAL);
  const [first, second, ...rest] = events;
  const differing = [
    [second!, ...rest],
    [first!, first!, second!, ...rest],
    [{ ...first!, digest: sha384(first!.digest) }, second!, ...rest],
    [{ ...first!, register: 'rtmr1' as const }, second!, ...rest],
  ];
  for (const other of differing) expect(hex(replayFirmwareLog(other))).not.toEqual(REAL_REGISTERS);
  const others = (['mrtd', 'rtmr3'] as const).map((register) =>
    firmwareEvent(register, 1, sha384(utf8('x')), ''),
  );
  expect(hex(replayFirmwareLog([...others, ...events]))).toEqual(REAL_REGISTERS);
});

/** One entry as it stands in a log, of any register index and type. */
function entry(index: number, type: number, digest: Uint8Array, data = new Uint8Array(0)): Buffer {
  const head = Buffer.alloc(14);
  head.writeUInt32LE(index, 0);
  head.writeUInt32LE(type, 4);
  head.writeUInt32LE(1, 8);
  head.writeUInt16LE(12, 12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(data.length);
  return Buffer.concat([head, digest, length, data]);
}
const concat = (parts: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(parts));
const START = encodeFirmwareLog([]);
const EXTENDED = sha384(utf8('x'));

test.each([0, 1, 4, 5, 23, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])(
  'an EV_NO_ACTION entry of index %i extends nothing, and what follows it still counts',
  (index) => {
    const log = concat([START, entry(index, 3, zeroRegister()), entry(1, 4, EXTENDED)]);
    const events = parseFirmwareLog(log);
    expect(events).toEqual([firmwareEvent('rtmr0', 4, EXTENDED, '')]);
    expect(replayFirmwareLog(events).rtmr0).toEqual(extendRegister(zeroRegister(), EXTENDED));
    expect(parseFirmwareLog(concat([log, Buffer.alloc(100, 0xff)]))).toEqual(events);
  },
);

test.each([0, 4])('an entry of index 0 and type %i is one of MRTD, not the end of the log', (type) => {
  const log = concat([START, entry(0, type, EXTENDED), entry(3, 5, EXTENDED)]);
  const events = parseFirmwareLog(log);
  expect(events.map(({ register }) => register)).toEqual(['mrtd', 'rtmr2']);
  expect(replayFirmwareLog(events).rtmr2).toEqual(extendRegister(zeroRegister(), EXTENDED));
});

test.each<[string, Buffer]>([
  ['ones', Buffer.alloc(64, 0xff)],
  ['zeroes', Buffer.alloc(64)],
  ['four ones', Buffer.alloc(4, 0xff)],
])('%s are the end only up to the end: an entry behind them is not passed over', (_, fill) => {
  const log = concat([START, fill, entry(1, 4, EXTENDED)]);
  expect(() => parseFirmwareLog(log)).toThrow(expect.objectContaining({ code: 'FIRMWARE_LOG_FORMAT' }));
});

test.each([0x00, 0xff])('fill of %i may be of any length, and may not change on the way', (byte) => {
  for (let length = 0; length < 80; length++) {
    expect(parseFirmwareLog(concat([START, Buffer.alloc(length, byte)]))).toEqual([]);
  }
  const mixed = concat([START, Buffer.alloc(8, byte), Buffer.alloc(8, 0xff - byte)]);
  expect(() => parseFirmwareLog(mixed)).toThrow(expect.objectContaining({ code: 'FIRMWARE_LOG_FORMAT' }));
});

function outcomeOf(bytes: Uint8Array): FirmwareEvent[] | string {
  try {
    return parseFirmwareLog(bytes);
  } catch (error) {
    return codeOf(error);
  }
}

const recorded = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../../../testdata/measurement/${name}`, import.meta.url)));
const RECORDED = [REAL, recorded('ccel-2gib.bin'), recorded('ccel-gcp.bin')];

test('every recorded log is read whole, and what is written of it reads the same', () => {
  for (const log of RECORDED) {
    const events = parseFirmwareLog(log);
    expect(events.length).toBeGreaterThan(15);
    expect(events.every(({ type }) => type !== 3)).toBe(true);
    expect(parseFirmwareLog(encodeFirmwareLog(events))).toEqual(events);
    // Cut anywhere, it gives the entries before the cut, or none at all.
    for (let length = 0; length < log.length; length += 7) {
      const cut = outcomeOf(log.subarray(0, length));
      if (typeof cut === 'string') expect(cut).toBe('FIRMWARE_LOG_FORMAT');
      else expect(cut).toEqual(events.slice(0, cut.length));
    }
  }
});

const anyEvent: fc.Arbitrary<FirmwareEvent> = fc.record({
  register: fc.constantFrom('mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'),
  type: fc.integer({ min: 0, max: 0xffff_ffff }).filter((type) => type !== 3),
  digest: fc.uint8Array({ minLength: 48, maxLength: 48 }),
  data: fc.uint8Array({ maxLength: 40 }),
});

test('what is encoded parses to the same', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 6 }), (events) => {
      expect(parseFirmwareLog(encodeFirmwareLog(events))).toEqual(events);
    }),
  );
});

test('entries that extend nothing may stand anywhere, of any index; fill ends the log; the rest is the rest', () => {
  const uint32 = fc.oneof(fc.constantFrom(0, 0xffff_ffff), fc.integer({ min: 0, max: 0xffff_ffff }));
  const inert = fc.record({ index: uint32, data: fc.uint8Array({ maxLength: 40 }) });
  fc.assert(
    fc.property(
      fc.array(fc.oneof(anyEvent, inert), { maxLength: 20 }),
      fc.constantFrom(0, 0xff),
      fc.nat({ max: 100 }),
      (items, byte, length) => {
        const parts = items.map((item) =>
          'index' in item
            ? entry(item.index, 3, zeroRegister(), item.data)
            : Buffer.from(encodeFirmwareLog([item])).subarray(START.length),
        );
        const log = concat([START, ...parts, Buffer.alloc(length, byte)]);
        expect(parseFirmwareLog(log)).toEqual(items.filter((item) => 'register' in item));
      },
    ),
    { numRuns: 300 },
  );
});

test('whatever else is there, the parser ends with events or with its own error', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4_000 }),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 40_000 }),
      fc.constantFrom(...RECORDED),
      (at, change, length, log) => {
        const bytes = log.slice(0, length);
        bytes.set(change.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
        const outcome = outcomeOf(bytes);
        if (typeof outcome === 'string') expect(outcome).toBe('FIRMWARE_LOG_FORMAT');
      },
    ),
    { numRuns: 500 },
  );
});

/** The real log with these bytes written over it. */
const altered = (at: number, bytes: string) => {
  const log = REAL.slice();
  log.set(fromHex(bytes), at);
  return log;
};
const FIRST_EVENT = 32 + 0x21;

test.each<[string, Uint8Array, RegExp]>([
  ['nothing', new Uint8Array(0), /ends at byte 0/],
  ['fill alone', new Uint8Array(100).fill(0xff), /no Spec ID event/],
  ['no Spec ID event', altered(4, '04000000'), /no Spec ID event/],
  ['a Spec ID event of another version', altered(32 + 14, '32'), /version 03/],
  ['a thousand algorithms', altered(32 + 24, 'e8030000'), /1000 digest algorithms/],
  ['no SHA-384', altered(32 + 28, '0b00'), /no SHA-384 digests/],
  ['SHA-384 of 32 bytes', altered(32 + 30, '2000'), /no SHA-384 digests/],
  ['a sixth register', altered(FIRST_EVENT, '05000000'), /no measurement register 5/],
  ['an event without digest', altered(FIRST_EVENT + 8, '00000000'), /event/],
  ['a digest of another algorithm', altered(FIRST_EVENT + 12, '0b00'), /unannounced algorithm 11/],
  ['an event of 4 GiB', altered(FIRST_EVENT + 62, 'ffffffff'), /ends at byte/],
  ['more bytes than any log area', new Uint8Array(MAX_FIRMWARE_LOG_BYTES + 1), /more than 1048576/],
  [
    'more events than any firmware has',
    encodeFirmwareLog(Array.from({ length: 4_097 }, () => firmwareEvent('rtmr0', 4, zeroRegister(), ''))),
    /more than 4096 events/,
  ],
])('%s is refused', (_, log, why) => {
  expect(() => parseFirmwareLog(log)).toThrow(why);
  expect(() => parseFirmwareLog(log)).toThrow(expect.objectContaining({ code: 'FIRMWARE_LOG_FORMAT' }));
});

test('the CCEL table: a real one, ours, and none', () => {
  expect(parseCcel(TABLE)).toEqual({ logLength: 262_144, logAddress: 0xbedb_f000 });
  const ours = { logLength: 4096, logAddress: 0x7f00_0000 };
  expect(parseCcel(encodeCcel(ours))).toEqual(ours);
  const changed = (at: number, value: number) => {
    const table = TABLE.slice();
    table[at] = value;
    return table;
  };
  for (const table of [
    new Uint8Array(0),
    TABLE.subarray(0, 55),
    changed(0, 0x44),
    changed(4, 57),
    changed(9, 0),
    changed(36, 1),
    changed(50, 1),
  ]) {
    expect(() => parseCcel(table)).toThrow(expect.objectContaining({ code: 'CCEL_FORMAT' }));
  }
});

test("the simulated platform's log leads to its registers", () => {
  const { registers, events } = simulatedMeasurement({
    firmware: utf8('firmware'),
    kernel: utf8('kernel'),
    initramfs: utf8('initramfs'),
    commandLine: 'console=ttyS0',
    shape: { cpus: 2, memoryMiB: 2048 },
  });
  const parsed = parseFirmwareLog(encodeFirmwareLog(events));
  expect({ mrtd: registers.mrtd, ...replayFirmwareLog(parsed) }).toEqual(registers);
  expect(registers.rtmr1).toEqual(extendRegister(zeroRegister(), sha384(utf8('kernel'))));
  expect(Buffer.from(parsed[3]!.data).toString()).toBe('console=ttyS0');
});
