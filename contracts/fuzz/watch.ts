/**
 * The invariants, in words, checked on what the chain shows: accepted calls, their events, and the views. It knows nothing
 * of the model, so that one mistaken idea in both model and contract still has to get past these.
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
} from '../../lib/protocol/network-contract.ts';
import { check } from './invariant.ts';
import { ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Named } from './refusal.ts';
import { type TcbShown, TcbWatch } from './tcb-watch.ts';

/** A call that the chain took, in the order of the block. */
export interface Accepted {
  readonly function: string;
  /** Who called the network: the owner's contract, not who made it act. */
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
  readonly tcb: TcbShown;
}

/** What anyone may call. */
const OPEN_TO_ALL: ReadonlySet<string> = new Set(['register', 'onboard']);

export class Watch {
  #owner: string;
  #heir = ZERO_ADDRESS;
  readonly #window: number;
  #networkKey = ZERO_ADDRESS;
  #epoch = 0;
  #onboardings = 0;
  /** The delay in force, and the one that is to come. */
  #delay: number;
  #shorter: { readonly delay: number; readonly from: number } | undefined;
  /** From when each cause is ripe, by what it allows: `measurement 0x…`. */
  readonly #causes = new Map<string, number>();
  readonly #revoked = new Set<string>();
  readonly #tcb = new TcbWatch();
  readonly #manifests: { readonly app: string; readonly manifest: string; readonly ripe: number }[] = [];
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
    this.#containers(time, shown);
    this.#openRequests(number, shown);
    this.#tcb.shown(shown.tcb, time);
  }

  #mayCall(call: Accepted): void {
    check(
      OPEN_TO_ALL.has(call.function) ||
        call.from === (call.function === 'acceptOwnership' ? this.#heir : this.#owner),
      'only the owner decides',
      () => `${call.function} by ${call.from}, the owner is ${this.#owner}`,
    );
  }

  #take(event: Named, number: number, time: number): void {
    const text = (field: string): string => String(event[field]);
    this.#ripen(time);
    const ripe = time + (this.#epoch === 0 ? 0 : this.#delay);
    this.#tcb.take(event, time, ripe);
    switch (event.name) {
      case 'Bootstrapped':
        check(this.#onboardings === 0, 'bootstrap is closed after the first onboard', () =>
          text('networkKey'),
        );
        this.#epoch += 1;
        this.#networkKey = text('networkKey');
        check(Number(event.epoch) === this.#epoch, 'each bootstrap raises the epoch by one', () =>
          text('epoch'),
        );
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
        this.#revoked.add(text('platform'));
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
      case 'RolledOut':
        this.#manifests.push({ app: text('app'), manifest: text('manifestHash'), ripe });
        break;
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
    const rule = 'no onboard without its open request of that epoch';
    check(request !== undefined, rule, () => `${hash} was never registered`);
    check(!request.answered, rule, () => `${hash} was answered before`);
    check(request.epoch === this.#epoch, rule, () => `${hash} is of epoch ${request.epoch}`);
    check(
      number <= request.block + this.#window,
      'requests expire',
      () => `${hash} of block ${request.block}`,
    );
    const ripe = (cause: string): boolean => (this.#causes.get(cause) ?? Infinity) <= time;
    const allowed = ripe(`measurement ${event.measurement}`) && this.#platform(String(event.platform), time);
    check(allowed, 'no onboard of what is not allowed', () => `${event.measurement} on ${event.platform}`);
    request.answered = true;
    this.#onboardings += 1;
  }

  /** Who holds the secret is decided by bootstrap and onboard alone. */
  #secret({ network, owner }: Shown): void {
    const shows = `${network.networkKey} of epoch ${network.epoch}`;
    check(
      network.networkKey.toLowerCase() === this.#networkKey && network.epoch === this.#epoch,
      'one secret-holder key: that of the last bootstrap',
      () => `${shows} instead of ${this.#networkKey} of epoch ${this.#epoch}`,
    );
    check(
      (network.networkKey === ZERO_ADDRESS) === (network.epoch === 0),
      'a key if and only if there is an epoch',
      () => shows,
    );
    check(
      network.onboarded === this.#onboardings > 0,
      'onboarded is true from the first onboard on',
      () => shows,
    );
    check(owner.toLowerCase() === this.#owner, 'the owner is who accepted to be', () => owner);
    check(
      network.delay === this.#delay,
      'a delay shortens after itself',
      () => `${network.delay}, not ${this.#delay}`,
    );
  }

  #joining(time: number, shown: Shown): void {
    const rule = 'what may join has a ripe cause that nothing has undone';
    const ripe = (cause: string): boolean => (this.#causes.get(cause) ?? Infinity) <= time;
    for (const { measurement, config, platform, result } of shown.allowed) {
      check(!result.measurementAllowed || ripe(`measurement ${measurement}`), rule, () => measurement);
      check(!result.configAllowed || ripe(`config ${config}`), rule, () => config);
      check(!result.platformAllowed || this.#platform(platform, time), rule, () => platform);
    }
    check(!shown.network.platformsOpen || ripe('every platform'), rule, () => 'every platform');
  }

  #platform(platform: string, time: number): boolean {
    const listed = this.#causes.get(`platform ${platform}`);
    const open = this.#causes.get('every platform');
    return (listed ?? Infinity) <= time || ((open ?? Infinity) <= time && !this.#revoked.has(platform));
  }

  #containers(time: number, { apps }: Shown): void {
    for (const { app, manifestHash } of apps) {
      const ripe = this.#manifests.some(
        (cause) => cause.app === app && cause.manifest === manifestHash && cause.ripe <= time,
      );
      check(
        manifestHash === ZERO_WORD || ripe,
        'a manifest in force has a ripe rollout that nothing has undone',
        () => `${manifestHash} of ${app}`,
      );
    }
  }

  #openRequests(number: number, { requests }: Shown): void {
    for (const [hash, { state }] of requests) {
      const request = this.#requests.get(hash);
      const isCurrent = request?.epoch === this.#epoch && number <= (request?.block ?? 0) + this.#window;
      check(
        state !== 'open' || (isCurrent && !request?.answered),
        'requests expire',
        () => `${hash} is open`,
      );
      check((state === 'answered') === (request?.answered ?? false), 'answered once, for ever', () => hash);
    }
  }

  #ripen(time: number): void {
    if (!this.#shorter || time < this.#shorter.from) return;
    this.#delay = this.#shorter.delay;
    this.#shorter = undefined;
  }

  /** What was left can come back only by a rollout with its own delay; `kept` is what the app went back to. */
  #dropManifests(app: string, kept: string): void {
    for (let i = this.#manifests.length - 1; i >= 0; i--) {
      const cause = this.#manifests[i]!;
      if (cause.app === app && cause.manifest !== kept) this.#manifests.splice(i, 1);
    }
  }
}
