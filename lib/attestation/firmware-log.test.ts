/** The real log, its CCEL table and the registers of the same TD are Google's (testdata/attestation/README.md). */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, sha384, toHex, utf8 } from '../protocol/encoding.ts';
import { codeOf } from '../protocol/errors.ts';
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
import { simulatedMeasurement } from './simulated-measurement.ts';

const vector = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../../testdata/attestation/firmware-log/${name}`, import.meta.url)));
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

const anyEvent: fc.Arbitrary<FirmwareEvent> = fc.record({
  register: fc.constantFrom('mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'),
  type: fc.integer({ min: 4, max: 0xffff_ffff }),
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

test('whatever else is there, the parser ends with events or with its own error', () => {
  const outcome = (bytes: Uint8Array) => {
    try {
      parseFirmwareLog(bytes);
      return 'parsed';
    } catch (error) {
      return codeOf(error);
    }
  };
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4_000 }),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 4_000 }),
      (at, change, length) => {
        const bytes = REAL.slice(0, length);
        bytes.set(change.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
        expect(['parsed', 'FIRMWARE_LOG_FORMAT']).toContain(outcome(bytes));
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
