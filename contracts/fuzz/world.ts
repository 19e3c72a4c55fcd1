/**
 * Gives a drawn choice its meaning: which account sends which call, with which signature, given what the model's network
 * looks like at that moment. Pure; it reads the model and never changes it.
 */
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import type { RegisterArgs, VerifyAttestationArgs } from '../../lib/protocol/network-contract.ts';
import { addressOf, compact, keccak256, sign } from '../../lib/protocol/secp256k1.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
  requestDigest,
  requestHash,
} from '../../lib/protocol/typed-data.ts';
import { appId, value } from '../fixture.ts';
import { networkInterface } from '../interface.ts';
import { type BlockContext, type NetworkModel, type Operation, ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Choice } from './sequence.ts';
import { tcbOperation } from './tcb-choices.ts';

/** The accounts of a sequence, lower case. */
export interface Accounts {
  readonly owner: string;
  readonly heir: string;
  readonly relay: string;
  readonly stranger: string;
}

/** A call as it will be sent. */
export interface Call {
  readonly from: string;
  readonly operation: Operation;
}

const word = (name: string): string => to0x(value(name));
/** What is drawn from; the last of each is zero, which is never a value. */
export const MEASUREMENTS: readonly string[] = ['measurement', 'measurement 2', 'measurement 3'].map(word);
export const CONFIGS: readonly string[] = ['config', 'config 2', 'config 3'].map(word);
export const PLATFORMS: readonly string[] = ['platform', 'platform 2', 'platform 3'].map(word);
const MANIFESTS = ['manifest', 'manifest 2', 'manifest 3', 'manifest 4'].map(word);
const APPS = ['web', 'a', `z${'9'.repeat(29)}-`].map(appId);
/** Each breaks one rule of names: empty, too long, a capital, something after the end, what borders on the ranges. */
const NOT_APPS = [
  ZERO_WORD,
  `0x${'61'.repeat(32)}`,
  appId('Web'),
  `0x61${'00'.repeat(30)}61`,
  `0x6100${'61'.padEnd(60, '0')}`,
  ...['`', '{', '/', ':', ',', '.'].map((char) => appId(`a${char}b`)),
  `0x00${'61'.padEnd(62, '0')}`,
  `0xff${'00'.repeat(31)}`,
];
const DELAYS = [1_000, 0, 1, 500, 86_400, 365 * 86_400, 365 * 86_400 + 1, 2 ** 32 - 1];
const NETWORK_KEYS = ['network key', 'network key 2', 'network key 3'].map(value);
const NODE_KEYS = ['node', 'node 2', 'node 3', 'node 4', 'node 5'].map(value);
const KEY_OF = new Map(NETWORK_KEYS.map((key) => [addressOf(key).toLowerCase(), key]));

/** secp256k1's order (SEC 2, 2.4.1). */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const hex32 = (number: bigint): string => `0x${number.toString(16).padStart(64, '0')}`;

const at = <T>(list: readonly T[], pick: number): T => list[pick % list.length]!;
/** Rarely (1 in 12) zero, else one of the pool. */
const drawn = (pool: readonly string[], pick: number): string =>
  pick % 12 === 11 ? ZERO_WORD : at(pool, pick);

export class World {
  readonly model: NetworkModel;
  readonly accounts: Accounts;
  /** Where the contract is. */
  readonly address: string;
  /** Every request that was accepted, and a few that nobody made; in the order of their first registration. */
  readonly requestHashes: string[] = [];
  readonly #sent: Call[] = [];
  #spamCount = 0;

  constructor(model: NetworkModel, accounts: Accounts, address: string) {
    this.model = model;
    this.accounts = accounts;
    this.address = address;
  }

  /** Called for every call that is sent, for later replays. */
  remember(call: Call, requestHash: string | undefined): void {
    this.#sent.push(call);
    if (requestHash !== undefined && !this.requestHashes.includes(requestHash)) {
      this.requestHashes.push(requestHash);
    }
  }

  /** The calls that a choice means, in order; none for `attest`, or for a replay when nothing was sent yet. */
  calls(choice: Choice, block: BlockContext): readonly Call[] {
    const own = this.#calls(choice, block);
    const thief = choice.pick % 2 ? this.accounts.stranger : this.accounts.relay;
    return choice.frontRun ? own.flatMap((call) => [{ ...call, from: thief }, call]) : own;
  }

