/**
 * What connections of an address may still cost. Who leaves with a debt and comes back finds it, under whatever key: what a connection has spent is kept for its
 * address, and taken up by the next one from there. So an address never has more to spend than as many connections as it had at once.
 */
import { Allowance } from './allowance.ts';
import type { Rate, WireLimits } from './limits.ts';

/** Addresses of former connections that are remembered. */
const MOST = 1024;

type PurseLimits = Pick<WireLimits, 'cpu' | 'bytesIn' | 'bytesOut' | 'pulsesIn'>;

/** Of one connection. */
export interface Purse {
  readonly cpu: Allowance;
  readonly bytesIn: Allowance;
  readonly bytesOut: Allowance;
  /** Of pulses whose signatures are looked at; what is above is not, and costs nothing. */
  readonly pulsesIn: Allowance;
}

export class Purses {
  readonly #limits: PurseLimits;
  readonly #now: () => number;
  /** Of no connection now, by address; who left last is last. */
  readonly #left = new Map<string, Purse[]>();

  /** @param now milliseconds that only go on */
  constructor(limits: PurseLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#left.size;
  }

  /** For a new connection of this address. */
  take(address: string): Purse {
    const left = this.#left.get(address);
    const purse = left?.shift();
    if (left?.length === 0) this.#left.delete(address);
    if (purse !== undefined) return purse;
    const of = (rate: Rate) => new Allowance(rate, this.#now);
    const { cpu, bytesIn, bytesOut, pulsesIn } = this.#limits;
    return { cpu: of(cpu), bytesIn: of(bytesIn), bytesOut: of(bytesOut), pulsesIn: of(pulsesIn) };
  }

  /** The connection has ended. */
  leave(address: string, purse: Purse): void {
    const left = this.#left.get(address) ?? [];
    this.#left.delete(address);
    this.#left.set(
      address,
      [...left, purse].filter((one) => !isWhole(one)),
    );
    if (this.#left.get(address)!.length === 0) this.#left.delete(address);
    if (this.#left.size > MOST) this.#forget();
  }

  /** Those who owe nothing; and if that is nobody, who left first. */
  #forget(): void {
    for (const [address, purses] of this.#left) if (purses.every(isWhole)) this.#left.delete(address);
    if (this.#left.size > MOST) this.#left.delete(this.#left.keys().next().value!);
  }
}

const isWhole = ({ cpu, bytesIn, bytesOut, pulsesIn }: Purse): boolean =>
  [cpu, bytesIn, bytesOut, pulsesIn].every((allowance) => allowance.isWhole);
