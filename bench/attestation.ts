/**
 * Quotes verified per second of CPU time: ours and @phala/dcap-qvl, in the same run over the same published quotes and
 * collateral: all that both accept with the same status (the peer refuses debug TDs and some others). Each contestant has
 * a process of its own, so that its peak memory is its own; they take turns. The ratio is computed within each round, and the
 * median of the rounds counts, so that a machine that is busy in some rounds and idle in others does not decide the result.
 *
 * cold: only the trust root is known beforehand. Collateral is a parsed JSON object for both.
 * cached: this verifier has seen the platform's collateral and certificates before. The peer keeps nothing.
 */
import { execFile } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { print, printError, printJson } from '../lib/daemon/terminal.ts';
import type { Contestant, Measurement } from './attestation-worker.ts';

const ROUNDS = 5;
const WORKER = fileURLToPath(new URL('attestation-worker.ts', import.meta.url));
const CONTESTANTS: readonly Contestant[] = ['dcap-qvl', 'cold', 'cached', 'empty'];
const TITLES: Readonly<Record<Contestant, string>> = {
  'dcap-qvl': '@phala/dcap-qvl',
  cold: 'ours, cold',
  cached: 'ours, cached',
  empty: '(node, nothing loaded)',
};

export async function benchAttestation(): Promise<void> {
  const indexes = await worker('agree');
  const results = new Map<Contestant, Measurement[]>();
  for (let round = 1; round <= ROUNDS; round++) {
    for (const contestant of CONTESTANTS) {
      printError(`round ${round} of ${ROUNDS}: ${TITLES[contestant]}`);
      const measurement = JSON.parse(await worker(contestant, indexes)) as Measurement;
      results.set(contestant, [...(results.get(contestant) ?? []), measurement]);
    }
  }
  const rate = (contestant: Contestant) => median(results.get(contestant), ({ perSecond }) => perSecond);
  const ratiosOf = (contestant: Contestant) =>
    (results.get(contestant) ?? []).map(
      ({ perSecond }, round) => perSecond / (results.get('dcap-qvl')?.[round]?.perSecond ?? Number.NaN),
    );
  const times = (contestant: Contestant) => {
    const ratios = ratiosOf(contestant);
    return `${median(ratios, (ratio) => ratio).toFixed(1)}x (${Math.min(...ratios).toFixed(1)} to ${Math.max(...ratios).toFixed(1)})`;
  };
  const lines = CONTESTANTS.map((contestant) => {
    const memory = median(results.get(contestant), ({ peakMegabytes }) => peakMegabytes);
    const perSecond = rate(contestant);
    const speed =
      contestant === 'empty'
        ? ['', '', '']
        : [perSecond.toFixed(perSecond < 100 ? 1 : 0), (1000 / perSecond).toFixed(2), times(contestant)];
    return `| ${[TITLES[contestant], ...speed, memory.toFixed(0)].join(' | ')} |`;
  });
  const { quotes = 0 } = results.get('cold')?.[0] ?? {};
  print(`${quotes} pairs of quote and collateral; node ${process.version}, ${cpus()[0]?.model.trim()}`, '');
  print('| | quotes per CPU second | ms each | against the peer | peak MB |', '|---|---:|---:|---:|---:|');
  print(...lines, '');
  const toPeer = (contestant: Contestant) => median(ratiosOf(contestant), (ratio) => ratio);
  printJson({ bench: 'attestation', quotes, toPeer: { cold: toPeer('cold'), cached: toPeer('cached') } });
}

async function worker(...parameters: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [WORKER, ...parameters]);
  return stdout.trim();
}

function median<Item>(all: readonly Item[] | undefined, pick: (one: Item) => number): number {
  const sorted = (all ?? []).map(pick).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
