/** Counters and gauges in Prometheus' text format (version 0.0.4). */

interface Metric {
  type: 'counter' | 'gauge';
  help: string;
  /** By rendered labels. */
  values: Map<string, number>;
}

/** Series per metric. Labels may come from outside, so the number is bounded: further ones are counted as `other`. */
const MAX_SERIES = 100;

export class Metrics {
  #metrics: Map<string, Metric>;
  #labels: Record<string, string>;

  constructor() {
    this.#metrics = new Map();
    this.#labels = {};
  }

  /** The same metrics, with these labels added to each series. */
  of(labels: Record<string, string>): Metrics {
    const part = new Metrics();
    part.#metrics = this.#metrics;
    part.#labels = { ...this.#labels, ...labels };
    return part;
  }

  /** Adds to a counter. */
  count(name: string, help: string, label?: Record<string, string>, by = 1): void {
    const metric = this.#metric(name, 'counter', help);
    const key = this.#series(metric, label);
    metric.values.set(key, (metric.values.get(key) ?? 0) + by);
  }

  /** Sets a gauge. */
  gauge(name: string, help: string, value: number, label?: Record<string, string>): void {
    const metric = this.#metric(name, 'gauge', help);
    metric.values.set(this.#series(metric, label), value);
  }

  text(): string {
    const lines = [...this.#metrics].flatMap(([name, { type, help, values }]) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...[...values].map(([labels, value]) => `${name}${labels} ${value}`),
    ]);
    return `${lines.join('\n')}\n`;
  }

  #metric(name: string, type: Metric['type'], help: string): Metric {
    const found = this.#metrics.get(name) ?? { type, help, values: new Map() };
    this.#metrics.set(name, found);
    return found;
  }

  #series(metric: Metric, label: Record<string, string> = {}): string {
    const render = (value: (text: string) => string): string => {
      const pairs = Object.entries({ ...this.#labels, ...label }).map(
        ([key, text]) => `${key}="${value(text)}"`,
      );
      return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
    };
    const key = render((text) => text.replace(/[\\"\n]/g, '_').slice(0, 100));
    return metric.values.has(key) || metric.values.size < MAX_SERIES ? key : render(() => 'other');
  }
}
