/**
 * The invariants of the TCB policy, from events and views alone: whatever the policy in force lets in has a ripe cause, an
 * event whose delay has passed and that no stricter one has undone since. So nothing is loosened before its delay, in
 * whatever order parts and bits of it were set, and nothing is tightened late.
 */
import type { TcbPolicyResult } from '../../lib/protocol/network-contract.ts';
import { check } from './invariant.ts';
import type { Named } from './refusal.ts';

/** What the views showed of it after a block. */
export interface TcbShown {
  readonly policy: TcbPolicyResult;
  readonly fmspcs: readonly { readonly fmspc: string; readonly denied: boolean }[];
}

const RULE = 'what the TCB policy lets in has a ripe cause that nothing has undone';
const REVOKED = 6;

export class TcbWatch {
  readonly #minimum = new Bound((a, b) => a < b);
  readonly #grace = new Bound((a, b) => a > b);
  /** From when each status is accepted, by its bit. */
  readonly #statuses = new Map<number, number>([[0, 0]]);
  readonly #deniedUntil = new Map<string, number>();

  /** @param ripe when what this block loosens takes effect */
  take(event: Named, time: number, ripe: number): void {
    switch (event.name) {
      case 'MinimumTcbEvaluationNumberSet':
        this.#minimum.set(Number(event.tcbEvaluationDataNumber), time, ripe);
        break;
      case 'TcbOutOfDateGraceSet':
        this.#grace.set(Number(event.gracePeriod), time, ripe);
        break;
      case 'AcceptedTcbStatusesSet':
        for (let bit = 0; bit < 16; bit++) {
          const isRipe = (this.#statuses.get(bit) ?? Infinity) <= time;
          if (!hasBit(Number(event.statuses), bit)) this.#statuses.delete(bit);
          else if (!isRipe) this.#statuses.set(bit, ripe);
        }
        break;
      case 'FmspcDenied':
        this.#deniedUntil.set(String(event.fmspc), Infinity);
        break;
      case 'FmspcAllowed':
        this.#deniedUntil.set(String(event.fmspc), ripe);
        break;
    }
  }

  /** @throws InvariantBroken */
  shown({ policy, fmspcs }: TcbShown, time: number): void {
    const { minimumTcbEvaluationDataNumber: minimum, statuses, gracePeriod } = policy;
    check(this.#minimum.covers(minimum, time), RULE, () => `a minimum of ${minimum}`);
    check(this.#grace.covers(gracePeriod, time), RULE, () => `a grace period of ${gracePeriod} s`);
    check(!hasBit(statuses, REVOKED), 'Revoked is never accepted', () => `statuses ${statuses}`);
    for (let bit = 0; bit < 16; bit++) {
      const isRipe = (this.#statuses.get(bit) ?? Infinity) <= time;
      check(!hasBit(statuses, bit) || isRipe, RULE, () => `bit ${bit} of statuses ${statuses}`);
    }
    for (const { fmspc, denied } of fmspcs) {
      check(denied || (this.#deniedUntil.get(fmspc) ?? 0) <= time, RULE, () => `FMSPC ${fmspc}`);
    }
  }
}

/** Every number that was set and that no stricter one has undone, with the time from which it may be in force. */
class Bound {
  readonly #looser: (a: number, b: number) => boolean;
  #causes: readonly { readonly value: number; readonly ripe: number }[] = [{ value: 0, ripe: 0 }];

  constructor(looser: (a: number, b: number) => boolean) {
    this.#looser = looser;
  }

  set(value: number, time: number, ripe: number): void {
    const tightens = this.covers(value, time);
    this.#causes = this.#causes.filter((cause) => !this.#looser(cause.value, value));
    this.#causes = [...this.#causes, { value, ripe: tightens ? time : ripe }];
  }

  /** Whether something at least as loose as that is ripe. */
  covers(value: number, time: number): boolean {
    return this.#causes.some((cause) => cause.ripe <= time && !this.#looser(value, cause.value));
  }
}

function hasBit(mask: number, bit: number): boolean {
  return ((mask >> bit) & 1) === 1;
}
