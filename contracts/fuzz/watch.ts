/**
 * The invariants, checked on what the chain shows: accepted calls, their events, and the views. They are independent of the
 * model, so a mistake that model and contract share still has to get past them.
 *
 * The central one is a statement about every block, not about steps: whatever is allowed or in force now has a ripe
 * cause, an event that allowed it, whose delay has passed, and that nothing has undone since. So it covers both that
 * nothing is loosened before its delay and that nothing is tightened late.
 */
import type {
  AppView,
  IsAllowedResult,
  NetworkView,
  RequestView,
  TcbPolicyResult,
} from '../../lib/protocol/network-contract.ts';
import { ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Named } from './refusal.ts';

/** A call that the chain accepted, in the order of the block; addresses in lower case. */
export interface Accepted {
  readonly function: string;
  readonly from: string;
  readonly events: readonly Named[];
}

/** What the views showed after a block; keys are the values asked about. */
export interface Shown {
  readonly network: NetworkView;
  readonly owner: string;
  readonly allowed: readonly {
    readonly measurement: string;
    readonly config: string;
    readonly platform: string;
    readonly result: IsAllowedResult;
  }[];
  readonly apps: readonly AppView[];
  readonly requests: ReadonlyMap<string, RequestView>;
  readonly policy: TcbPolicyResult;
  readonly fmspcs: readonly { readonly fmspc: string; readonly denied: boolean }[];
}

/** What is thrown when the chain shows what must never be. */
export class InvariantBroken extends Error {
  readonly invariant: string;

