/**
 * Quotes through Linux's configfs-tsm: a new entry for each quote, report data into `inblob`, the quote out of `outblob`.
 *
 * Source: Documentation/ABI/testing/configfs-tsm-report; when the kernel returns which error: drivers/virt/coco/guest/report.c
 * and drivers/virt/coco/tdx-guest/tdx-guest.c. docs/attestor.md has the table.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_QUOTE_BYTES, parseQuote } from '../../lib/attestation/quote/quote.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import { errnoOf, type PlatformFiles } from './platform-files.ts';

/** configfs, where Linux has it. */
const REPORTS = '/sys/kernel/config/tsm/report';
/** One name is enough: quotes are taken one at a time, by one daemon. */
const ENTRY = `${REPORTS}/dstack-attestor`;
const PROVIDER = 'tdx_guest';
const REPORT_DATA_BYTES = 64;
const TEXT_BYTES = 4096;
/** However slow the machine is: a momentary failure must not be final. */
const LEAST_TRIES = 5;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;

/** What the kernel says about an entry or its files, and what that means here. */
const refusals: Readonly<Record<string, readonly [code: string, meaning: string]>> = {
  ENOENT: ['TSM_MISSING', 'the kernel has no configfs-tsm there: it is no TD, or its driver is not loaded'],
  ENXIO: ['TSM_NO_PROVIDER', 'no driver gives attestation reports'],
  EBUSY: [
    'TSM_BUSY',
    "the host has not finished an earlier quote: look at its quote generation service's log",
  ],
  EINTR: ['TSM_INTERRUPTED', 'the kernel was interrupted again and again'],
  EAGAIN: ['TSM_CONFLICT', 'somebody else keeps changing the entry'],
  ETIMEDOUT: ['TSM_TIMEOUT', "the host's quote generation service did not answer in time: is it running?"],
  EIO: ['TSM_FAILED', "the host's quote generation service refused, or the TDX module did"],
  EINVAL: ['TSM_REFUSED', 'the kernel did not get 64 bytes of report data'],
  EFBIG: ['TSM_TOO_LARGE', 'the report data or the quote is larger than the kernel takes'],
  ENOMEM: ['TSM_NO_MEMORY', 'the kernel has no memory for it'],
  EACCES: ['TSM_FORBIDDEN', 'this process may not use it'],
  EPERM: ['TSM_FORBIDDEN', 'this process may not use it'],
};
/** Worth another try: only the moment is wrong. */
const transient: readonly string[] = ['TSM_BUSY', 'TSM_INTERRUPTED', 'TSM_CONFLICT'];

/**
 * A function that takes a quote over 64 bytes of report data.
 *
 * @param within milliseconds during which a quote that is not available at the moment is tried again, at least five times
 * @throws (the function) TSM_ codes as above; TSM_PROVIDER when reports are another platform's; TSM_CONFLICT when something else
 *   writes to the entry; QUOTE_ codes and TSM_REPORT when the result is not a quote over this report data; PLATFORM_SILENT
 */
export function tsmReports(
  files: PlatformFiles,
  within: number,
): (reportData: Uint8Array) => Promise<Uint8Array> {
  let last: Promise<unknown> = Promise.resolve();
  return (reportData) => {
    const quote = last.then(() => quoteWithin(files, reportData, within));
    last = quote.catch(() => {});
    return quote;
  };
}

async function quoteWithin(
  files: PlatformFiles,
  reportData: Uint8Array,
  within: number,
): Promise<Uint8Array> {
  if (reportData.length !== REPORT_DATA_BYTES) {
    throw new DstackError('TSM_REFUSED', `report data has 64 bytes, not ${reportData.length}`);
  }
  const deadline = performance.now() + within;
  let pause = FIRST_PAUSE_MS;
  for (let tries = 1; ; tries++) {
    try {
      return await quoteOnce(files, reportData);
    } catch (error) {
      const again = transient.some((code) => hasCode(error, code));
      if (!again || (tries >= LEAST_TRIES && performance.now() + pause > deadline)) throw error;
    }
    await sleep(pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

async function quoteOnce(files: PlatformFiles, reportData: Uint8Array): Promise<Uint8Array> {
  await makeEntry(files);
  try {
    await requireProvider(files);
    const before = await readGeneration(files);
    await refused('inblob', files.write(`${ENTRY}/inblob`, reportData));
    const quote = await refused('outblob', files.read(`${ENTRY}/outblob`, MAX_QUOTE_BYTES));
    const after = await readGeneration(files);
    // Exactly one write, ours. The kernel does not say whether it accepted it; the generation does.
    if (after !== before + 1n) {
      throw new DstackError('TSM_CONFLICT', `the generation went from ${before} to ${after}, not by one`);
    }
    requireQuoteOf(quote, reportData);
    return quote;
  } finally {
    // Whatever is left behind is removed by the next quote.
    await files.removeFolder(ENTRY).catch(() => {});
  }
}

/** An entry that is there already, perhaps left by an earlier daemon, may be anyone's: it is removed and made anew. */
async function makeEntry(files: PlatformFiles): Promise<void> {
  try {
    await files.makeFolder(ENTRY);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') return await refused('the entry', Promise.reject(error));
    await refused('the earlier entry', files.removeFolder(ENTRY));
    await refused('the entry', files.makeFolder(ENTRY));
  }
}

async function requireProvider(files: PlatformFiles): Promise<void> {
  const provider = await readText(files, 'provider');
  if (provider !== PROVIDER) {
    throw new DstackError(
      'TSM_PROVIDER',
      `reports are of "${provider.slice(0, 64)}", and this image knows ${PROVIDER} only`,
    );
  }
}

async function readGeneration(files: PlatformFiles): Promise<bigint> {
  const text = await readText(files, 'generation');
  if (!/^\d{1,20}$/.test(text)) {
    throw new DstackError('TSM_CONFLICT', `the generation is "${text.slice(0, 64)}", which is no number`);
  }
  return BigInt(text);
}

/** One line, without its newline. */
async function readText(files: PlatformFiles, name: 'provider' | 'generation'): Promise<string> {
  const bytes = await refused(name, files.read(`${ENTRY}/${name}`, TEXT_BYTES));
  return Buffer.from(bytes).toString('latin1').replace(/\n$/, '');
}

/** The kernel passes on whatever the host returned, which may not be a quote, or be one over other data. */
function requireQuoteOf(bytes: Uint8Array, reportData: Uint8Array): void {
  const { body } = parseQuote(bytes);
  if (body.kind === 'sgx' || !bytesEqual(body.reportData, reportData)) {
    throw new DstackError('TSM_REPORT', 'the host answered with a quote of something else');
  }
}

/** `call`, with the kernel's refusal as a DstackError. */
async function refused<T>(what: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === undefined) throw cause;
    const [code, meaning] = refusals[errno] ?? ['TSM_ERROR', 'the kernel does not document this one'];
    throw new DstackError(code, `${what} of ${ENTRY}: ${errno}: ${meaning}`, { cause });
  }
}
