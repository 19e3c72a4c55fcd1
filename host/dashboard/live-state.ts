/**
 * The state as it is now, part by part: a round compares each part of each network with the round before by its JSON, which is made
 * once, whoever many read it.
 */
import type { LogTail } from './log-tail.ts';
import { type PartName, type Parts, partSchemas } from './state.ts';

/** One network, as the relay knows it. */
export interface NetworkSource {
  readonly contract: string;
  readonly chainId: number;
  /** Brings up to date what costs calls of the endpoint. Never rejects: a problem is a part of the state. */
  look(): Promise<void>;
  /** What is known now. */
  parts(): Parts;
}

/** What a round found. */
export interface Changes {
  /** JSON of a `Patch` each. */
  readonly patches: readonly string[];
  /** JSON of new lines of the log, if there are any. */
  readonly log: string | undefined;
}

interface Known {
  readonly source: NetworkSource;
  /** The JSON of each part. */
  readonly parts: Map<PartName, string>;
}

const NAMES = Object.keys(partSchemas) as readonly PartName[];

export class LiveState {
  readonly #networks: readonly Known[];
  readonly #tail: LogTail;
  readonly #now: () => number;
  readonly #startedAt: number;
  /** The last line of the log that a round took. */
  #line = 0;
  #whole: string | undefined;

  constructor(networks: readonly NetworkSource[], tail: LogTail, now: () => number = Date.now) {
    this.#networks = networks.map((source) => ({ source, parts: new Map() }));
    this.#tail = tail;
    this.#now = now;
    this.#startedAt = now();
  }

  /** Begins a round. */
  changes(): Changes {
    const patches = this.#networks.flatMap(({ source, parts }) => {
      const now = source.parts();
      const changed = NAMES.flatMap((name) => {
        const json = JSON.stringify(now[name]);
        if (parts.get(name) === json) return [];
        parts.set(name, json);
        return [`${JSON.stringify(name)}:${json}`];
      });
      return changed.length === 0 ? [] : [objectOf(source, changed)];
    });
    const lines = this.#tail.after(this.#line);
    this.#line = this.#tail.last;
    if (patches.length > 0 || lines.length > 0) this.#whole = undefined;
    return { patches, log: lines.length === 0 ? undefined : JSON.stringify(lines) };
  }

  /** JSON of a `DashboardState`, as of the last round: what a reader needs to whom the rounds after that one are sent. */
  whole(): string {
    this.#whole ??= this.#make();
    return this.#whole;
  }

  #make(): string {
    const networks = this.#networks.map(({ source, parts }) =>
      objectOf(
        source,
        [...parts].map(([name, json]) => `${JSON.stringify(name)}:${json}`),
      ),
    );
    const lines = this.#tail.after(0).filter(({ n }) => n <= this.#line);
    const head = `"version":1,"now":${this.#now()},"startedAt":${this.#startedAt}`;
    return `{${head},"networks":[${networks.join(',')}],"log":${JSON.stringify(lines)}}`;
  }
}

const objectOf = ({ contract, chainId }: NetworkSource, parts: readonly string[]): string =>
  `{${[`"contract":${JSON.stringify(contract)}`, `"chainId":${chainId}`, ...parts].join(',')}}`;
