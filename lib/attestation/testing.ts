/** Shared by the tests of this folder: the published quotes, and one simulated quote with what it should say. */
import { readFileSync } from 'node:fs';
import { sha256, sha512, toHex, utf8 } from '../protocol/encoding.ts';
import { SIMULATED_ROOT } from './certificates/trust-roots.ts';
import { type Collateral, parseCollateral } from './collateral/collateral.ts';
import { expectedRequestLog, replay } from './registers/event-log.ts';
import { measurementOf } from './registers/measurement.ts';
import { simulatedRegisters } from './simulated/measurement.ts';
import { createSimulatedPlatform, type SimulatedPlatformOptions } from './simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from './simulated/published.ts';
import type { Expectations } from './verify.ts';

const TESTDATA = new URL('../../testdata/attestation/', import.meta.url);

/** What testdata/attestation/expected.json says of one quote. */
export interface PublishedQuote {
  name: string;
  tee: string;
  version: number;
  signed_end: number;
  fmspc: string;
  cpusvn: string;
  pcesvn: number;
  tee_tcb_svn: string | null;
  tee_tcb_svn2: string | null;
  td_attributes: string | null;
  report_data: string;
  cert_data_type: number;
  qe_isvsvn: number;
  debug: boolean;
  sept_ve_disable: boolean | null;
  collateral: PublishedCollateral[];
}

export interface PublishedCollateral {
  file: string;
  valid_from: string;
  valid_to: string;
  verify_at_unix: number;
  tcb_eval_number: number;
  qe_eval_number: number;
  expected_status: string;
  level_status: string | null;
  tdx_module_status: string | null;
  qe_status: string;
  level_advisories: string[] | null;
  naive_16_component_status: string | null;
}

export const PUBLISHED_QUOTES: PublishedQuote[] = JSON.parse(
  readFileSync(new URL('expected.json', TESTDATA), 'utf8'),
);

export function publishedQuote(name: string): PublishedQuote {
  const found = PUBLISHED_QUOTES.find((quote) => quote.name === name);
  if (found === undefined) throw new Error(`no published quote ${name}`);
  return found;
}

export function readPublishedQuote({ name }: PublishedQuote): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`quotes/${name}.bin`, TESTDATA)));
}

export function readPublishedCollateral({ file }: PublishedCollateral): Collateral {
  return parseCollateral(readFileSync(new URL(`collateral/${file}`, TESTDATA), 'utf8'));
}

export const TEST_PPID = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
export const TEST_CONFIG = sha256(utf8('a network.json'));
export const TEST_NOW = new Date('2026-01-01T00:00:00Z');

/** A quote of a simulated node that asks for the secret, and expectations that it meets. */
export function simulatedCase(options: Partial<SimulatedPlatformOptions> = {}) {
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
  const platform = createSimulatedPlatform({ ppid: TEST_PPID, ...options });
  const expected: Expectations = {
    trustRoot: SIMULATED_ROOT,
    now: TEST_NOW,
    collateral: PUBLISHED_SIMULATED_COLLATERAL,
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

/** The code of the AttestationError that `attempt` ends in; ACCEPTED when it does not. Another error is thrown on. */
export function codeOfRefusal(attempt: () => unknown): string {
  try {
    attempt();
  } catch (error) {
    if (error instanceof Error && error.name === 'AttestationError' && 'code' in error)
      return String(error.code);
    throw error;
  }
  return 'ACCEPTED';
}

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** The other valid signature over the same statement: r ‖ n - s. */
export function otherS(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${toHex(signature.subarray(32))}`);
  const twin = signature.slice();
  twin.set(Buffer.from((P256_ORDER - s).toString(16).padStart(64, '0'), 'hex'), 32);
  return twin;
}
