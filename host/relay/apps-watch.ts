/** What the node says of its apps, for the operator: asked at each look at a node that has joined. */
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { NodeClient } from '../node-client.ts';

export interface AppsWatchOptions {
  readonly node: Pick<NodeClient, 'apps'>;
  readonly metrics: Metrics;
  readonly log: Log;
}

export class AppsWatch {
  readonly #options: AppsWatchOptions;
  #apps: AppsStatus | undefined;
  #problem = '';
  /** Codes that an app has now: their series go to 0 when they are over. */
  readonly #codes = new Map<string, Set<string>>();

  constructor(options: AppsWatchOptions) {
    this.#options = options;
  }

  /** Nothing is thrown: what is not known is not said. */
  async look(): Promise<void> {
    const { node, log } = this.#options;
    try {
      this.#apps = await node.apps();
      this.#problem = '';
    } catch (error) {
      this.#apps = undefined;
      const problem = `the node does not say how its apps stand: ${(error as Error).message}`;
      if (problem !== this.#problem) log.warn({ code: codeOf(error) }, problem);
      this.#problem = problem;
    }
  }

  /** Undefined while it is not known. */
  status(): AppsStatus | undefined {
    return this.#apps;
  }

  /** Brings the gauges up to date. */
  measure(): void {
    const apps = new Map((this.#apps?.apps ?? []).map((status) => [status.app, status]));
    for (const app of new Set([...this.#codes.keys(), ...apps.keys()])) this.#measure(app, apps.get(app));
  }

  #measure(app: string, status: AppStatus | undefined): void {
    const gauge = this.#options.metrics.gauge.bind(this.#options.metrics);
    const isServing = status?.state === 'serving' ? 1 : 0;
    gauge('dstack_relay_app_serving', '1 when the node serves the manifest in force.', isServing, { app });
    const since = status?.supersededSince;
    const age = since === undefined ? 0 : Math.max(0, (this.#apps?.now ?? since) - since);
    const ageHelp = 'Since the manifest that the node still serves was replaced.';
    gauge('dstack_relay_app_superseded_seconds', ageHelp, age, { app });
    const trouble = status?.trouble;
    const now = new Set<string>(trouble === undefined ? [] : [trouble.code]);
    for (const code of new Set([...now, ...(this.#codes.get(app) ?? [])])) {
      const attempts = trouble?.code === code ? trouble.attempts : 0;
      gauge('dstack_relay_app_trouble', 'Attempts that ended with this code.', attempts, { app, code });
    }
    if (status === undefined) this.#codes.delete(app);
    else this.#codes.set(app, now);
  }
}
