/** What `/metrics` says, in Prometheus' text format, by etcd's names where etcd has the same. */
import type { Status } from '../../../lib/etcd/errors.ts';

const codeNames = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
] as const;

/** Go's name of a status, as gRPC's own metrics and etcd's messages have it. */
export const nameOf = (code: Status): string => codeNames[code];

export interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly values: () => readonly {
    readonly labels?: Readonly<Record<string, string>>;
    readonly value: number | bigint;
  }[];
}

export class Metrics {
  readonly #handled = new Map<string, Map<Status, number>>();
  readonly #known: ReadonlySet<string>;
  readonly #gauges: Gauge[] = [];

  /** @param paths of the methods that are served; all others count as one */
  constructor(paths: readonly string[]) {
    this.#known = new Set(paths);
  }

  handled(path: string, code: Status): void {
    const key = this.#known.has(path) ? path : '/unknown/unknown';
    const counts = this.#handled.get(key) ?? new Map<Status, number>();
    this.#handled.set(key, counts.set(code, (counts.get(code) ?? 0) + 1));
  }

  gauge(gauge: Gauge): void {
    this.#gauges.push(gauge);
  }

  text(): string {
    const lines = [
      '# HELP grpc_server_handled_total Calls that have ended, by how.',
      '# TYPE grpc_server_handled_total counter',
    ];
    for (const [path, counts] of this.#handled) {
      const [, service, method] = path.split('/');
      for (const [code, count] of counts)
        lines.push(
          `grpc_server_handled_total{grpc_service="${service}",grpc_method="${method}",grpc_code="${nameOf(code)}"} ${count}`,
        );
    }
    for (const { name, help, values } of this.#gauges) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} gauge`);
      for (const { labels = {}, value } of values()) lines.push(`${name}${labelsOf(labels)} ${value}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

/** Names and values have nothing to be escaped: they are ours, or prefixes. */
function labelsOf(labels: Readonly<Record<string, string>>): string {
  const all = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return all.length === 0 ? '' : `{${all.join(',')}}`;
}
