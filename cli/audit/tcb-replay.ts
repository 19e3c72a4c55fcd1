/** The contract's TCB policy, replayed from its events: each part's value, and what it will be once its delay is over. */
import type { Policy } from '../../lib/attestation/policy.ts';
import { bareHex, type Hex } from '../../lib/protocol/hex.ts';
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import { statusesOf } from '../../lib/protocol/tcb-policy.ts';

/** The contract's part of a policy, in the verifier's terms. */
export type TcbPolicy = Pick<
  Policy,
  'statuses' | 'gracePeriodDays' | 'minimumTcbEvaluationDataNumber' | 'deniedFmspcs'
>;

/** One part: whatever is stricter than the value in force takes effect at once, the rest once the delay is over. */
class Part {
  readonly #stricter: (value: number, present: number) => number;
  #before = 0;
  #set = 0;
  /** Unix seconds from which `#set` holds. */
  from = 0;

  constructor(stricter: (value: number, present: number) => number) {
    this.#stricter = stricter;
  }

  get set(): number {
    return this.#set;
  }

  at(time: number): number {
    return time >= this.from ? this.#set : this.#before;
  }

  /** @returns when the contract must say that it holds */
  take(value: number, time: number, loosensFrom: number): number {
    this.#before = this.#stricter(value, this.at(time));
    this.#set = value;
    this.from = this.#before === value ? time : loosensFrom;
    return this.from;
  }
}

export class TcbReplay {
  readonly #minimum = new Part(Math.max);
  readonly #statuses = new Part((value, present) => value & present);
  readonly #grace = new Part(Math.min);
  /** Until when each FMSPC is denied; infinity when nobody has allowed it again. */
  readonly #deniedUntil = new Map<Hex, number>();

  /**
   * Takes an event, if it is of the TCB policy.
   * @param loosensFrom when a loosening set now takes effect, Unix seconds
   * @returns what the contract could not have done, undefined if it could
   */
  take(event: NetworkEvent, time: number, loosensFrom: number): string | undefined {
    const dated = (from: bigint, expected: number) =>
      Number(from) === expected ? undefined : `${event.name} from ${from}, its delay ends at ${expected}`;
    switch (event.name) {
      case 'MinimumTcbEvaluationNumberSet':
        return dated(event.from, this.#minimum.take(event.tcbEvaluationDataNumber, time, loosensFrom));
      case 'AcceptedTcbStatusesSet':
        return dated(event.from, this.#statuses.take(event.statuses, time, loosensFrom));
      case 'TcbOutOfDateGraceSet':
        return dated(event.from, this.#grace.take(event.gracePeriod, time, loosensFrom));
      case 'FmspcDenied':
        if (this.#isDenied(event.fmspc)) return `FMSPC ${event.fmspc} was denied twice`;
        this.#deniedUntil.set(event.fmspc, Number.POSITIVE_INFINITY);
        return undefined;
      case 'FmspcAllowed':
        if (!this.#isDenied(event.fmspc)) return `FMSPC ${event.fmspc} was allowed and not denied`;
        this.#deniedUntil.set(event.fmspc, loosensFrom);
        return dated(event.from, loosensFrom);
      default:
        return undefined;
    }
  }

  /** What an onboarder had to enforce at this time, which is not before the last event taken. */
  policyAt(time: number): TcbPolicy {
    const grace = this.#grace.at(time);
    const mask = this.#statuses.at(time);
    return {
      // None before the deployment's own setting was seen, which an incomplete history may lack.
      statuses: mask === 0 ? [] : [...statusesOf(mask)],
      minimumTcbEvaluationDataNumber: this.#minimum.at(time),
      deniedFmspcs: [...this.#deniedUntil]
        .filter(([, until]) => time < until)
        .map(([fmspc]) => bareHex(fmspc)),
      ...(grace === 0 ? {} : { gracePeriodDays: grace / 86_400 }),
    };
  }

  /** What was set last, in words, including what is already in force. */
  changes(): { what: string; from: number }[] {
    const parts = [
      ['the minimum TCB evaluation number is', this.#minimum],
      ['accepted TCB statuses (bits) are', this.#statuses],
      ['seconds of grace for platforms out of date are', this.#grace],
    ] as const;
    return [
      ...parts.map(([what, part]) => ({ what: `${what} ${part.set}`, from: part.from })),
      ...[...this.#deniedUntil].map(([fmspc, from]) => ({ what: `FMSPC ${fmspc} may join again`, from })),
    ].filter(({ from }) => from !== Number.POSITIVE_INFINITY);
  }

  #isDenied(fmspc: Hex): boolean {
    return this.#deniedUntil.get(fmspc) === Number.POSITIVE_INFINITY;
  }
}
