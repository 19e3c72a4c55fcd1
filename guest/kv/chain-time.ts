/** The chain's time, as the replicator says it: for the log's heads the last that it said, for what time decides the time now, or none. */
import { STALE_AFTER_SECONDS } from '../../lib/chain/chain-clock.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { JoinedReply } from '../../lib/protocol/sockets.ts';

type Reached = JoinedReply['reached'];

const ASK_EVERY = 5_000;
/** While the replicator does not answer, its last word counts for so long. Milliseconds. */
const BELIEVED = 60_000;

export class ChainTime {
  #reached: Reached;
  /** When it was said, by this process's own clock. */
  #at = performance.now();
  #last: number;

  private constructor(reached: Reached) {
    this.#reached = reached;
    this.#last = reached.now;
  }

  /** @throws what `ask` throws the first time; after that it is in the log alone */
  static async follow(ask: () => Promise<Reached>, log: Log<'warn'>): Promise<ChainTime> {
    const time = new ChainTime(await ask());
    setInterval(() => {
      ask().then(
        (reached) => time.#take(reached),
        (error: Error) =>
          log.warn({ code: codeOf(error) }, `the chain's time is not known: ${error.message}`),
      );
    }, ASK_EVERY).unref();
    return time;
  }

  #take(reached: Reached): void {
    this.#reached = reached;
    this.#at = performance.now();
    this.#last = Math.max(this.#last, reached.now);
  }

  /** The last that was said, Unix seconds; it never goes back. */
  get last(): number {
    return this.#last;
  }

  /** Unix seconds now; undefined while no new block, or no word of the replicator's, says that it is still so. */
  now(): number | undefined {
    const since = performance.now() - this.#at;
    const now = this.#reached.now + Math.floor(since / 1000);
    return since > BELIEVED || now - this.#reached.timestamp > STALE_AFTER_SECONDS ? undefined : now;
  }
}
