/** Vectors computed with Python's hashlib from the rules as event-log.ts and simulated-measurement.ts state them. */
import { expect, test } from 'vitest';
import { sha256, toHex, utf8 } from '../../protocol/encoding.ts';
import { simulatedRegisters } from '../simulated/measurement.ts';
import { eventDigest, expectedJoinedLog, expectedRequestLog, replay } from './event-log.ts';
import { measurementOf } from './measurement.ts';
import { extendRegister, zeroRegister } from './rtmr.ts';

const CONFIG = sha256(utf8('{"version":1}'));
const BOOT = {
  firmware: utf8('firmware'),
  kernel: utf8('kernel'),
  initramfs: utf8('initramfs'),
  commandLine: 'console=ttyS0 roothash=00',
  shape: { cpus: 2, memoryMiB: 2048 },
};

test.each([
  [
    'flavour',
    utf8('sim'),
    'a75b8c0b383d0150dc8e8378b90ce84b009704148c1b5b9e6f661e6b82c8b113630b09687f16744230f5f1becbbce890',
  ],
  [
    'config',
    CONFIG,
    '06b9a2c53465fa073988441c05c3c70bf53b7366a878935481c66fc7ff994bb4d37dd3ad0fde5c2beffc26aef26d0ed4',
  ],
  [
    'joined',
    utf8(''),
    '68e40c4979d2b66c5224721e4b633db27a947721f24e97883c448cd9f38f363a3fb95bf12182101e31eadefd54926861',
  ],
] as const)('the digest of event %s', (name, bytes, digest) => {
  expect(toHex(eventDigest({ name, bytes }))).toBe(digest);
});

test.each([
  [
    'production',
    '9a5792c7a6078fa10858e0afaa4d18b7dc923fd6f1107e24224eb9a320af9f984afeec064e94695d3e27884e1da17df8',
    '53c90f7fb0799e56527445bc40bb4eba6d8431528c1484549f484d244544f0e9610eab7c143b4208b55420209133da35',
  ],
  [
    'sim',
    '4ceba2d92a6d771687d790397a2e4ec27fae0057897bdf64a5de365b7b4d13bfc2e1ed38ade6853421b0b3696ef0b0b6',
    '40045e642d710a9f738005b4c27d167c67ee98fb9d152bbd174176078203738857aff1e601d7e6ac45810375e508b698',
  ],
  [
    'dev',
    'c7ea129fe8df08e1c74fd8b8c8163a41f5269e345d7056817e97da719fa3add9d2fecbec48a8a739fab18b26cb3ddce5',
    '882e49ca5fb9562824b8da852eafb0523501f0aabffe55e6bb1dd6b7c666dbe13385c3764360fa3de332b0698be36102',
  ],
] as const)('RTMR3 of a %s node that asks, and of one that joined', (flavour, request, joined) => {
  expect(toHex(replay(expectedRequestLog(flavour, CONFIG)))).toBe(request);
  expect(toHex(replay(expectedJoinedLog(flavour, CONFIG)))).toBe(joined);
});

test('the registers and the measurement of a simulated boot', () => {
  const registers = simulatedRegisters(BOOT);
  expect(Object.values(registers).map(toHex)).toEqual([
    'bbf7209c1a756b2747bba45f37c0244e5d5e9d03231528d52223b7303d0d157a209a54370f245c3fedc3f3bd96795e95',
    '38f622a0e89e1b7f6a540ad0b634008c4534f93dee677054925aa7883336d205cffd356ebee88f269a5cd4d3b3b287cc',
    '1eeb6482aa8e9f78d63bfcc444355072a3fbcfa80a234dfe66e86de8fe768831fc5e909fd47f40c2f803b321778f52f8',
    '5f783d529ee54089756a2655ddb4005d1b8046a9f760294d05fb9f8df4dfa8315a81b13525904461def1a028bfbe7869',
  ]);
  expect(toHex(measurementOf(registers))).toBe(
    'b442a0b03ef2bc91564ab4499393b0b2b91914cc09ac120fab9c28e66368546d',
  );
});

test('every part of a boot is in the measurement', () => {
  const changes = [
    { firmware: utf8('firmwarE') },
    { kernel: utf8('kerneL') },
    { initramfs: utf8('initramfS') },
    { commandLine: `${BOOT.commandLine} ` },
    { shape: { cpus: 3, memoryMiB: 2048 } },
    { shape: { cpus: 2, memoryMiB: 2049 } },
    { initramfs: utf8(BOOT.commandLine), commandLine: 'initramfs' },
  ];
  const all = [{}, ...changes].map((change) =>
    toHex(measurementOf(simulatedRegisters({ ...BOOT, ...change }))),
  );
  expect(new Set(all).size).toBe(all.length);
});

test.each([
  { cpus: 0, memoryMiB: 1 },
  { cpus: 1.5, memoryMiB: 1 },
  { cpus: 1, memoryMiB: Number.NaN },
])('a shape that is none is refused: $cpus CPUs, $memoryMiB MiB', (shape) => {
  expect(() => simulatedRegisters({ ...BOOT, shape })).toThrow(
    expect.objectContaining({ code: 'SHAPE_INVALID' }),
  );
});

test('registers and digests have 48 bytes', () => {
  const wrong = expect.objectContaining({ code: 'REGISTER_LENGTH' });
  expect(() => extendRegister(zeroRegister(), new Uint8Array(32))).toThrow(wrong);
  expect(() => extendRegister(new Uint8Array(47), new Uint8Array(49))).toThrow(wrong);
  expect(() => measurementOf({ ...simulatedRegisters(BOOT), rtmr1: new Uint8Array(0) })).toThrow(wrong);
});
