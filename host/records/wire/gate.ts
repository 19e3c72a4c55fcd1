/**
 * Who comes in: so many connections in all and from one address, and fewer whose handshake is not over. Who opens connections and says nothing
 * takes the places of its own address only, for as long as a handshake may take.
 */
import { isIPv6 } from 'node:net';
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
    const address = networkOf(remoteAddress ?? '');
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

/** An IPv4 address, also one that is written as IPv6's; of IPv6 the first 64 bits, which one host has for itself. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const plain = address.split('%', 1)[0]!;
  if (!isIPv6(plain)) return address;
  const [head = '', tail] = plain.split('::', 2);
  const groups = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const before = groups(head);
  const missing = tail === undefined ? 0 : 8 - before.length - groups(tail).length;
  const all = [...before, ...Array<string>(Math.max(0, missing)).fill('0'), ...groups(tail)];
  return all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
