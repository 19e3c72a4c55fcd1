/**
 * Pulses between this node and one peer: what is new is passed on, and now and then both compare all that they have, so that who was away has it too.
 * A peer that did not say that it knows of pulses hears of none.
 */
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import type { Pulse } from '../../../lib/protocol/records/pulse.ts';
import { MAX_PULSES, type Message } from '../../../lib/protocol/records/sync/messages.ts';
import type { PulseSet } from '../pulses.ts';

/** Bit of a hello's features. */
export const KNOWS_PULSES = 1;
/** New ones that wait to be passed on; what is more than that, comparisons find. */
const MOST_NEWS = 1_024;

interface Host {
  readonly pulses: PulseSet | undefined;
  /** Milliseconds from one comparison with a peer to the next. */
  readonly interval: number;
  /** Milliseconds that only go on. */
  uptime(): number;
  send(message: Message): void;
  /** Whether the peer does not take what waits for it already. */
  isBehind(): boolean;
}

export class PulseExchange {
  readonly #host: Host;
  readonly #news = new Map<string, Pulse>();
  #isSpoken = false;
  #next = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  /** For this node's hello. */
  get features(): number {
    return this.#host.pulses === undefined ? 0 : KNOWS_PULSES;
  }

  meet(features: number): void {
    this.#isSpoken = this.#host.pulses !== undefined && (features & KNOWS_PULSES) !== 0;
  }

  /** Tells the peer what is here, if that is due, so that it gives what is not. */
  compare(): void {
    if (!this.#isSpoken || this.#host.uptime() < this.#next) return;
    this.#next = this.#host.uptime() + this.#host.interval;
    this.#host.send({ kind: 'pulse-digests', digests: this.#own().pulseDigests() });
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
        own.addPulse(pulse);
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

  /** Gives what the peer may lack, up to what it takes; the rest when it compares again. */
  answer(digests: Uint8Array): void {
    let some: Pulse[] = [];
    const give = () => {
      if (some.length > 0) this.#host.send({ kind: 'pulses', pulses: some });
      some = [];
    };
    for (const pulse of this.#own().pulsesBeside(digests)) {
      if (this.#host.isBehind()) return;
      some.push(pulse);
      if (some.length === MAX_PULSES) give();
    }
    give();
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
