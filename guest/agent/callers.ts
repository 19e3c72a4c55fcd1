/**
 * Which app a connection belongs to: kubernethes knows the address of every container, and the bridge it is on.
 *
 * Both ends are compared: a packet with an app's source address that arrived anywhere else than at that app's own
 * gateway is not from that app.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ContainersReply } from '../../lib/protocol/sockets.ts';

type Caller = ContainersReply['containers'][number];

/** How long an answer from kubernethes stays valid, and how long to wait for a container that it does not know yet. Milliseconds. */
const FRESH = 2_000;
const WAIT = 3_000;
const BETWEEN = 300;

export class Callers {
  readonly #containers: () => Promise<ContainersReply>;
  #known: readonly Caller[] = [];
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  constructor(containers: () => Promise<ContainersReply>) {
    this.#containers = containers;
  }

  /**
   * The app behind a connection. A container may ask before kubernethes has seen it start, so an unknown address waits a little.
   * @throws UNKNOWN_CALLER, and what asking kubernethes throws
   */
  async identify(remote: string | undefined, local: string | undefined): Promise<Caller> {
    const deadline = performance.now() + WAIT;
    if (performance.now() - this.#askedAt > FRESH) await this.#refresh();
    for (;;) {
      const found = this.#known.find(({ address, gateway }) => address === remote && gateway === local);
      if (found !== undefined) return found;
      if (performance.now() > deadline) {
        throw new DstackError(
          'UNKNOWN_CALLER',
          `no app runs at ${remote}; only apps of this node get an answer`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, BETWEEN));
      await this.#refresh();
    }
  }

  /** Many callers may wait, but only one of them asks. */
  async #refresh(): Promise<void> {
    this.#asking ??= this.#containers()
      .then(({ containers }) => {
        this.#known = containers;
        this.#askedAt = performance.now();
      })
      .finally(() => {
        this.#asking = undefined;
      });
    await this.#asking;
  }
}