  #calls(choice: Choice, block: BlockContext): readonly Call[] {
    const { kind, pick, other } = choice;
    const byOwner = (operation: Operation): readonly Call[] => [
      { from: this.#ownerOrNot(choice), operation },
    ];
    const byAnyone = (operation: Operation): readonly Call[] => [{ from: this.#anyone(choice), operation }];
    switch (kind) {
      case 'attest':
        return [];
      case 'replay': {
        if (this.#sent.length === 0) return [];
        const { operation, from } = at(this.#sent, pick);
        return [{ operation, from: choice.actor < 6 ? from : this.#anyone(choice) }];
      }
      case 'malformed':
        return [{ from: this.#anyone(choice), operation: malformed(choice) }];
      case 'spam':
        return Array.from({ length: 6 }, (_, i) => ({
          from: this.accounts.stranger,
          operation: this.#register({ ...choice, pick: i, other: 100 + this.#spamCount++ }, block),
        }));
      case 'bootstrap':
        return byOwner(this.#bootstrap(choice, block));
      case 'register':
        return byAnyone(this.#register(choice, block));
      case 'register and onboard':
        return this.#registerAndOnboard(choice, block);
      case 'onboard':
        return byAnyone(this.#onboard(choice, block));
      case 'allowMeasurement':
        return byOwner({ name: kind, args: { measurement: drawn(MEASUREMENTS, pick) } });
      case 'allowConfig':
        return byOwner({ name: kind, args: { config: drawn(CONFIGS, pick) } });
      case 'allowPlatform':
        return byOwner({ name: kind, args: { platform: drawn(PLATFORMS, pick) } });
      case 'revokeMeasurement': {
        const listed = mostly([...this.model.measurements.keys()], MEASUREMENTS, choice);
        return byOwner({ name: kind, args: { measurement: drawn(listed, pick) } });
      }
      case 'revokeConfig':
        return byOwner({
          name: kind,
          args: { config: drawn(mostly([...this.model.configs.keys()], CONFIGS, choice), pick) },
        });
      case 'revokePlatform': {
        const listed = [...this.model.platforms].flatMap(([it, from]) => (from === 'revoked' ? [] : [it]));
        return byOwner({ name: kind, args: { platform: drawn(mostly(listed, PLATFORMS, choice), pick) } });
      }
      case 'setMinimumTcbEvaluationNumber':
      case 'setAcceptedTcbStatuses':
      case 'setTcbOutOfDateGrace':
      case 'setDeniedFmspc':
        return byOwner(tcbOperation(kind, choice, this.model.tcb, block.time));
      case 'setDelay':
        return byOwner({ name: kind, args: { delay: at(DELAYS, pick) } });
      case 'rollout':
        return byOwner({ name: kind, args: { app: app(pick), manifestHash: drawn(MANIFESTS, other) } });
      case 'rollback':
      case 'withdraw': {
        const running = [...this.model.apps].flatMap(([it, { inForce, pending }]) =>
          inForce || pending ? [it] : [],
        );
        return byOwner({
          name: kind,
          args: { app: other % 4 < 3 && running.length > 0 ? at(running, pick) : app(pick) },
        });
      }
      case 'transferOwnership': {
        const { heir, owner, relay, stranger } = this.accounts;
        return byOwner({
          name: kind,
          args: { newOwner: at([heir, owner, relay, stranger, ZERO_ADDRESS], pick) },
        });
      }
      case 'acceptOwnership': {
        const heir = this.model.pendingOwner;
        const from = choice.actor < 11 && heir !== ZERO_ADDRESS ? heir : this.#anyone(choice);
        return [{ from, operation: { name: kind, args: {} } }];
      }
      case 'openPlatforms':
      case 'closePlatforms':
      case 'renounceOwnership':
        return byOwner({ name: kind, args: {} });
    }
  }

  /** An attestation, good or not, for `verifyAttestation`. */
  attestation(choice: Choice): VerifyAttestationArgs {
    const { pick, other, flaw } = choice;
    const app = at(APPS, pick);
    const tag = at(['', 'price', 'ü'.repeat(40)], other);
    const data = new Uint8Array(at([0, 1, 32, 500], pick));
    const key = flaw === 'other key' ? at(NODE_KEYS, pick) : this.#networkPrivateKey(pick);
    const digest = attestationDigest(this.#domain(flaw), { app: fromHex(app), tag, data });
    const { r, s, v } = sign(digest, key);
    const good = { app, tag, data: to0x(data), v: v as number, r: to0x(r) as string, s: to0x(s) as string };
    switch (flaw) {
      case 'high s':
        return { ...good, v: v === 27 ? 28 : 27, s: hex32(ORDER - BigInt(good.s)) };
      case 'no signature':
        return { ...good, v: pick % 2 ? 27 : 0, r: ZERO_WORD, s: ZERO_WORD };
      case 'r out of range':
        return { ...good, r: hex32(ORDER) };
      case 'other purpose':
        return { ...good, v: v - 27 };
      case 'other field':
        return { ...good, tag: `${tag} ` };
      default:
        return good;
    }
  }

  // ------------------------------------------------------------- signed calls

  #bootstrap(choice: Choice, block: BlockContext): Operation {
    const { flaw, pick, other } = choice;
    const key = at(NETWORK_KEYS, pick);
    // A recent block under a wrong hash, or an unusual block.
    const otherHash = flaw === 'other block' && pick % 3 === 0;
    const blockNumber =
      flaw === 'other block' && !otherHash ? oddBlock(other, block) : block.number - 1 - (other % 2);
    const known = block.hashOf(BigInt(blockNumber)) ?? word('forgotten block');
    const typed = {
      networkKey: addressOf(key).toLowerCase(),
      ...bytesOf(this.#identity(choice, block)),
      quoteHash: value(`quote ${other % 3}`),
      blockNumber,
      blockHash: fromHex(otherHash ? word("another chain's block") : known),
      epoch: this.model.epoch + (flaw === 'other epoch' ? (pick % 2 ? 0 : 2) : 1),
    };
    const digest =
      flaw === 'other purpose'
        ? requestDigest(this.model.domain, typed.quoteHash)
        : bootstrapDigest(this.#domain(flaw), typed);
    const args = {
      ...hexOf(typed),
      networkKey: flaw === 'zero signer' ? ZERO_ADDRESS : typed.networkKey,
      quoteHash: to0x(typed.quoteHash),
      blockNumber: BigInt(blockNumber),
      blockHash: to0x(typed.blockHash),
      ...this.#signature(digest, key, choice),
    };
    return {
      name: 'bootstrap',
      args: flaw === 'other field' ? { ...args, ...changed(args, ['quoteHash', 'networkKey'], pick) } : args,
    };
  }

  #register(choice: Choice, block: BlockContext): Operation {
    const { flaw, pick, other } = choice;
    const key = at(NODE_KEYS, pick);
    const blockNumber = flaw === 'other block' ? oddBlock(other, block) : block.number - 1 - (other % 2);
    const blockHash = block.hashOf(BigInt(blockNumber)) ?? word('forgotten block');
    const typed = {
      node: addressOf(key).toLowerCase(),
      kemKeyHash: value(`KEM key ${other}`),
      quoteHash: value('quote'),
      blockNumber,
      blockHash: fromHex(blockHash),
      config: fromHex(at(CONFIGS, other)),
      epoch: Math.max(0, this.model.epoch + (flaw === 'other epoch' ? (pick % 2 ? -1 : 1) : 0)),
    };
    const hash = requestHash(typed);
    const digest = flaw === 'other purpose' ? keccak256(hash) : requestDigest(this.#domain(flaw), hash);
    const args = {
      node: flaw === 'zero signer' ? ZERO_ADDRESS : typed.node,
      kemKeyHash: to0x(typed.kemKeyHash),
      quoteHash: to0x(typed.quoteHash),
      blockNumber: BigInt(blockNumber),
      config: to0x(typed.config),
      ...this.#signature(digest, key, choice),
    };
    const fields = ['kemKeyHash', 'quoteHash', 'config', 'node'] as const;
    return {
      name: 'register',
      args: flaw === 'other field' ? { ...args, ...changed(args, fields, pick) } : args,
    };
  }

  #onboard(
    choice: Choice,
    block: BlockContext,
    request: { readonly hash: string; readonly node: string } = this.#pickRequest(choice, block),
  ): Operation {
    const { flaw, pick, other } = choice;
    const { hash, node } = request;
    const typed = {
      node,
      requestHash: fromHex(hash),
      ...bytesOf(this.#identity(choice, block)),
      // Including answers that would look like an empty slot if the slot's state were not stored separately.
      answerHash: fromHex(at([word('answer'), word('answer 2'), ZERO_WORD, `0x${'ff'.repeat(32)}`], other)),
    };
    const digest =
      flaw === 'other purpose'
        ? requestDigest(this.model.domain, typed.requestHash)
        : onboardDigest(this.#domain(flaw), typed);
    const args = {
      requestHash: hash,
      ...hexOf(typed),
      answerHash: to0x(typed.answerHash),
      ...this.#signature(digest, this.#networkPrivateKey(pick), choice),
    };
    const fields = ['answerHash', 'measurement', 'config', 'platform', 'requestHash'] as const;
    return {
      name: 'onboard',
      args: flaw === 'other field' ? { ...args, ...changed(args, fields, pick) } : args,
    };
  }

  /** A request and its answer in the same block. The answer has the drawn flaw, the request none. */
  #registerAndOnboard(choice: Choice, block: BlockContext): readonly Call[] {
    const from = this.#anyone(choice);
    const register = this.#register({ ...choice, flaw: 'none' }, block);
    if (register.name !== 'register') return [];
    const hash = hashOfRequest(register.args, this.model.epoch, block);
    const onboard = this.#onboard(choice, block, { hash, node: register.args.node });
    return [
      { from, operation: register },
      { from, operation: onboard },
    ];
  }

  /** Mostly an open one; otherwise any, or one that nobody made. */
  #pickRequest(
    { pick, other }: Choice,
    block: BlockContext,
  ): { readonly hash: string; readonly node: string } {
    const open = this.requestHashes.filter((hash) => this.model.request(hash, block.number).state === 'open');
    const known = other % 4 < 3 && open.length > 0 ? open : this.requestHashes;
    const hash = pick % 16 === 15 || known.length === 0 ? word('no request') : at(known, pick);
    const stored = this.model.requests.get(hash);
    return { hash, node: stored && 'node' in stored ? stored.node : addressOf(at(NODE_KEYS, pick)) };
  }

  /** Mostly what is allowed now; otherwise any. */
  #identity(
    { pick, other }: Choice,
    block: BlockContext,
  ): { measurement: string; config: string; platform: string } {
    const allowed = (
      pool: readonly string[],
      isAllowed: (value: string) => boolean,
      salt: number,
    ): string => {
      const good = pool.filter(isAllowed);
      return good.length === 0 || (other + salt) % 12 === 0 ? drawn(pool, pick + salt) : at(good, pick);
    };
    const now = (measurement: string, config: string, platform: string) =>
      this.model.isAllowed({ measurement, config, platform }, block.time);
    return {
      measurement: allowed(MEASUREMENTS, (it) => now(it, ZERO_WORD, ZERO_WORD).measurementAllowed, 4),
      config: allowed(CONFIGS, (it) => now(ZERO_WORD, it, ZERO_WORD).configAllowed, 8),
      platform: allowed(PLATFORMS, (it) => now(ZERO_WORD, ZERO_WORD, it).platformAllowed, 11),
    };
  }

  /** The present network key's private key; before bootstrap any. */
  #networkPrivateKey(pick: number): Uint8Array {
    return KEY_OF.get(this.model.networkKey) ?? at(NETWORK_KEYS, pick);
  }

  #domain(flaw: Choice['flaw']): Domain {
    const { chainId, contract } = this.model.domain;
    if (flaw === 'other chain') return { chainId: chainId === 1 ? 2 : 1, contract };
    return flaw === 'other contract'
      ? { chainId, contract: parseAddress(this.accounts.stranger) }
      : this.model.domain;
  }

  #signature(
    digest: Uint8Array,
    key: Uint8Array,
    { flaw, pick }: Choice,
  ): { readonly r: string; readonly vs: string } {
    // Another key: a network key of another epoch, or a node's.
    const signer =
      flaw === 'other key'
        ? at(
            [...NETWORK_KEYS, ...NODE_KEYS].filter((it) => it !== key),
            pick,
          )
        : key;
    const good = compact(sign(digest, signer));
    switch (flaw) {
      case 'high s':
        // The compact form has 255 bits for s, so only the very beginning of the upper half fits.
        return { r: good.r, vs: hex32((BigInt(pick % 2) << 255n) | ((1n << 255n) - 1n - BigInt(pick))) };
      case 'no signature':
        return { r: ZERO_WORD, vs: ZERO_WORD };
      case 'zero signer':
        return pick % 2 ? { r: ZERO_WORD, vs: ZERO_WORD } : good;
      case 'r out of range':
        return { r: hex32(ORDER + BigInt(pick)), vs: good.vs };
      default:
        return good;
    }
  }

  // ---------------------------------------------------------------- accounts

  /** The owner in 13 of 16 cases. */
  #ownerOrNot({ actor }: Choice): string {
    const { relay, stranger } = this.accounts;
    const heir = this.model.pendingOwner;
    const others = [stranger, heir === ZERO_ADDRESS ? relay : heir, relay];
    return actor < 13 ? this.model.owner : others[actor - 13]!;
  }

  #anyone({ actor }: Choice): string {
    const { owner, heir, relay, stranger } = this.accounts;
    return at([relay, stranger, owner, heir], actor);
  }
}

/** Few apps, so that the same one is rolled out again; 2 in 11 are invalid names. */
function app(pick: number): string {
  if (pick % 11 > 8) return at(NOT_APPS, pick);
  return pick % 11 < 6 ? APPS[0]! : at(APPS, pick);
}

/** The values on which a call would have an effect, in 3 of 4 cases and if there are any. */
function mostly(effective: readonly string[], all: readonly string[], { other }: Choice): readonly string[] {
  return other % 4 < 3 && effective.length > 0 ? effective : all;
}

/** The oldest that the chain remembers, one older, this block itself, one to come, one far away. */
function oddBlock(pick: number, block: BlockContext): number {
  return at([block.number - 256, block.number - 257, block.number, block.number + 1, 2 ** 52, 0], pick);
}

/** The hash under which the contract will know a request. */
function hashOfRequest(args: RegisterArgs, epoch: number, block: BlockContext): string {
  const hash = requestHash({
    node: args.node,
    kemKeyHash: fromHex(args.kemKeyHash),
    quoteHash: fromHex(args.quoteHash),
    blockNumber: Number(args.blockNumber),
    blockHash: fromHex(block.hashOf(args.blockNumber) ?? ZERO_WORD),
    config: fromHex(args.config),
    epoch,
  });
  return to0x(hash);
}

const bytesOf = (identity: { measurement: string; config: string; platform: string }) => ({
  measurement: fromHex(identity.measurement),
  config: fromHex(identity.config),
  platform: fromHex(identity.platform),
});
const hexOf = (identity: { measurement: Uint8Array; config: Uint8Array; platform: Uint8Array }) => ({
  measurement: to0x(identity.measurement) as string,
  config: to0x(identity.config) as string,
  platform: to0x(identity.platform) as string,
});

/** One field that differs from what was signed. */
function changed<T extends Readonly<Record<string, unknown>>>(
  args: T,
  fields: readonly (keyof T & string)[],
  pick: number,
): Record<string, string> {
  const field = at(fields, pick);
  const bytes = fromHex(String(args[field]));
  bytes[bytes.length - 1] = bytes.at(-1)! ^ 1;
  return { [field]: to0x(bytes) };
}

/** Calldata or value that the compiler's checks refuse before any line of the contract runs. */
export function malformed({ pick, other }: Pick<Choice, 'pick' | 'other'>): Operation {
  const functions = networkInterface.fragments.filter((fragment) => fragment.type === 'function');
  const fragment = networkInterface.getFunction((at(functions, pick) as unknown as { name: string }).name)!;
  const words = fragment.inputs.length;
  const sound = fragment.selector + '00'.repeat(fragment.inputs.length * 32);
  const call = (data: string, paid = 0n): Operation => ({ name: 'malformed', args: { data, value: paid } });
  // Of these types any word is a value.
  const dirty = fragment.inputs.findIndex(({ type }) => type !== 'bytes32' && type !== 'uint256');
  switch (other % 6) {
    case 0:
      return call(sound, 1n);
    case 1:
      // A byte short of its arguments, or of its selector.
      return words > 0 ? call(sound.slice(0, -2)) : call(fragment.selector.slice(0, -2));
    case 2: {
      // All ones are too large for an address or a small integer, and as an offset point far outside.
      if (dirty < 0) return call(fragment.selector.slice(0, -2));
      const offset = 10 + dirty * 64;
      return call(sound.slice(0, offset) + 'ff'.repeat(32) + sound.slice(offset + 64));
    }
    case 3:
      return call(at(['0x', '0x00', '0xffffffff', '0x00000000'], pick));
    case 4:
      return call('0x', 1n);
    default: {
      // A string that lies about its length or reaches past the end.
      const head = [...Array<string>(6).fill(ZERO_WORD)].map((it) => it.slice(2));
      head[1] = (pick % 2 ? 192n : 2n ** 64n).toString(16).padStart(64, '0');
      head[2] = (pick % 3 ? 192n : 2n ** 64n).toString(16).padStart(64, '0');
      const length = at([1n, 33n, 2n ** 64n, 2n ** 255n], pick)
        .toString(16)
        .padStart(64, '0');
      return call(networkInterface.getFunction('verifyAttestation')!.selector + head.join('') + length);
    }
  }
}
