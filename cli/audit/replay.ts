/**
 * The contract's rules, applied to its events: what was allowed, pending and revoked at each point of the history, and
 * whether the contract could have emitted this at all. A history from which an event was taken, or into which one was
 * put, mostly can't be replayed; what still can is caught when the end is compared with the contract's state.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  type Address,
  addressKey,
  bareHex,
  type Hex,
  parseHex,
  ZERO_ADDRESS,
  ZERO_WORD,
} from '../../lib/protocol/hex.ts';
import type { Entry } from './history.ts';
import { type TcbPolicy, TcbReplay } from './tcb-replay.ts';

/** The lists that let a node in. */
export type Kind = 'measurement' | 'config' | 'platform';
export const kinds: readonly Kind[] = ['measurement', 'config', 'platform'];

/** How a value stands: allowed since, pending until, revoked at, or never listed. Unix seconds. */
export type Standing =
  | { readonly is: 'allowed'; readonly since: number }
  | { readonly is: 'pending'; readonly from: number }
  | { readonly is: 'revoked'; readonly at: number }
  | { readonly is: 'unlisted' };

/** A change by the owner that has not taken effect yet. */
export interface Pending {
  readonly what: string;
  /** Unix seconds. */
  readonly from: number;
}

export interface AppState {
  manifest: string | undefined;
  previous: string | undefined;
  /** Since or from when `manifest` is in force. */
  from: number;
}

/** A request as it was registered. `time` is its block's, in Unix seconds, and `policy` what held then. */
export interface Request {
  readonly node: Address;
  readonly epoch: number;
  readonly block: number;
  readonly time: number;
  readonly policy: TcbPolicy;
  answered: boolean;
}

/** 1 to 31 characters of a-z, 0-9 and "-", padded with zeros, in hex: the contract takes no other. */
const APP = /^0x(?=.{64}$)(6[1-9a-f]|7[0-9a]|3[0-9]|2d){1,31}(00)+$/;

