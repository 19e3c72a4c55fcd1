/**
 * Which app a connection belongs to, for the daemons that apps talk to: kubernethes knows the address of every container, and the bridge
 * it is on; and a container's socket is its own (agent/app-sockets.ts).
 *
 * Of an address both ends are compared: a packet with an app's source address that arrived anywhere else than at that app's own
 * gateway is not from that app.
 */
import { DstackError } from '../lib/protocol/errors.ts';
import type { AppFolderRequest, ContainersReply } from '../lib/protocol/sockets.ts';
import { REMEMBERED } from './bridges.ts';

export type Caller = ContainersReply['containers'][number];

/** Where a connection comes from: the two ends of one on a bridge, or the container whose socket it came by. */
export type Origin =
  | { readonly remote: string | undefined; readonly local: string | undefined }
  | { readonly socketOf: AppFolderRequest };

/** How long an answer from kubernethes stays valid, and how long to wait for a container that it does not know yet. Milliseconds. */
const FRESH = 2_000;
const WAIT = 3_000;
const BETWEEN = 300;

export class Callers {
  readonly #containers: () => Promise<ContainersReply>;
  #known: readonly Caller[] = [];
  /** When what is known was asked for: kubernethes may have said it at once, and been slow to be heard. */
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  constructor(containers: () => Promise<ContainersReply>) {
    this.#containers = containers;
  }

  /**
   * The app behind a connection. A container may ask before kubernethes has seen it start, so an unknown one waits a little.
   * No answer of kubernethes' counts for longer than an address is nobody's after its container is gone.
   *
   * @param within how long to wait for one that is not known, milliseconds
   * @throws UNKNOWN_CALLER, APP_SUPERSEDED, APP_CHAIN_STALE, and what asking kubernethes throws
   */
  async identify(origin: Origin, within = WAIT): Promise<Caller> {
    const deadline = performance.now() + within;
    if (performance.now() - this.#askedAt > FRESH) await this.#refresh();
    for (;;) {
      const known = performance.now() - this.#askedAt < REMEMBERED ? this.#known : [];
      const found = known.find((one) => isFrom(one, origin));
      if (found?.ended !== undefined) throw new DstackError(found.ended.code, found.ended.message);
      if (found !== undefined) return found;
      if (performance.now() >= deadline) {
        throw new DstackError(
          'UNKNOWN_CALLER',
          `no app runs ${'socketOf' in origin ? 'behind this socket' : `at ${origin.remote}`}; only apps of this node get an answer`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, BETWEEN));
      // Of all who wait the first asks for the others: an app may have as many waiting as it has connections.
      if (performance.now() - this.#askedAt >= BETWEEN) await this.#refresh();
    }
  }

  /** Many callers may wait, but only one of them asks. */
  async #refresh(): Promise<void> {
    const askedAt = performance.now();
    this.#asking ??= this.#containers()
      .then(({ containers }) => {
        this.#known = containers;
        this.#askedAt = askedAt;
      })
      .finally(() => {
        this.#asking = undefined;
      });
    await this.#asking;
  }
}

function isFrom({ app, manifestHash, container, address, gateway }: Caller, origin: Origin): boolean {
  if (!('socketOf' in origin)) return address === origin.remote && gateway === origin.local;
  const { socketOf } = origin;
  return app === socketOf.app && manifestHash === socketOf.manifestHash && container === socketOf.container;
}
