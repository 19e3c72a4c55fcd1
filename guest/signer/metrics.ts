/** What Prometheus sees (its text format, version 0.0.4). */
import type { SignState } from '../../lib/cometbft/sign-state.ts';

/** Upper bounds in milliseconds: a node waits 5 s. */
const BOUNDS = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 3000];

interface Histogram {
  readonly buckets: number[];
  sum: number;
  count: number;
}

type Labels = Readonly<Record<string, string>>;
type Counters = Map<string, { labels: Labels; value: number }>;

export class Metrics {
  readonly #signatures: Counters = new Map();
  readonly #refusals: Counters = new Map();
  readonly #latency = new Map<string, { labels: Labels; histogram: Histogram }>();
  readonly #last = new Map<string, SignState>();

  signed(chain: string, state: SignState): void {
    count(this.#signatures, { chain, step: String(state.step) });
    this.#last.set(chain, state);
  }

  refused(chain: string, reason: string): void {
    count(this.#refusals, { chain, reason });
  }

  /** Of one chain, whatever the step or the reason. */
  totals(chain: string): { readonly signatures: number; readonly refusals: number } {
    const sum = (counters: Counters) =>
      [...counters.values()].reduce(
        (all, { labels, value }) => all + (labels.chain === chain ? value : 0),
        0,
      );
    return { signatures: sum(this.#signatures), refusals: sum(this.#refusals) };
  }

  /** @param milliseconds that an answer took */
  observe(chain: string, request: string, milliseconds: number): void {
    const key = `${chain} ${request}`;
    const entry = this.#latency.get(key) ?? {
      labels: { chain, request },
      histogram: { buckets: BOUNDS.map(() => 0), sum: 0, count: 0 },
    };
    this.#latency.set(key, entry);
    const { histogram } = entry;
    histogram.count += 1;
    histogram.sum += milliseconds;
    for (const [n, bound] of BOUNDS.entries()) if (milliseconds <= bound) histogram.buckets[n]! += 1;
  }

  /** @param connections with the state of each, 1 where a node asks */
  text(
    connections: readonly { readonly chain: string; readonly address: string; readonly serving: boolean }[],
  ): string {
    return [
      '# TYPE dstack_signer_signatures_total counter',
      ...[...this.#signatures.values()].map(({ labels, value }) => line('signatures_total', labels, value)),
      '# TYPE dstack_signer_refusals_total counter',
      ...[...this.#refusals.values()].map(({ labels, value }) => line('refusals_total', labels, value)),
      '# TYPE dstack_signer_answer_seconds histogram',
      ...[...this.#latency.values()].flatMap(({ labels, histogram }) => histogramLines(labels, histogram)),
      ...(['height', 'round', 'step'] as const).flatMap((name) => [
        `# TYPE dstack_signer_last_${name} gauge`,
        ...[...this.#last].map(([chain, state]) => line(`last_${name}`, { chain }, state[name])),
      ]),
      '# TYPE dstack_signer_connected gauge',
      ...connections.map(({ chain, address, serving }) =>
        line('connected', { chain, address }, serving ? 1 : 0),
      ),
      '',
    ].join('\n');
  }
}

function count(counters: Counters, labels: Labels): void {
  const key = JSON.stringify(labels);
  const entry = counters.get(key) ?? { labels, value: 0 };
  entry.value += 1;
  counters.set(key, entry);
}

function histogramLines(labels: Labels, { buckets, sum, count: total }: Histogram): string[] {
  return [
    ...BOUNDS.map((bound, n) =>
      line('answer_seconds_bucket', { ...labels, le: String(bound / 1000) }, buckets[n]!),
    ),
    line('answer_seconds_bucket', { ...labels, le: '+Inf' }, total),
    line('answer_seconds_sum', labels, sum / 1000),
    line('answer_seconds_count', labels, total),
  ];
}

function line(name: string, labels: Labels, value: number | bigint): string {
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${text.replace(/[\\"\n]/g, '\\$&')}"`);
  return `dstack_signer_${name}{${pairs.join(',')}} ${value}`;
}
