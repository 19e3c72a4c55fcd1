/**
 * The TCB policy's part of the model: what is accepted as sets of names, where the contract has bits, and each part as
 * what holds meanwhile and what was set last.
 */
import { parseHex } from '../../lib/protocol/hex.ts';
import type * as contract from '../../lib/protocol/network-contract.ts';
import {
  ACCEPTABLE_STATUSES,
  LONGEST_GRACE_SECONDS,
  statusMask,
  TCB_STATUSES,
} from '../../lib/protocol/tcb-policy.ts';
import { type Named, refuse } from './refusal.ts';

export type TcbOperation =
  | {
      readonly name: 'setMinimumTcbEvaluationNumber';
      readonly args: contract.SetMinimumTcbEvaluationNumberArgs;
    }
  | { readonly name: 'setAcceptedTcbStatuses'; readonly args: contract.SetAcceptedTcbStatusesArgs }
  | { readonly name: 'setTcbOutOfDateGrace'; readonly args: contract.SetTcbOutOfDateGraceArgs }
  | { readonly name: 'setDeniedFmspc'; readonly args: contract.SetDeniedFmspcArgs };

const UINT64_MAX = 2n ** 64n - 1n;

/** `latest` holds from `from` on, `meanwhile` until then. */
interface Part<T> {
  readonly meanwhile: T;
  readonly latest: T;
  readonly from: number;
}

export class TcbPolicyModel {
  #minimum: Part<number> = { meanwhile: 0, latest: 0, from: 0 };
  #statuses: Part<readonly string[]>;
  #grace: Part<number> = { meanwhile: 0, latest: 0, from: 0 };
  /** By FMSPC, in the order of their first denial: until when. */
  readonly #denied: Map<string, number> = new Map();

  /** @param time of the deployment */
  constructor(time: number) {
    this.#statuses = { meanwhile: ['UpToDate'], latest: ['UpToDate'], from: time };
  }

  /** @param later when what loosens takes effect, in Unix seconds */
  apply({ name, args }: TcbOperation, time: number, later: number): Named {
    switch (name) {
      case 'setMinimumTcbEvaluationNumber': {
        const { tcbEvaluationDataNumber } = args;
        const present = at(this.#minimum, time);
        const loosens = tcbEvaluationDataNumber < present;
        const from = loosens ? later : time;
        this.#minimum = {
          meanwhile: loosens ? present : tcbEvaluationDataNumber,
          latest: tcbEvaluationDataNumber,
          from,
        };
        return { name: 'MinimumTcbEvaluationNumberSet', tcbEvaluationDataNumber, from: BigInt(from) };
      }
      case 'setAcceptedTcbStatuses': {
        const { statuses } = args;
        const latest = namesOf(statuses);
        const present = at(this.#statuses, time);
        const from = latest.every((status) => present.includes(status)) ? time : later;
        this.#statuses = { meanwhile: latest.filter((status) => present.includes(status)), latest, from };
        return { name: 'AcceptedTcbStatusesSet', statuses, from: BigInt(from) };
      }
      case 'setTcbOutOfDateGrace': {
        const { gracePeriod } = args;
        if (gracePeriod > LONGEST_GRACE_SECONDS) {
          refuse('GracePeriodTooLong', { gracePeriod, longest: LONGEST_GRACE_SECONDS });
        }
        const present = at(this.#grace, time);
        const loosens = gracePeriod > present;
        const from = loosens ? later : time;
        this.#grace = { meanwhile: loosens ? present : gracePeriod, latest: gracePeriod, from };
        return { name: 'TcbOutOfDateGraceSet', gracePeriod, from: BigInt(from) };
      }
      case 'setDeniedFmspc':
        return args.denied ? this.#deny(args.fmspc) : this.#allow(args.fmspc, later);
    }
  }

  #deny(fmspc: string): Named {
    if (this.#deniedUntil(fmspc) === UINT64_MAX) refuse('FmspcAlreadyDenied', { fmspc });
    this.#denied.set(fmspc, Number.POSITIVE_INFINITY);
    return { name: 'FmspcDenied', fmspc };
  }

  #allow(fmspc: string, later: number): Named {
    const until = this.#deniedUntil(fmspc);
    if (until !== UINT64_MAX) refuse('FmspcNotDenied', { fmspc, until });
    this.#denied.set(fmspc, later);
    return { name: 'FmspcAllowed', fmspc, from: BigInt(later) };
  }

  /** `tcbPolicy()`, as the bindings decode it. */
  policy(time: number): contract.TcbPolicyResult {
    return {
      minimumTcbEvaluationDataNumber: at(this.#minimum, time),
      statuses: maskOf(at(this.#statuses, time)),
      gracePeriod: at(this.#grace, time),
    };
  }

  nextPolicy(): contract.NextTcbPolicyResult {
    return {
      minimumTcbEvaluationDataNumber: this.#minimum.latest,
      minimumFrom: BigInt(this.#minimum.from),
      statuses: maskOf(this.#statuses.latest),
      statusesFrom: BigInt(this.#statuses.from),
      gracePeriod: this.#grace.latest,
      gracePeriodFrom: BigInt(this.#grace.from),
    };
  }

  isDenied(fmspc: string, time: number): boolean {
    return BigInt(time) < this.#deniedUntil(fmspc);
  }

  /** `deniedFmspcs()`. */
  list(): readonly contract.FmspcView[] {
    return [...this.#denied.keys()].map((fmspc) => ({
      fmspc: parseHex(fmspc),
      deniedUntil: this.#deniedUntil(fmspc),
    }));
  }

  /** Everything here that takes effect at a known time. */
  pendingTimes(): readonly number[] {
    const parts = [this.#minimum, this.#statuses, this.#grace].map(({ from }) => from);
    return [...parts, ...[...this.#denied.values()].filter((until) => Number.isFinite(until))];
  }

  #deniedUntil(fmspc: string): bigint {
    const until = this.#denied.get(fmspc) ?? 0;
    return until === Number.POSITIVE_INFINITY ? UINT64_MAX : BigInt(until);
  }
}

function at<T>({ meanwhile, latest, from }: Part<T>, time: number): T {
  return time < from ? meanwhile : latest;
}

/** The names that bits stand for. */
function namesOf(statuses: number): readonly string[] {
  const bits = [...statuses.toString(2)].reverse();
  const names = bits.flatMap((bit, i) => (bit === '1' ? [TCB_STATUSES[i] ?? `bit ${i}`] : []));
  const known = names.every((name) => name in KNOWN);
  if (!known || !names.includes('UpToDate')) refuse('InvalidTcbStatuses', { statuses });
  return names;
}

const KNOWN = Object.fromEntries(ACCEPTABLE_STATUSES.map((status) => [status, true]));

function maskOf(names: readonly string[]): number {
  return statusMask(ACCEPTABLE_STATUSES.filter((status) => names.includes(status)));
}
