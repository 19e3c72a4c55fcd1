/**
 * One contestant of the attestation benchmark: `node attestation-worker.ts NAME [INDEXES]` prints its Measurement as JSON;
 * `node attestation-worker.ts agree` prints which of the published pairs the peer accepts with the status that we find.
 */
import { readFileSync } from 'node:fs';
import { INTEL_ROOT } from '../lib/attestation/certificates/trust-roots.ts';
import { collateralOf } from '../lib/attestation/collateral/collateral.ts';
import { judgeQuote } from '../lib/attestation/judge.ts';
import { createMemory } from '../lib/attestation/memory.ts';
import { printJson } from '../lib/daemon/terminal.ts';

export type Contestant = 'dcap-qvl' | 'cold' | 'cached' | 'empty';

export interface Measurement {
  /** How many pairs of quote and collateral each pass goes through. */
  quotes: number;
  /** In the process's CPU time, all threads, so that other work on the machine does not count. */
  perSecond: number;
  peakMegabytes: number;
}

const WARM_UP_MS = 1_000;
const MEASURE_MS = 5_000;
const PASS_MS = 250;
const TESTDATA = new URL('../testdata/attestation/', import.meta.url);

interface Pair {
  quote: Buffer;
  /** As JSON.parse gives it. */
  collateral: Record<string, string>;
  seconds: number;
  status: string;
}

function pairs(): Pair[] {
  const expected = JSON.parse(readFileSync(new URL('expected.json', TESTDATA), 'utf8')) as {
    name: string;
    collateral: { file: string; verify_at_unix: number; expected_status: string }[];
  }[];
  const files = new Map<string, Record<string, string>>();
  const read = (file: string) => {
    const known = files.get(file);
    if (known !== undefined) return known;
    const collateral = JSON.parse(readFileSync(new URL(`collateral/${file}`, TESTDATA), 'utf8'));
    files.set(file, collateral);
    return collateral as Record<string, string>;
  };
  return expected.flatMap(({ name, collateral }) =>
    collateral
      .filter(({ expected_status: status }) => !status.startsWith('ERR'))
      .map(({ file, verify_at_unix: seconds, expected_status: status }) => ({
        quote: readFileSync(new URL(`quotes/${name}.bin`, TESTDATA)),
        collateral: read(file),
        seconds,
        status,
      })),
  );
}

/** What one contestant does with one pair: the status it finds, or nothing when it refuses. */
async function contender(name: Contestant): Promise<(pair: Pair) => string | undefined> {
  if (name === 'dcap-qvl') {
    const peer = await import('@phala/dcap-qvl');
    return ({ quote, collateral, seconds }) => {
      try {
        return peer.verify(quote, collateral as never, seconds).status;
      } catch {
        return undefined;
      }
    };
  }
  if (name === 'cold') {
    return ({ quote, collateral, seconds }) => {
      const now = new Date(seconds * 1000);
      const { status } = judgeQuote(quote, {
        trustRoot: INTEL_ROOT,
        now,
        collateral: collateralOf(collateral),
      });
      return status ?? undefined;
    };
  }
  const memory = createMemory(INTEL_ROOT);
  const read = new Map<unknown, ReturnType<typeof collateralOf>>();
  return ({ quote, collateral: fields, seconds }) => {
    const collateral = read.get(fields) ?? collateralOf(fields);
    read.set(fields, collateral);
    const now = new Date(seconds * 1000);
    return judgeQuote(quote, { trustRoot: INTEL_ROOT, now, collateral, memory }).status ?? undefined;
  };
}

/**
 * Goes through all pairs repeatedly for a while. Returns how many it did per second of CPU time in the best pass: whatever else
 * uses the machine's cores and caches can only make a pass slower.
 */
function go(all: readonly Pair[], verify: (pair: Pair) => unknown, milliseconds: number): number {
  let best = 0;
  const end = performance.now() + milliseconds;
  do {
    const start = process.cpuUsage();
    let count = 0;
    // Long enough for the clock's resolution, and for garbage to be collected in each pass.
    for (const until = performance.now() + PASS_MS; performance.now() < until; count += all.length) {
      for (const pair of all) verify(pair);
    }
    const { user, system } = process.cpuUsage(start);
    best = Math.max(best, (count * 1e6) / (user + system));
  } while (performance.now() < end);
  return best;
}

async function measure(name: Contestant, indexes: readonly number[]): Promise<Measurement> {
  if (name === 'empty') return { quotes: 0, perSecond: 0, peakMegabytes: peakMegabytes() };
  const verify = await contender(name);
  const all = pairs().filter((_, index) => indexes.includes(index));
  for (const pair of all) {
    const status = verify(pair);
    if (status !== pair.status)
      throw new Error(`${name} says ${status}, not ${pair.status}: nothing to compare`);
  }
  go(all, verify, WARM_UP_MS);
  const perSecond = go(all, verify, MEASURE_MS);
  return { quotes: all.length, perSecond, peakMegabytes: peakMegabytes() };
}

async function agreed(): Promise<number[]> {
  const verify = await contender('dcap-qvl');
  return pairs().flatMap((pair, index) => (verify(pair) === pair.status ? [index] : []));
}

function peakMegabytes(): number {
  return process.resourceUsage().maxRSS / 1024;
}

const [name, indexes = '[]'] = process.argv.slice(2);
const answer =
  name === 'agree' ? await agreed() : await measure(name as Contestant, JSON.parse(indexes) as number[]);
printJson(answer);
