/**
 * The contract's storage, slot by slot, as its events add up to it: what contracts/Network.sol writes, and where its layout
 * puts it. A storage can't be listed, but its root is one hash over all of it. When both agree, no slot holds anything that
 * the events do not explain: nothing is allowed or pending, and nobody was answered, without a trace in the history.
 */
import { keccak256 } from 'ethers';
import { networkStorage } from '../../contracts/bindings.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Entry } from './history.ts';
import { storageRoot, word } from './trie.ts';

/** The enums of Network.sol and INetwork.sol. */
const DEPLOYED = 1n;
const BOOTSTRAPPED = 2n;
const ONBOARDED = 3n;
const OPEN = 1n;
const ANSWERED = 2n;
const FOREVER = 2n ** 64n - 1n;

/** What an app's slots hold; a manifest that is no longer used stays where it was. */
interface StoredApp {
  from: bigint;
  latest: 0 | 1;
  hasLatest: boolean;
  hasPrevious: boolean;
  readonly manifests: [bigint, bigint];
}

/** One part of the TCB policy: `set` holds from `from` on, `before` until then. */
export interface Setting {
  readonly before: number;
  readonly set: number;
  readonly from: number;
}
const NEVER_SET: Setting = { before: 0, set: 0, from: 0 };

export class StorageReplay {
  #owner = 0n;
  #heir = 0n;
  #networkKey = 0n;
  #epoch = 0n;
  #stage = DEPLOYED;
  #delay = 0;
  #delayShortens = false;
  #platformsOpen = false;
  #later = { delay: 0, delayFrom: 0n, platformsOpenFrom: 0n };
  readonly #requests = new Map<string, bigint>();
  readonly #allowedFrom = {
    _measurements: new Map<string, bigint>(),
    _configs: new Map<string, bigint>(),
    _platforms: new Map<string, bigint>(),
  };
  readonly #apps = new Map<string, StoredApp>();
  minimum = NEVER_SET;
  statuses = NEVER_SET;
  grace = NEVER_SET;
  /** Until when each FMSPC that was ever denied is denied; in the order of first denial. */
  readonly deniedUntil = new Map<string, bigint>();

  /** Applies the next event; `Replay` checks whether the contract could have emitted it. */
  take({ event, block, time }: Entry): void {
    switch (event.name) {
      case 'OwnershipTransferred':
        [this.#owner, this.#heir] = [BigInt(event.newOwner), 0n];
        return;
      case 'OwnershipTransferStarted':
        this.#heir = BigInt(event.newOwner);
        return;
      case 'DelaySet':
        this.#setDelay(event.delay, event.from, time);
        return;
      case 'MeasurementAllowed':
        this.#allowedFrom._measurements.set(event.measurement, event.from);
        return;
      case 'MeasurementRevoked':
        this.#allowedFrom._measurements.delete(event.measurement);
        return;
      case 'ConfigAllowed':
        this.#allowedFrom._configs.set(event.config, event.from);
        return;
      case 'ConfigRevoked':
        this.#allowedFrom._configs.delete(event.config);
        return;
      case 'PlatformAllowed':
        this.#allowedFrom._platforms.set(event.platform, event.from);
        return;
      case 'PlatformRevoked':
        this.#allowedFrom._platforms.set(event.platform, FOREVER);
        return;
      case 'PlatformsOpened':
        this.#platformsOpen = true;
        this.#later.platformsOpenFrom = event.from;
        return;
      case 'PlatformsClosed':
        this.#platformsOpen = false;
        return;
      case 'Bootstrapped':
        [this.#networkKey, this.#epoch] = [BigInt(event.networkKey), event.epoch];
        this.#stage = BOOTSTRAPPED;
        return;
      case 'Registered':
        this.#requests.set(
          event.requestHash,
          OPEN | (BigInt(event.node) << 8n) | (BigInt(block) << 168n) | (this.#epoch << 216n),
        );
        return;
      case 'Onboarded':
        this.#stage = ONBOARDED;
        return;
      case 'RolledOut':
        this.#rollOut(event.app, BigInt(event.manifestHash), event.from, time);
        return;
      case 'RolledBack':
        this.#rollBack(this.#app(event.app), time);
        return;
      case 'Withdrawn':
        Object.assign(this.#app(event.app), { hasLatest: false, hasPrevious: false });
        return;
      case 'MinimumTcbEvaluationNumberSet':
        this.minimum = next(this.minimum, event.tcbEvaluationDataNumber, Math.max, event.from, time);
        return;
      case 'AcceptedTcbStatusesSet':
        this.statuses = next(this.statuses, event.statuses, (a, b) => a & b, event.from, time);
        return;
      case 'TcbOutOfDateGraceSet':
        this.grace = next(this.grace, event.gracePeriod, Math.min, event.from, time);
        return;
      case 'FmspcDenied':
        this.deniedUntil.set(event.fmspc, FOREVER);
        return;
      case 'FmspcAllowed':
        this.deniedUntil.set(event.fmspc, event.from);
        return;
      case 'EIP712DomainChanged':
    }
  }

  /** No event has an answer's hash: the state says it, and the storage's root whether that was true. */
  answered(requestHash: string, answerHash: string): void {
    this.#requests.set(requestHash, ((BigInt(answerHash) >> 8n) << 8n) | ANSWERED);
  }

  /** The top 248 bits of the recorded answer's hash, hex without 0x; undefined for a request without one. */
  answerOf(requestHash: string): string | undefined {
    const slot = this.#requests.get(requestHash) ?? 0n;
    return (slot & 0xffn) === ANSWERED ? word(slot).slice(2, 64) : undefined;
  }

  /** What `nextDelay` of the contract says. */
  get nextDelay(): { delay: number; from: bigint } {
    return this.#delayShortens
      ? { delay: this.#later.delay, from: this.#later.delayFrom }
      : { delay: this.#delay, from: 0n };
  }

  /** What `platformsOpenFrom` of the contract says. */
  get platformsOpenFrom(): bigint {
    return this.#platformsOpen ? this.#later.platformsOpenFrom : 0n;
  }

  /** What the contract's views say of an app's latest manifest. */
  appOf(app: string): { latest: string; from: bigint } {
    const stored = this.#apps.get(app);
    return stored?.hasLatest
      ? { latest: word(stored.manifests[stored.latest]), from: stored.from }
      : { latest: word(0n), from: 0n };
  }

  /** What `measurementAllowedFrom` and the like say of a value. */
  allowedFrom(kind: 'measurement' | 'config' | 'platform', value: string): bigint {
    return this.#allowedFrom[`_${kind}s`].get(value) ?? 0n;
  }

  /** 0x-hex, as `storageHash` of `eth_getProof`. */
  root(): string {
    return storageRoot(this.#slots());
  }

  #setDelay(delay: number, from: bigint, time: number): void {
    const present =
      this.#delayShortens && BigInt(time) >= this.#later.delayFrom ? this.#later.delay : this.#delay;
    this.#delayShortens = this.#epoch !== 0n && delay < present;
    this.#delay = this.#delayShortens ? present : delay;
    if (this.#delayShortens) Object.assign(this.#later, { delay, delayFrom: from });
  }

  #app(name: string): StoredApp {
    const stored = this.#apps.get(name) ?? {
      from: 0n,
      latest: 0,
      hasLatest: false,
      hasPrevious: false,
      manifests: [0n, 0n],
    };
    this.#apps.set(name, stored);
    return stored;
  }

  #rollOut(name: string, manifest: bigint, from: bigint, time: number): void {
    const app = this.#app(name);
    if (app.hasLatest && BigInt(time) >= app.from) {
      app.latest = app.latest === 0 ? 1 : 0;
      app.hasPrevious = true;
    }
    app.manifests[app.latest] = manifest;
    [app.from, app.hasLatest] = [from, true];
  }

  #rollBack(app: StoredApp, time: number): void {
    if (!app.hasPrevious) {
      app.hasLatest = false;
      return;
    }
    app.latest = app.latest === 0 ? 1 : 0;
    [app.from, app.hasPrevious] = [BigInt(time), false];
  }

  #slots(): Map<bigint, bigint> {
    const slots = new Map<bigint, bigint>([
      [slotOf('_owner'), this.#owner],
      [slotOf('_pendingOwner'), this.#heir],
      [
        slotOf('_core'),
        this.#networkKey |
          (this.#epoch << 160n) |
          (this.#stage << 192n) |
          (BigInt(this.#delay) << 200n) |
          (bit(this.#delayShortens) << 232n) |
          (bit(this.#platformsOpen) << 240n),
      ],
      [
        slotOf('_later'),
        BigInt(this.#later.delay) | (this.#later.delayFrom << 32n) | (this.#later.platformsOpenFrom << 96n),
      ],
      [slotOf('_tcbMinimum'), settingWord(this.minimum)],
      [slotOf('_tcbStatuses'), settingWord(this.statuses)],
      [slotOf('_tcbGracePeriod'), settingWord(this.grace)],
    ]);
    const map = (label: string, values: ReadonlyMap<string, bigint>) => {
      for (const [key, value] of values) slots.set(inMapping(slotOf(label), key), value);
    };
    map('_requests', this.#requests);
    for (const label of ['_measurements', '_configs', '_platforms'] as const) {
      map(label, this.#allowedFrom[label]);
    }
    map('_deniedFmspcs', this.deniedUntil);
    for (const [name, app] of this.#apps) {
      const at = inMapping(slotOf('_apps'), name);
      slots
        .set(at, appWord(app))
        .set(at + 1n, app.manifests[0])
        .set(at + 2n, app.manifests[1]);
    }
    list(slots, slotOf('_appNames'), [...this.#apps.keys()].map(BigInt), 32);
    list(slots, slotOf('_fmspcList'), [...this.deniedUntil.keys()].map(BigInt), 6);
    return slots;
  }
}

/** As the contract's `_set`: the stricter of the new value and the one in force holds until `from`. */
function next(
  present: Setting,
  value: number,
  stricter: (value: number, present: number) => number,
  from: bigint,
  time: number,
): Setting {
  const inForce = time >= present.from ? present.set : present.before;
  return { before: stricter(value, inForce), set: value, from: Number(from) };
}

const settingWord = ({ before, set, from }: Setting): bigint =>
  BigInt(before) | (BigInt(set) << 32n) | (BigInt(from) << 64n);

const appWord = ({ from, latest, hasLatest, hasPrevious }: StoredApp): bigint =>
  from | (BigInt(latest) << 64n) | (bit(hasLatest) << 72n) | (bit(hasPrevious) << 80n) | (1n << 88n);

const bit = (value: boolean): bigint => (value ? 1n : 0n);

/** Slots that Ethereum's tries leave out while they are empty; the constructor writes a zero to the first of them. */
export const OFTEN_ZERO: readonly string[] = [
  '_pendingOwner',
  '_later',
  '_tcbMinimum',
  '_tcbGracePeriod',
].map((label) => word(slotOf(label)));

/** Where a state variable lives; each has a slot of its own. */
function slotOf(label: string): bigint {
  const found = networkStorage.find((variable) => variable.label === label);
  if (found === undefined || found.offset !== 0) {
    throw new DstackError('AUDIT_LAYOUT', `contracts/bindings.ts has no slot of its own for ${label}`);
  }
  return BigInt(found.slot);
}

/** Solidity's layout of mappings. @param key 0x-hex; bytes of fewer than 32 are padded on the right, as values of bytesN are */
function inMapping(slot: bigint, key: string): bigint {
  return BigInt(keccak256(`0x${key.slice(2).padEnd(64, '0')}${word(slot).slice(2)}`));
}

/** Solidity's layout of dynamic arrays: the length, and from its slot's hash on as many in a slot as fit. */
function list(slots: Map<bigint, bigint>, slot: bigint, values: readonly bigint[], bytes: number): void {
  slots.set(slot, BigInt(values.length));
  const first = BigInt(keccak256(word(slot)));
  const perSlot = Math.floor(32 / bytes);
  for (const [at, value] of values.entries()) {
    const where = first + BigInt(Math.floor(at / perSlot));
    slots.set(where, (slots.get(where) ?? 0n) | (value << BigInt((at % perSlot) * bytes * 8)));
  }
}
