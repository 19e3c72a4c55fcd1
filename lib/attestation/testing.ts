/** Shared by the tests of this folder: the published quotes, and one simulated quote with what it should say. */
import { readFileSync } from 'node:fs';
import { sha256, sha512, utf8 } from '../protocol/encoding.ts';
import { expectedRequestLog, replay } from './event-log.ts';
import { measurementOf, simulatedRegisters } from './simulated-measurement.ts';
import { createSimulatedPlatform } from './simulated-platform.ts';
import { SIMULATED_ROOT } from './trust-roots.ts';
import type { Expectations } from './verify.ts';

const TESTDATA = new URL('../../testdata/attestation/', import.meta.url);

/** What testdata/attestation/quotes.json says of one quote. */
export interface PublishedQuote {
  name: string;
  tee: string;
  version: number;
  signed_end: number;
  fmspc: string;
  cpusvn: string;
  pcesvn: number;
  tee_tcb_svn: string;
  td_attributes: string;
  report_data: string;
  qe_isvsvn: number;
  debug: boolean;
  pck_not_before: string;
  pck_not_after: string;
  verify_at_unix: number | null;
}

export const PUBLISHED_QUOTES: PublishedQuote[] = JSON.parse(
  readFileSync(new URL('quotes.json', TESTDATA), 'utf8'),
);

export function readPublishedQuote({ name }: PublishedQuote): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`quotes/${name}.bin`, TESTDATA)));
}

export const TEST_PPID = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
export const TEST_CONFIG = sha256(utf8('a network.json'));

/** A quote of a simulated node that asks for the secret, and expectations that it meets. */
export function simulatedCase() {
  const image = simulatedRegisters({
    firmware: utf8('firmware'),
    kernel: utf8('kernel'),
    initramfs: utf8('initramfs'),
    commandLine: 'console=ttyS0 roothash=00',
    shape: { cpus: 2, memoryMiB: 2048 },
  });
  const rtmr3 = replay(expectedRequestLog('sim', TEST_CONFIG));
  const registers = { ...image, rtmr3 };
  const reportData = sha512(utf8('a statement'));
  const platform = createSimulatedPlatform({ ppid: TEST_PPID });
  const expected: Expectations = {
    trustRoot: SIMULATED_ROOT,
    now: new Date('2026-01-01T00:00:00Z'),
    reportData,
    rtmr3,
    measurement: measurementOf(image),
  };
  return { platform, registers, reportData, expected, quote: platform.signQuote({ registers, reportData }) };
}

/** `bytes` with one byte changed. */
export function flipped(bytes: Uint8Array, offset: number, mask = 0xff): Uint8Array {
  const copy = bytes.slice();
  copy[offset] = (copy[offset] ?? 0) ^ mask;
  return copy;
}
