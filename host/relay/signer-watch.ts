/** What the node says of its signer, for the operator: asked at each look at a node that has joined. */
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import type { NodeClient } from '../node-client.ts';

export interface SignerWatchOptions {
  readonly node: Pick<NodeClient, 'signer'>;
  readonly metrics: Metrics;
  readonly log: Log<'warn'>;
}

export class SignerWatch {
  readonly #options: SignerWatchOptions;
  #signer: SignerStatus | undefined;
  #problem = '';
  /** Series that were shown: those of what is gone go to 0. */
  readonly #codes = new Set<string>();
  readonly #places = new Map<string, { readonly chain: string; readonly address: string }>();

  constructor(options: SignerWatchOptions) {
    this.#options = options;
  }

  /** Nothing is thrown: what is not known is not said. */
  async look(): Promise<void> {
    const { node, log } = this.#options;
    try {
      this.#signer = await node.signer();
      this.#problem = '';
    } catch (error) {
      this.#signer = undefined;
      const problem = `the node does not say how its signer stands: ${(error as Error).message}`;
      if (problem !== this.#problem) log.warn({ code: codeOf(error) }, problem);
      this.#problem = problem;
    }
  }

  /** Undefined where there is none, and while it is not known. */
  status(): SignerStatus | undefined {
    return this.#signer;
  }

  /** Brings the gauges up to date. */
  measure(): void {
    const { metrics } = this.#options;
    const gauge = metrics.gauge.bind(metrics);
    const { stopped, chains = [], connections = [] } = this.#signer ?? {};
    for (const { id: chain, height, round, step, signatures, refusals } of chains) {
      const of = { chain };
      const last = 'What the key of the chain signed last';
      if (height !== undefined)
        gauge('dstack_relay_signer_height', `${last}: its height.`, Number(height), of);
      if (round !== undefined) gauge('dstack_relay_signer_round', `${last}: its round.`, round, of);
      if (step !== undefined) gauge('dstack_relay_signer_step', `${last}: its step, 1 to 3.`, step, of);
      const since = "since the node's signer was started.";
      gauge('dstack_relay_signer_signatures', `Signatures ${since}`, signatures, of);
      gauge('dstack_relay_signer_refusals', `Requests that were refused ${since}`, refusals, of);
    }
    if (stopped !== undefined) this.#codes.add(stopped.code);
    for (const code of this.#codes) {
      const isNow = stopped?.code === code ? 1 : 0;
      gauge('dstack_relay_signer_stopped', '1 while nothing is signed, for this reason.', isNow, { code });
    }
    for (const { chain, address } of connections) this.#places.set(`${chain} ${address}`, { chain, address });
    for (const [key, place] of this.#places) {
      const one = connections.find(({ chain, address }) => `${chain} ${address}` === key);
      const isServing = one?.state === 'serving' && !one.quiet ? 1 : 0;
      gauge('dstack_relay_signer_serving', '1 while the validator asks for signatures.', isServing, place);
    }
  }
}
