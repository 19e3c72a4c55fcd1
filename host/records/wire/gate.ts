/**
 * Who comes in: so many connections in all and from one address, and fewer whose handshake is not over. Who opens connections and says nothing
 * takes the places of its own address only, for as long as a handshake may take.
 */
import { sourceOf } from '../../../lib/daemon/server-limits.ts';
import type { WireLimits } from './limits.ts';

type GateLimits = Pick<
  WireLimits,
  'connections' | 'connectionsPerAddress' | 'handshakes' | 'handshakesPerAddress'
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

  constructor(limits: GateLimits) {
    this.#limits = limits;
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
    if (isFull) return undefined;
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