  constructor(invariant: string, detail: string) {
    super(`invariant broken: ${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

function check(holds: boolean, invariant: string, detail: unknown): asserts holds {
  if (!holds) throw new InvariantBroken(invariant, String(detail));
}

const JOINING = 'what may join has a ripe cause that nothing has undone';
const TCB = 'what the TCB policy lets in has a ripe cause that nothing has undone';
const MANIFEST = 'a manifest in force has a ripe rollout that nothing has undone';
const OPEN_REQUEST = 'no onboard without its open request of that epoch';
const STATUS_BITS = [...Array(16).keys()];
const REVOKED = 6;

export class Watch {
  #owner: string;
  #heir = ZERO_ADDRESS;
  readonly #window: number;
  #networkKey = ZERO_ADDRESS;
  #epoch = 0;
  #onboardings = 0;
  /** The delay in force, and the pending one. */
  #delay: number;
  #shorter: { readonly delay: number; readonly from: number } | undefined;
  /** From when each cause is ripe, by what it allows: `measurement 0x…`. */
  readonly #causes = new Map<string, number>([['status 0', 0]]);
  /** Platforms and FMSPCs that are excluded unless they have a cause of their own. */
  readonly #shutOut = new Set<string>();
  readonly #minimum = new Bound((a, b) => a < b);
  readonly #grace = new Bound((a, b) => a > b);
  readonly #requests = new Map<
    string,
    { readonly block: number; readonly epoch: number; answered: boolean }
  >();

  constructor(owner: string, delay: number, requestWindow: number) {
    [this.#owner, this.#delay, this.#window] = [owner, delay, requestWindow];
  }

  /** @throws InvariantBroken */
  block(number: number, time: number, accepted: readonly Accepted[], shown: Shown): void {
    for (const call of accepted) {
      this.#mayCall(call);
      for (const event of call.events) this.#take(event, number, time);
    }
    this.#ripen(time);
    this.#secret(shown);
    this.#joining(time, shown);
    this.#openRequests(number, shown);
    this.#tcb(time, shown);
    for (const { app, manifestHash } of shown.apps) {
      const ripe = this.#ripe(`manifest ${app} ${manifestHash}`, time);
      check(manifestHash === ZERO_WORD || ripe, MANIFEST, `${manifestHash} of ${app}`);
    }
  }

  #mayCall(call: Accepted): void {
    const one = call.function === 'acceptOwnership' ? this.#heir : this.#owner;
    const mayAnyone = call.function === 'register' || call.function === 'onboard';
    check(mayAnyone || call.from === one, 'only the owner decides', `${call.function} by ${call.from}`);
  }

  #take(event: Named, number: number, time: number): void {
    const text = (field: string): string => String(event[field]);
    this.#ripen(time);
    const ripe = time + (this.#epoch === 0 ? 0 : this.#delay);
    switch (event.name) {
      case 'Bootstrapped':
        check(this.#onboardings === 0, 'bootstrap is closed after the first onboard', text('networkKey'));
        this.#epoch += 1;
        this.#networkKey = text('networkKey');
        check(Number(event.epoch) === this.#epoch, 'each bootstrap raises the epoch by one', text('epoch'));
        break;
      case 'Registered':
        this.#requests.set(text('requestHash'), { block: number, epoch: this.#epoch, answered: false });
        break;
      case 'Onboarded':
        this.#onboarded(event, number, time);
        break;
      case 'MeasurementAllowed':
        this.#causes.set(`measurement ${text('measurement')}`, ripe);
        break;
      case 'MeasurementRevoked':
        this.#causes.delete(`measurement ${text('measurement')}`);
        break;
      case 'ConfigAllowed':
        this.#causes.set(`config ${text('config')}`, ripe);
        break;
      case 'ConfigRevoked':
        this.#causes.delete(`config ${text('config')}`);
        break;
      case 'PlatformAllowed': {
        const mayAnyway = this.#platform(text('platform'), time);
        this.#causes.set(`platform ${text('platform')}`, mayAnyway ? time : ripe);
        break;
      }
      case 'PlatformRevoked':
        this.#causes.delete(`platform ${text('platform')}`);
        this.#shutOut.add(text('platform'));
        break;
      case 'PlatformsOpened':
        this.#causes.set('every platform', ripe);
        break;
      case 'PlatformsClosed':
        this.#causes.delete('every platform');
        break;
      case 'DelaySet': {
        const delay = Number(event.delay);
        this.#shorter = undefined;
        if (delay >= this.#delay || this.#epoch === 0) this.#delay = delay;
        else this.#shorter = { delay, from: time + this.#delay };
        break;
      }
      case 'MinimumTcbEvaluationNumberSet':
        this.#minimum.set(Number(event.tcbEvaluationDataNumber), time, ripe);
        break;
      case 'TcbOutOfDateGraceSet':
        this.#grace.set(Number(event.gracePeriod), time, ripe);
        break;
      case 'AcceptedTcbStatusesSet':
        for (const bit of STATUS_BITS) {
          if (!hasBit(Number(event.statuses), bit)) this.#causes.delete(`status ${bit}`);
          else if (!this.#ripe(`status ${bit}`, time)) this.#causes.set(`status ${bit}`, ripe);
        }
        break;
      case 'FmspcDenied':
        this.#causes.delete(`FMSPC ${text('fmspc')}`);
        this.#shutOut.add(text('fmspc'));
        break;
      case 'FmspcAllowed':
        this.#causes.set(`FMSPC ${text('fmspc')}`, ripe);
        break;
      case 'RolledOut': {
        const cause = `manifest ${text('app')} ${text('manifestHash')}`;
        if (!this.#ripe(cause, time)) this.#causes.set(cause, ripe);
        break;
      }
      case 'RolledBack':
        this.#dropManifests(text('app'), text('manifestHash'));
        break;
      case 'Withdrawn':
        this.#dropManifests(text('app'), ZERO_WORD);
        break;
      case 'OwnershipTransferStarted':
        this.#heir = text('newOwner');
        break;
      case 'OwnershipTransferred':
        [this.#owner, this.#heir] = [text('newOwner'), ZERO_ADDRESS];
        break;
    }
  }

  #onboarded(event: Named, number: number, time: number): void {
    const hash = String(event.requestHash);
    const request = this.#requests.get(hash);
    check(request !== undefined, OPEN_REQUEST, `${hash} was never registered`);
    check(!request.answered, OPEN_REQUEST, `${hash} was answered before`);
    check(request.epoch === this.#epoch, OPEN_REQUEST, `${hash} is of epoch ${request.epoch}`);
    check(number <= request.block + this.#window, 'requests expire', `${hash} of block ${request.block}`);
    const allowed =
      this.#ripe(`measurement ${event.measurement}`, time) && this.#platform(String(event.platform), time);
    check(allowed, 'no onboard of what is not allowed', `${event.measurement} on ${event.platform}`);
    request.answered = true;
    this.#onboardings += 1;
  }

  /** Only bootstrap and onboard decide who holds the secret. */
  #secret({ network, owner }: Shown): void {
    const { epoch, onboarded, delay } = network;
    const key = network.networkKey.toLowerCase();
    const shows = `${key} of epoch ${epoch}`;
    check(
      key === this.#networkKey && epoch === this.#epoch,
      'one secret-holder key: that of the last bootstrap',
      `${shows} instead of ${this.#networkKey} of epoch ${this.#epoch}`,
    );
    check((key === ZERO_ADDRESS) === (epoch === 0), 'a key if and only if there is an epoch', shows);
    check(onboarded === this.#onboardings > 0, 'onboarded is true from the first onboard on', shows);
    check(owner.toLowerCase() === this.#owner, 'the owner is who accepted to be', owner);
    check(delay === this.#delay, 'a delay shortens after itself', `${delay}, not ${this.#delay}`);
  }

  #joining(time: number, shown: Shown): void {
    for (const { measurement, config, platform, result } of shown.allowed) {
      check(
        !result.measurementAllowed || this.#ripe(`measurement ${measurement}`, time),
        JOINING,
        measurement,
      );
      check(!result.configAllowed || this.#ripe(`config ${config}`, time), JOINING, config);
      check(!result.platformAllowed || this.#platform(platform, time), JOINING, platform);
    }
    const open = shown.network.platformsOpen;
    check(!open || this.#ripe('every platform', time), JOINING, 'every platform');
  }

  #openRequests(number: number, { requests }: Shown): void {
    for (const [hash, { state }] of requests) {
      const request = this.#requests.get(hash);
      const answered = request?.answered ?? false;
      const isCurrent = request?.epoch === this.#epoch && number <= (request?.block ?? 0) + this.#window;
      check(state !== 'open' || (isCurrent && !answered), 'requests expire', `${hash} is open`);
      check((state === 'answered') === answered, 'answered once, for ever', hash);
    }
  }

  #tcb(time: number, { policy, fmspcs }: Shown): void {
    const { minimumTcbEvaluationDataNumber: minimum, statuses, gracePeriod } = policy;
    check(this.#minimum.covers(minimum, time), TCB, `a minimum of ${minimum}`);
    check(this.#grace.covers(gracePeriod, time), TCB, `a grace period of ${gracePeriod} s`);
    check(!hasBit(statuses, REVOKED), 'Revoked is never accepted', `statuses ${statuses}`);
    for (const bit of STATUS_BITS) {
      const ripe = this.#ripe(`status ${bit}`, time);
      check(!hasBit(statuses, bit) || ripe, TCB, `bit ${bit} of statuses ${statuses}`);
    }
    for (const { fmspc, denied } of fmspcs) {
      const maybe = !this.#shutOut.has(fmspc) || this.#ripe(`FMSPC ${fmspc}`, time);
      check(denied || maybe, TCB, `FMSPC ${fmspc}`);
    }
  }

  #ripe(cause: string, time: number): boolean {
    return (this.#causes.get(cause) ?? Infinity) <= time;
  }

  #platform(platform: string, time: number): boolean {
    const byAll = this.#ripe('every platform', time) && !this.#shutOut.has(platform);
    return byAll || this.#ripe(`platform ${platform}`, time);
  }

  #ripen(time: number): void {
    if (!this.#shorter || time < this.#shorter.from) return;
    this.#delay = this.#shorter.delay;
    this.#shorter = undefined;
  }

  /** What was abandoned can come back only by a rollout with its own delay; `kept` is what the app went back to. */
  #dropManifests(app: string, kept: string): void {
    for (const cause of this.#causes.keys()) {
      const isOfApp = cause.startsWith(`manifest ${app} `);
      if (isOfApp && cause !== `manifest ${app} ${kept}`) this.#causes.delete(cause);
    }
  }
}

/** Every number that was set and not superseded by a stricter one, with the time from which it may be in force. */
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

  /** Whether a value at least as loose as that is ripe. */
  covers(value: number, time: number): boolean {
    return this.#causes.some((cause) => cause.ripe <= time && !this.#looser(value, cause.value));
  }
}

function hasBit(mask: number, bit: number): boolean {
  return ((mask >> bit) & 1) === 1;
}