export class Replay {
  owner = '';
  heir: string | undefined;
  networkKey: Address = ZERO_ADDRESS;
  /** Of all epochs. */
  readonly networkKeys = new Set<Address>();
  epoch = 0;
  onboarded = false;
  readonly apps = new Map<string, AppState>();
  /** Requests by hash: who asked, in which epoch, and whether it was answered. */
  readonly requests = new Map<string, Request>();
  readonly #tcb = new TcbReplay();
  #delay = 0;
  #shorterDelay: { delay: number; from: number } | undefined;
  #platformsOpenFrom: number | undefined;
  readonly #allowedFrom: Record<Kind, Map<string, number>> = {
    measurement: new Map(),
    config: new Map(),
    platform: new Map(),
  };
  readonly #revokedAt: Record<Kind, Map<string, number>> = {
    measurement: new Map(),
    config: new Map(),
    platform: new Map(),
  };

  /** Applies the next event. @throws HISTORY_BROKEN for one that the contract could not have emitted here */
  take({ event, block, time }: Entry): void {
    switch (event.name) {
      case 'OwnershipTransferred':
        require(event.previousOwner === this.owner ||
          this.owner === '', 'ownership passes from who did not have it');
        [this.owner, this.heir] = [event.newOwner, undefined];
        return;
      case 'OwnershipTransferStarted':
        this.heir = event.newOwner;
        return;
      case 'DelaySet':
        this.#takeDelay(event.delay, Number(event.from), time);
        return;
      case 'MeasurementAllowed':
        this.#allow('measurement', event.measurement, Number(event.from), time);
        return;
      case 'ConfigAllowed':
        this.#allow('config', event.config, Number(event.from), time);
        return;
      case 'PlatformAllowed':
        this.#allow('platform', event.platform, Number(event.from), time);
        return;
      case 'MeasurementRevoked':
        this.#revoke('measurement', event.measurement, time);
        return;
      case 'ConfigRevoked':
        this.#revoke('config', event.config, time);
        return;
      case 'PlatformRevoked':
        this.#revoke('platform', event.platform, time);
        return;
      case 'PlatformsOpened':
        this.#requireDelay(Number(event.from), time, 'platforms were opened');
        this.#platformsOpenFrom = Number(event.from);
        return;
      case 'PlatformsClosed':
        require(this.#platformsOpenFrom !== undefined, 'platforms were closed that were not open');
        this.#platformsOpenFrom = undefined;
        return;
      case 'Bootstrapped':
        require(!this.onboarded, 'a bootstrap after a node was onboarded');
        require(Number(event.epoch) === this.epoch + 1, `epoch ${event.epoch} follows epoch ${this.epoch}`);
        this.#requireAllowed(event, time);
        [this.epoch, this.networkKey] = [Number(event.epoch), event.networkKey];
        this.networkKeys.add(addressKey(event.networkKey));
        return;
      case 'Registered': {
        const known = this.requests.get(event.requestHash);
        require(this.epoch > 0, 'a request before the first bootstrap');
        require(known === undefined || !known.answered, 'a request that was answered was registered again');
        this.requests.set(event.requestHash, {
          node: event.node,
          epoch: this.epoch,
          block,
          time,
          policy: this.tcbPolicyAt(time),
          answered: false,
        });
        return;
      }
      case 'Onboarded': {
        const request = this.requests.get(event.requestHash);
        require(request !== undefined, `request ${event.requestHash} was answered and never registered`);
        require(!request.answered, `request ${event.requestHash} was answered twice`);
        require(request.epoch === this.epoch, `request ${event.requestHash} is of epoch ${request.epoch}`);
        this.#requireAllowed(event, time);
        request.answered = true;
        this.onboarded = true;
        return;
      }
      case 'RolledOut':
        this.#rollOut(event.app, event.manifestHash, Number(event.from), time);
        return;
      case 'RolledBack':
        this.#rollBack(event.app, event.manifestHash, time);
        return;
      case 'Withdrawn':
        require(this.apps.get(event.app)?.manifest !== undefined, 'an app without a manifest was withdrawn');
        this.apps.set(event.app, { manifest: undefined, previous: undefined, from: 0 });
        return;
      case 'MinimumTcbEvaluationNumberSet':
      case 'AcceptedTcbStatusesSet':
      case 'TcbOutOfDateGraceSet':
      case 'FmspcDenied':
      case 'FmspcAllowed': {
        const impossible = this.#tcb.take(event, time, this.#loosensFrom(time));
        require(impossible === undefined, impossible ?? '');
        return;
      }
      case 'EIP712DomainChanged':
        throw new DstackError('HISTORY_BROKEN', 'the contract never changes its EIP-712 domain');
    }
  }

  /** Seconds that loosening takes at this time. */
  delayAt(time: number): number {
    return this.#shorterDelay !== undefined && time >= this.#shorterDelay.from
      ? this.#shorterDelay.delay
      : this.#delay;
  }

  /** What onboarders had to enforce; `time` is not before the last event taken. */
  tcbPolicyAt(time: number): TcbPolicy {
    return this.#tcb.policyAt(time);
  }

  platformsOpenAt(time: number): boolean {
    return this.#platformsOpenFrom !== undefined && time >= this.#platformsOpenFrom;
  }

  standing(kind: Kind, value: string, time: number): Standing {
    const from = this.#allowedFrom[kind].get(value);
    const revoked = this.#revokedAt[kind].get(value);
    if (from !== undefined) return time >= from ? { is: 'allowed', since: from } : { is: 'pending', from };
    if (revoked !== undefined) return { is: 'revoked', at: revoked };
    if (kind === 'platform' && this.platformsOpenAt(time)) {
      return { is: 'allowed', since: this.#platformsOpenFrom ?? time };
    }
    return { is: 'unlisted' };
  }

  /** Whether a value was ever listed or revoked. */
  wasListed(kind: Kind, value: string): boolean {
    return this.#allowedFrom[kind].has(value) || this.#revokedAt[kind].has(value);
  }

  /** Every value of a kind that was ever listed or revoked. */
  valuesOf(kind: Kind): string[] {
    return [...new Set([...this.#allowedFrom[kind].keys(), ...this.#revokedAt[kind].keys()])];
  }

  /** Every listed value that is allowed at this time: hex without 0x. Platforms may be open besides. */
  allowedAt(time: number): Record<Kind, Hex[]> {
    const of = (kind: Kind) =>
      [...this.#allowedFrom[kind]]
        .filter(([, from]) => time >= from)
        .map(([value]) => bareHex(parseHex(value)));
    return { measurement: of('measurement'), config: of('config'), platform: of('platform') };
  }

  /** Whose manifest is in force at this time. */
  manifestAt(app: string, time: number): string | undefined {
    const state = this.apps.get(app);
    if (state === undefined) return undefined;
    return time >= state.from ? state.manifest : state.previous;
  }

  /** Loosenings by the owner that are still pending. */
  pendingAt(time: number): Pending[] {
    const lists = kinds.flatMap((kind) =>
      [...this.#allowedFrom[kind]].map(([value, from]) => ({ what: `${kind} ${value} is allowed`, from })),
    );
    const apps = [...this.apps].map(([app, { manifest, from }]) => ({
      what: `app ${app} runs manifest ${manifest}`,
      from,
    }));
    const open =
      this.#platformsOpenFrom === undefined
        ? []
        : [{ what: 'any platform may join', from: this.#platformsOpenFrom }];
    const delay =
      this.#shorterDelay === undefined
        ? []
        : [{ what: `the delay is ${this.#shorterDelay.delay} s`, from: this.#shorterDelay.from }];
    return [...lists, ...apps, ...open, ...delay, ...this.#tcb.changes()].filter(({ from }) => from > time);
  }

  #takeDelay(delay: number, from: number, time: number): void {
    const present = this.delayAt(time);
    const shortens = this.epoch > 0 && delay < present;
    require(from === time + (shortens ? present : 0), `a delay of ${delay} s counts from ${from}`);
    this.#delay = shortens ? present : delay;
    this.#shorterDelay = shortens ? { delay, from } : undefined;
  }

  #allow(kind: Kind, value: string, from: number, time: number): void {
    require(!this.#allowedFrom[kind].has(value), `${kind} ${value} was allowed twice`);
    const joinsAnyway =
      kind === 'platform' && this.platformsOpenAt(time) && !this.#revokedAt.platform.has(value);
    if (joinsAnyway) require(from === time, `platform ${value} could join and was delayed`);
    else this.#requireDelay(from, time, `${kind} ${value} was allowed`);
    this.#allowedFrom[kind].set(value, from);
    this.#revokedAt[kind].delete(value);
  }

  #revoke(kind: Kind, value: string, time: number): void {
    const listed = this.#allowedFrom[kind].delete(value);
    const known = kind === 'platform' ? !this.#revokedAt.platform.has(value) : listed;
    require(known, `${kind} ${value} was revoked and was not allowed`);
    this.#revokedAt[kind].set(value, time);
  }

  #rollOut(app: string, manifest: string, from: number, time: number): void {
    require(APP.test(app), `an app is named ${app}, which is no name`);
    this.#requireDelay(from, time, `manifest ${manifest} was rolled out`);
    const present = this.apps.get(app);
    const inForce = present !== undefined && time >= present.from ? present.manifest : present?.previous;
    this.apps.set(app, { manifest, previous: inForce, from });
  }

  #rollBack(app: string, manifest: string, time: number): void {
    const present = this.apps.get(app);
    require(present?.manifest !== undefined, `app ${app} was rolled back and had no manifest`);
    require((present.previous ?? ZERO_WORD) === manifest, `app ${app} was rolled back to another manifest`);
    const previous = present.previous;
    this.apps.set(app, {
      manifest: previous,
      previous: undefined,
      from: previous === undefined ? 0 : time,
    });
  }

  #requireDelay(from: number, time: number, what: string): void {
    const earliest = this.#loosensFrom(time);
    require(from === earliest, `${what} from ${from}, its delay ends at ${earliest}`);
  }

  #loosensFrom(time: number): number {
    return time + (this.epoch === 0 ? 0 : this.delayAt(time));
  }

  #requireAllowed(values: { measurement: string; platform: string; config?: string }, time: number): void {
    for (const kind of kinds) {
      const value = values[kind];
      if (value === undefined) continue;
      const { is } = this.standing(kind, value, time);
      require(is === 'allowed', `${kind} ${value} was ${is} when it was let in`);
    }
  }
}

function require(holds: boolean, what: string): asserts holds {
  if (!holds) throw new DstackError('HISTORY_BROKEN', `the contract could not have done this: ${what}`);
}
