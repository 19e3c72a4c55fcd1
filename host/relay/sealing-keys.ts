/**
 * What secrets of an app are sealed to, for owners who are not on a node's host: the node says it, the relay passes it on. It is
 * public, and whoever seals checks the network key's signature.
 *
 * Strangers choose the names. So answers are kept for a while, and for new names the node is asked one by one, at a pace at
 * which it still has time for all else.
 */

import { RateLimit } from '../../lib/daemon/rate-limit.ts';
import type { SealingKeyMessage } from '../../lib/protocol/app-secrets.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { NodeClient } from '../node-client.ts';

/** Milliseconds. A key never changes, its signature does with the network key. */
const KEPT_FOR = 60_000;
const MOST_KEPT = 256;

export class SealingKeys {
  readonly #node: Pick<NodeClient, 'sealingKey'>;
  readonly #now: () => number;
  readonly #pace: RateLimit;
  readonly #kept = new Map<string, { message: Promise<SealingKeyMessage>; until: number }>();
  #last: Promise<unknown> = Promise.resolve();

  /** @param now a monotonic clock, in milliseconds */
  constructor(node: Pick<NodeClient, 'sealingKey'>, now: () => number = () => performance.now()) {
    this.#node = node;
    this.#now = now;
    this.#pace = new RateLimit({ burst: 16, perSecond: 1, now });
  }

  /** @throws GOSSIP_RATE, and what the node answers */
  async of(app: string): Promise<SealingKeyMessage> {
    const known = this.#kept.get(app);
    if (known !== undefined && known.until > this.#now()) return known.message;
    if (!this.#pace.take(''))
      throw new DstackError('GOSSIP_RATE', 'the node is asked for too many keys; try again in a minute');
    const message = this.#last.then(() => this.#node.sealingKey(app));
    this.#last = message.catch(() => {
      // What failed is asked for again.
      if (this.#kept.get(app)?.message === message) this.#kept.delete(app);
    });
    this.#kept.delete(app);
    this.#kept.set(app, { message, until: this.#now() + KEPT_FOR });
    if (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    return message;
  }
}
