/**
 * Pulses between this node and one peer: what is new is passed on, and now and then both compare all that they have, so that who was away has it too.
 * A peer that did not say that it knows of pulses hears of none.
 *
 * A good pulse is its owner's doing and not its bearer's: looking at its signature costs the bearer nothing. What bounds it is how many of each owner, and in all,
 * are looked at of one peer; the others are passed over, and comparisons find them again. A bad one is the bearer's, and ends the connection.
 */
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import type { Pulse } from '../../../lib/protocol/records/pulse.ts';
import { MAX_PULSES, type Message } from '../../../lib/protocol/records/sync/messages.ts';
import { bucketsApart, type PulseSet } from '../pulses.ts';
import { Allowance } from './allowance.ts';
import type { Rate } from './limits.ts';

/** Bit of a hello's features. */
export const KNOWS_PULSES = 1;
/** New ones that wait to be passed on; what is more than that, comparisons find. */
const MOST_NEWS = 1_024;
/** Of one answer: the peer has no more of one owner looked at either. The next begins elsewhere. */
const MOST_ANSWERED = 4_096;
/** Owners whose share is remembered. */
const MOST_OWNERS = 1_024;

interface Host {
  readonly pulses: PulseSet | undefined;
  /** Milliseconds from one comparison with a peer to the next. */
  readonly interval: number;
  /** Of one owner's pulses, and of all, how many signatures are looked at. */
  readonly perOwner: Rate;
  readonly allowance: Allowance;
  /** Milliseconds that only go on. */
  uptime(): number;
  /** Milliseconds of the processor that this thread has taken. */
  cpu(): number;
  /** So many of them are not the peer's. */
  forgive(milliseconds: number): void;
  send(message: Message): void;
  /** Whether the peer does not take what waits for it already. */
  isBehind(): boolean;
  /** Does the work at the peer's cost, once the peer took enough of what was sent to it, and has paid for it. */
  paced<T>(work: () => T): Promise<T>;
  /** What an answer ended with. */
  fail(error: unknown): void;
}

export class PulseExchange {
  readonly #host: Host;
  readonly #news = new Map<string, Pulse>();
  /** Of owners, the one that was heard of last is last. */
  readonly #shares = new Map<string, Allowance>();
  #isSpoken = false;
  #isAnswering = false;
  #next = 0;
  /** Whether anything was passed over since the last comparison. */
  #isShort = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** For this node's hello. */
  get features(): number {
    return this.#host.pulses === undefined ? 0 : KNOWS_PULSES;
  }

  meet(features: number): void {
    this.#isSpoken = this.#host.pulses !== undefined && (features & KNOWS_PULSES) !== 0;
    this.#next = this.#host.uptime();
  }

  /**
   * Tells the peer what is here, if that is due, so that it gives what is not.
   * @param isSame whether this node has all that the peer has: pulses of records that are still to come would be in vain. But not for ever, since there may
   *   always be one on its way, or one that can't come
   */
  compare(isSame: boolean): void {
    const { interval, uptime } = this.#host;
    const late = uptime() - this.#next;
    const isDue = late >= 0 || this.#isShort;
    if (!this.#isSpoken || !isDue || (!isSame && late < interval)) return;
    this.#next = uptime() + interval;
    this.#isShort = false;
    void this.#sendDigests();
  }

  /** A new one, wherever it came from. */
  tell(pulse: Pulse): void {
    if (!this.#isSpoken || this.#news.size >= MOST_NEWS) return;
    const isFirst = this.#news.size === 0;
    this.#news.set(pulse.id, pulse);
    if (isFirst) setImmediate(() => this.#passOn());
  }

  /** @throws SYNC_PULSE for one that is its owner's in no case */
  hear(pulses: readonly Pulse[]): void {
    const own = this.#own();
    for (const pulse of pulses) {
      try {
        this.#take(pulse, own);
        // The peer has it.
        if (this.#news.get(pulse.id)?.minute === pulse.minute) this.#news.delete(pulse.id);
      } catch (cause) {
        // Where the disk takes none, others have it.
        if (codeOf(cause) === 'RECORDS_STOPPED') return;
        throw new DstackError('SYNC_PULSE', `the peer sent a pulse that is none: ${codeOf(cause)}`, {
          cause,
        });
      }
    }
  }

  /** Gives what the peer may lack, up to what it takes; the rest when it compares again. One question at a time. */
  async answer(digests: Uint8Array): Promise<void> {
    if (this.#isAnswering) return;
    this.#isAnswering = true;
    try {
      const own = this.#own();
      const here = await own.pulseDigests();
      let left = MOST_ANSWERED;
      for (const bucket of bucketsApart(here, digests)) {
        if (left <= 0 || this.#host.isBehind()) return;
        left -= await this.#host.paced(() => this.#give([...own.pulsesIn(bucket)].slice(0, left)));
      }
    } catch (error) {
      this.#host.fail(error);
    } finally {
      this.#isAnswering = false;
    }
  }

  async #sendDigests(): Promise<void> {
    try {
      this.#host.send({ kind: 'pulse-digests', digests: await this.#own().pulseDigests() });
    } catch (error) {
      this.#host.fail(error);
    }
  }

  #take(pulse: Pulse, own: PulseSet): void {
    const { allowance, cpu, forgive } = this.#host;
    let share: Allowance | undefined;
    const before = cpu();
    const verdict = own.addPulse(pulse, (owner) => {
      share = this.#shareOf(owner);
      return share.covers(1) && allowance.covers(1);
    });
    if (verdict === 'passed over') this.#isShort = true;
    if (verdict !== 'new') return;
    share?.spend(1);
    allowance.spend(1);
    forgive(cpu() - before);
  }

  #shareOf(owner: string): Allowance {
    const { perOwner, uptime } = this.#host;
    const share = this.#shares.get(owner) ?? new Allowance(perOwner, uptime);
    this.#shares.delete(owner);
    this.#shares.set(owner, share);
    if (this.#shares.size > MOST_OWNERS) this.#shares.delete(this.#shares.keys().next().value!);
    return share;
  }

  #give(pulses: readonly Pulse[]): number {
    for (let i = 0; i < pulses.length; i += MAX_PULSES)
      this.#host.send({ kind: 'pulses', pulses: pulses.slice(i, i + MAX_PULSES) });
    return pulses.length;
  }

  #passOn(): void {
    const all = [...this.#news.values()];
    this.#news.clear();
    for (let i = 0; i < all.length && !this.#host.isBehind(); i += MAX_PULSES) {
      this.#host.send({ kind: 'pulses', pulses: all.slice(i, i + MAX_PULSES) });
    }
  }

  /** @throws SYNC_PULSE where this node has none */
  #own(): PulseSet {
    if (this.#isSpoken && this.#host.pulses !== undefined) return this.#host.pulses;
    throw new DstackError(
      'SYNC_PULSE',
      'a message about pulses, of which there are none between these nodes',
    );
  }
}
