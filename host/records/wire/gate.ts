/**
 * Who comes in: so many connections in all and from one address, and fewer whose handshake is not over. Who opens connections and says nothing
 * takes the places of its own address only, for as long as a handshake may take. Who comes and goes all the time is turned away before a handshake.
 */
import { sourceOf } from '../../../lib/daemon/server-limits.ts';
import { Allowance } from './allowance.ts';
import type { WireLimits } from './limits.ts';

/** Addresses that came lately and are remembered. */
const MOST = 1024;

type GateLimits = Pick<
  WireLimits,
  | 'connections'
  | 'connectionsPerAddress'
  | 'handshakes'
  | 'handshakesPerAddress'
  | 'arrivals'
  | 'arrivalsInAll'
>;

/** One place. */
export interface Ticket {
  /** The handshake is over. */
  admit(): void;
  /** The connection is. */
  leave(): void;
}

export class Gate {
  readonly #limits: GateLimits;
  readonly #all = new Count();
  readonly #handshakes = new Count();

  readonly #now: () => number;
  readonly #arrivalsInAll: Allowance;
  /** By address; who came first is first. */
  readonly #arrivals = new Map<string, Allowance>();

  /** @param now milliseconds that only go on */
  constructor(limits: GateLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    this.#arrivalsInAll = new Allowance(limits.arrivalsInAll, now);
  }

  /** How many addresses are remembered. */
  get remembered(): number {
    return this.#arrivals.size;
  }

  get handshakes(): number {
    return this.#handshakes.total;
  }

  /** Undefined if there is no place. */
  enter(remoteAddress: string | undefined): Ticket | undefined {
    const address = sourceOf(remoteAddress);
    const { connections, connectionsPerAddress, handshakes, handshakesPerAddress } = this.#limits;
    const isFull =
      this.#all.total >= connections ||
      this.#handshakes.total >= handshakes ||
      this.#all.of(address) >= connectionsPerAddress ||
      this.#handshakes.of(address) >= handshakesPerAddress;
    if (isFull || !this.#mayArrive(address)) return undefined;
    this.#all.add(address, 1);
    this.#handshakes.add(address, 1);
    let state: 'handshake' | 'in' | 'gone' = 'handshake';
    return {
      admit: () => {
        if (state !== 'handshake') return;
        state = 'in';
        this.#handshakes.add(address, -1);
      },
      leave: () => {
        if (state === 'handshake') this.#handshakes.add(address, -1);
        if (state !== 'gone') this.#all.add(address, -1);
        state = 'gone';
      },
    };
  }

  /** What is turned away costs nothing of it: who is patient comes in. */
  #mayArrive(address: string): boolean {
    const own = this.#arrivals.get(address) ?? new Allowance(this.#limits.arrivals, this.#now);
    if (!own.covers(1) || !this.#arrivalsInAll.covers(1)) return false;
    own.spend(1);
    this.#arrivalsInAll.spend(1);
    this.#arrivals.set(address, own);
    if (this.#arrivals.size > MOST) this.#forget();
    return true;
  }

  /** Those who did not come lately; and if that is nobody, who came first. */
  #forget(): void {
    for (const [address, own] of this.#arrivals) if (own.isWhole) this.#arrivals.delete(address);
    if (this.#arrivals.size > MOST) this.#arrivals.delete(this.#arrivals.keys().next().value!);
  }
}

class Count {
  total = 0;
  readonly #byAddress = new Map<string, number>();

  of(address: string): number {
    return this.#byAddress.get(address) ?? 0;
  }

  add(address: string, change: number): void {
    this.total += change;
    const count = this.of(address) + change;
    if (count === 0) this.#byAddress.delete(address);
    else this.#byAddress.set(address, count);
  }
}
