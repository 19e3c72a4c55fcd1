/**
 * What the public files prove of the history's claims. Each record is judged as it is read, by the circumstances that its claim was
 * made in, and only the outcome is kept: memory grows with the history, whatever the archives are like.
 */

import { nameOf } from '../../host/relay/archive.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, parseHex, sameAddress } from '../../lib/protocol/hex.ts';
import { type Flavour, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { answerHash } from '../../lib/protocol/sealing.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { type Earlier, keyOf, policyHash } from './checkpoint.ts';
import type { Verdict } from './checkpoint-lines.ts';
import {
  type BootstrapClaim,
  type Circumstances,
  type Claimed,
  isSignedByOneOf,
  missing,
  type Proof,
  proveAnswer,
  proveBootstrap,
  proveRequest,
} from './evidence.ts';
import type { Past } from './past.ts';
import type { FoundRecord, RecordTaker } from './record.ts';
import { instant } from './words.ts';

/** A node that the chain says was given the secret, and how it was judged. */
export interface OnboardingClaim extends Claimed {
  readonly requestHash: string;
  readonly circumstances: Circumstances;
  /** As of its request: what changed until its onboarding did not bind its onboarder. Undefined when nobody registered it. */
  readonly earlier: Circumstances | undefined;
  readonly networkKey: Address;
  /** What the contract recorded, hex: the top 248 bits. Undefined when it shows no answer. */
  readonly recorded: string | undefined;
}

export interface FoundOnboarding {
  readonly claim: OnboardingClaim;
  proof: Proof;
  quoteHash: string | undefined;
  /** Why it was refused as of its onboarding, when it was accepted as of its request alone. */
  tightened: string | undefined;
  /** As its request has it, which its hash binds. */
  config: string | undefined;
  answer: Proof;
  /** The name of the record that proved the answer. */
  answerName: string | undefined;
}

export interface FoundBootstrap {
  readonly claim: BootstrapClaim;
  readonly circumstances: Circumstances;
  proof: Proof;
}

/** A fault of a network.json, or none. */
export type FoundConfig = { readonly code: string; readonly message: string } | undefined;

/** An answer that one of the network's keys signed and that the contract does not have. */
export interface SignedAnswer {
  readonly requestHash: string;
  readonly node: Address;
  /** Hex without 0x. */
  readonly answerHash: string;
}

/**
 * What is remembered of what no claim is about, of each kind: the requests that only records know, the sealed bytes, the network.json
 * that nobody allowed. Anybody can make any number of them.
 */
const MOST_STRANGERS = 100_000;

export class EvidenceFound implements RecordTaker {
  readonly #network: Domain;
  readonly #flavour: Flavour;
  readonly #past: Past;
  readonly #earlier: Earlier | undefined;
  readonly #onboardings = new Map<string, FoundOnboarding>();
  readonly #bootstraps = new Map<string, FoundBootstrap>();
  readonly #configs = new Map<string, FoundConfig>();
  readonly #signed = new Map<string, SignedAnswer>();
  /** Request hash and the hash of the bytes. */
  readonly #sealed = new Set<string>();
  readonly #strangers = new Map<string, number | undefined>();

  /**
   * @param past of which the claims are; to be taken to its end before the first record comes
   * @param earlier what other audits came to
   */
  constructor(network: Domain, flavour: Flavour, past: Past, earlier: Earlier | undefined) {
    this.#network = network;
    this.#flavour = flavour;
    this.#past = past;
    this.#earlier = earlier;
  }

  /** @throws AUDIT_CHECKPOINT_POLICY when an earlier audit judged it by something else */
  claimOnboarding(claim: OnboardingClaim): FoundOnboarding {
    const { requestHash } = claim;
    const verdict = this.#verdictOf('onboarded', requestHash, claim.circumstances);
    const proof = this.#proofOf(verdict);
    const found: FoundOnboarding = {
      claim,
      proof: proof ?? missing('REQUEST_RECORD_MISSING', `request ${requestHash}`),
      quoteHash: verdict?.quoteHash,
      tightened: verdict?.tightened,
      config: verdict?.config,
      answer:
        (verdict?.answer === undefined ? undefined : proof) ??
        missing('ANSWER_RECORD_MISSING', `answer to ${requestHash}`),
      answerName: verdict?.answer,
    };
    this.#onboardings.set(requestHash, found);
    return found;
  }

  claimBootstrap(claim: BootstrapClaim, circumstances: Circumstances): FoundBootstrap {
    const what = `bootstrap package of ${claim.networkKey}`;
    const known = this.#proofOf(this.#verdictOf('bootstrap', claim.quoteHash, circumstances));
    const found = { claim, circumstances, proof: known ?? missing('BOOTSTRAP_RECORD_MISSING', what) };
    this.#bootstraps.set(claim.quoteHash, found);
    return found;
  }

  /** How many of the claims nothing proves so far. */
  get unproven(): number {
    return [...this.#onboardings.values(), ...this.#bootstraps.values()].filter(
      ({ proof }) => proof.is !== 'verified',
    ).length;
  }

  /** Of what an earlier audit has settled: a relay names a record by its request and by its own hash. */
  skips(name: string): boolean {
    const [, kind, hash] = /^(request|answer)-([0-9a-f]{64})-/.exec(name) ?? [];
    const verdict =
      hash === undefined ? undefined : this.#earlier?.verdicts.get(keyOf({ role: 'onboarded', of: hash }));
    if (verdict === undefined || verdict.tightened !== undefined) return false;
    return kind === 'request' || name === verdict.answer;
  }

  /** What was accepted and an earlier audit did not come to. */
  newVerdicts(): Verdict[] {
    const all: Verdict[] = [];
    for (const { claim, circumstances, proof } of this.#bootstraps.values()) {
      const { quoteHash, config } = claim;
      if (proof.is !== 'verified' || proof.checkpoint !== undefined) continue;
      all.push(verdictOf('bootstrap', quoteHash, circumstances, { quoteHash, config }));
    }
    for (const found of this.#onboardings.values()) {
      const { claim, proof, quoteHash, config, tightened, answerName: answer } = found;
      if (proof.is !== 'verified' || quoteHash === undefined || config === undefined) continue;
      const { requestHash, circumstances, recorded } = claim;
      const isKnown =
        proof.checkpoint !== undefined &&
        answer === this.#earlier?.verdicts.get(keyOf({ role: 'onboarded', of: requestHash }))?.answer;
      if (isKnown) continue;
      const parts = { quoteHash, config, tightened, recorded, answer };
      all.push(verdictOf('onboarded', requestHash, circumstances, parts));
    }
    return all;
  }

  wants({ kind, subject }: FoundRecord): boolean {
    const { replay } = this.#past;
    if (kind === 'bootstrap') return this.#bootstraps.has(subject);
    if (kind === 'config') return replay.wasListed('config', `0x${subject}`);
    return replay.requests.has(`0x${subject}`);
  }

  take(record: FoundRecord): void {
    const { kind, subject } = record;
    if (kind === 'config') this.#takeConfig(subject, record.bytes);
    else if (kind === 'request') this.#takeRequest(subject, record.message);
    else if (kind === 'answer') this.#takeAnswer(subject, record.message);
    else if (kind === 'bootstrap') this.#takeBootstrap(subject, record.message);
    else if (this.#sealed.size < MOST_STRANGERS) {
      this.#sealed.add(`${subject} ${toHex(answerHash(fromHex(record.message.sealed)))}`);
    }
  }

  /** What is wrong with a network.json; false when no record has it. */
  configOf(hash: string): FoundConfig | false {
    return this.#configs.has(hash) ? this.#configs.get(hash) : false;
  }

  get signedAnswers(): readonly SignedAnswer[] {
    return [...this.#signed.values()];
  }

  /** Whether the bytes that have an answer's hash, the sealed secret, were found. */
  hasSealed({ requestHash, answerHash }: SignedAnswer): boolean {
    return this.#sealed.has(`${requestHash} ${answerHash}`);
  }

  /** Requests that only records know of, and the block that each says it was made over. */
  get strangers(): ReadonlyMap<string, number | undefined> {
    return this.#strangers;
  }

  #takeRequest(hash: string, message: Extract<FoundRecord, { kind: 'request' }>['message']): void {
    if (!this.#past.replay.requests.has(`0x${hash}`)) this.#strange(hash, message.blockNumber);
    const found = this.#onboardings.get(hash);
    if (found === undefined) return;
    found.config ??= message.config;
    found.quoteHash ??= message.quoteHash;
    if (found.proof.is === 'verified' && found.tightened === undefined) return;
    const { claim } = found;
    const proof = proveRequest(message, claim, claim.circumstances);
    if (proof.is === 'verified') [found.proof, found.tightened] = [proof, undefined];
    if (proof.is !== 'refused' || found.proof.is === 'verified') return;
    const earlier = claim.earlier === undefined ? undefined : proveRequest(message, claim, claim.earlier);
    if (earlier?.is === 'verified') [found.proof, found.tightened] = [earlier, proof.code];
    else found.proof = proof;
  }

  #takeAnswer(hash: string, message: Extract<FoundRecord, { kind: 'answer' }>['message']): void {
    const { replay, storage } = this.#past;
    if (!replay.requests.has(`0x${hash}`)) this.#strange(hash, undefined);
    const found = this.#onboardings.get(hash);
    if (found?.claim.recorded !== undefined && found.answer.is !== 'verified') {
      found.answer = proveAnswer(message, found.claim.recorded, found.claim.networkKey, this.#network);
      if (found.answer.is === 'verified') found.answerName = nameOf(message);
    }
    if (message.answerHash.slice(0, 62) === storage.answerOf(`0x${hash}`)) return;
    const key = `${hash} ${message.answerHash}`;
    if (this.#signed.has(key) || !isSignedByOneOf(replay.networkKeys, message, this.#network)) return;
    this.#signed.set(key, { requestHash: hash, node: message.node, answerHash: message.answerHash });
  }

  #takeBootstrap(hash: string, message: Extract<FoundRecord, { kind: 'bootstrap' }>['message']): void {
    const found = this.#bootstraps.get(hash);
    if (found === undefined || found.proof.is === 'verified') return;
    found.proof = proveBootstrap(message, found.claim, found.circumstances);
  }

  #takeConfig(hash: string, bytes: Uint8Array): void {
    if (this.#configs.size >= MOST_STRANGERS && !this.#past.replay.wasListed('config', `0x${hash}`)) return;
    this.#configs.set(hash, this.#faultOf(hash, bytes));
  }

  #faultOf(hash: string, bytes: Uint8Array): FoundConfig {
    try {
      const parsed = parseNetworkConfig(bytes, this.#flavour);
      const { chainId, contract } = this.#network;
      if (parsed.chainId === chainId && sameAddress(parsed.contract, contract)) return undefined;
      const message = `network.json ${hash} is for ${parsed.contract} on chain ${parsed.chainId}`;
      return { code: 'CONFIG_OTHER_NETWORK', message };
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      return { code: codeOf(error), message: error.message };
    }
  }

  #verdictOf(role: Verdict['role'], of: string, { time, policy }: Circumstances): Verdict | undefined {
    const verdict = this.#earlier?.verdicts.get(keyOf({ role, of }));
    if (verdict === undefined) return undefined;
    if (verdict.time === time && verdict.policy === policyHash(policy)) return verdict;
    throw new DstackError(
      'AUDIT_CHECKPOINT_POLICY',
      `the checkpoint has a verdict on quote ${verdict.quoteHash} as of ${instant(verdict.time)}, by another policy or time than the events add up to: name another file, and everything is judged again`,
    );
  }

  #proofOf(verdict: Verdict | undefined): Proof | undefined {
    if (verdict === undefined || this.#earlier === undefined) return undefined;
    return { is: 'verified', steps: [], checkpoint: this.#earlier.hash };
  }

  #strange(hash: string, block: number | undefined): void {
    const known = this.#strangers.get(hash);
    if (known === undefined && (this.#strangers.has(hash) || this.#strangers.size < MOST_STRANGERS)) {
      this.#strangers.set(hash, block);
    }
  }
}

function verdictOf(
  role: Verdict['role'],
  of: string,
  { time, policy }: Circumstances,
  {
    quoteHash,
    config,
    tightened,
    recorded,
    answer,
  }: {
    quoteHash: string;
    config: string;
    tightened?: string | undefined;
    recorded?: string | undefined;
    answer?: string | undefined;
  },
): Verdict {
  return {
    type: 'verdict',
    role,
    of: parseHex(of),
    quoteHash: parseHex(quoteHash),
    time,
    policy: parseHex(policyHash(policy)),
    config: parseHex(config),
    ...(tightened !== undefined && { tightened }),
    ...(recorded !== undefined && { recorded: parseHex(recorded) }),
    ...(answer !== undefined && { answer }),
  };
}
