/** Everyone who was given the secret of the present epoch, and what the public files prove of each. */
import type { VerifierMemory } from '../../lib/attestation/memory.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { NetworkEvent, RequestView } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Circumstances, Proof } from './evidence.ts';
import type { EvidenceFound, FoundBootstrap, FoundOnboarding } from './evidence-found.ts';
import type { Findings } from './findings.ts';
import type { Entry } from './history.ts';
import type { Past } from './past.ts';
import { type Kind, kinds, type Standing } from './replay.ts';
import type { Holder } from './report.ts';
import type { TcbPolicy } from './tcb-replay.ts';
import { bare } from './words.ts';

type EventOf<Name extends NetworkEvent['name']> = Extract<NetworkEvent, { name: Name }>;

export interface HoldersOptions {
  readonly network: Domain;
  readonly flavour: Flavour;
  readonly past: Past;
  readonly evidence: EvidenceFound;
  readonly reader: NetworkReader;
  readonly memory: VerifierMemory;
  /** What the contract shows of each request that an event says was answered, by request hash. */
  readonly answers: ReadonlyMap<string, Recorded>;
}

export type Recorded = Pick<RequestView, 'state' | 'answerHash'>;

/** What the chain says of a holder; the rest is known once the records were read. */
interface Claim extends Omit<Holder, 'standing' | 'proof' | 'config'> {
  readonly found: FoundOnboarding | FoundBootstrap;
  /** How each config stood when it was let in, by its 0x-hex: its own is known once a record of it was read. */
  readonly configs: ReadonlyMap<string, Standing['is']>;
}

const isOnboarding = (found: Claim['found']): found is FoundOnboarding => 'answer' in found;
const configOf = (found: Claim['found']): string | undefined =>
  isOnboarding(found) ? found.config : found.claim.config;

export class Holders {
  readonly #of: HoldersOptions;
  readonly #findings: Findings;
  readonly #all: Claim[] = [];

  constructor(of: HoldersOptions, findings: Findings) {
    this.#of = of;
    this.#findings = findings;
  }

  /** Claims what an event that `past` has just taken says, if it gave anyone the secret. */
  async take(entry: Entry): Promise<void> {
    const { event } = entry;
    if (event.name === 'Bootstrapped') await this.#bootstrapped(event, entry);
    if (event.name === 'Onboarded') this.#onboarded(event, entry);
  }

  /** What is wrong or missing with the evidence of each, of all epochs, once the records were read. */
  judge(): void {
    for (const claim of this.#all) {
      const where = `block ${claim.block}`;
      this.#judgeProof(claim.found.proof, 'gap', where);
      this.#judgeConfig(claim, where);
      if (isOnboarding(claim.found)) this.#judgeAnswer(claim.found, where);
    }
  }

  /** Those of the present epoch, as they stand at this time, Unix seconds. */
  at(time: number): Holder[] {
    const { replay } = this.#of.past;
    // A new secret: whoever held the last one does not hold this one.
    const first = Math.max(
      0,
      this.#all.findLastIndex(({ role }) => role === 'bootstrap'),
    );
    return this.#all.slice(first).map(({ found, configs: _, ...rest }) => {
      const holder = { ...rest, config: configOf(found), proof: found.proof };
      const standing: Partial<Record<Kind, Standing>> = {};
      for (const kind of kinds) {
        const value = holder[kind];
        if (value !== undefined) standing[kind] = replay.standing(kind, `0x${value}`, time);
      }
      return { ...holder, standing };
    });
  }

  async #bootstrapped(event: EventOf<'Bootstrapped'>, entry: Entry): Promise<void> {
    const claim = {
      networkKey: event.networkKey,
      measurement: bare(event.measurement),
      config: bare(event.config),
      platform: bare(event.platform),
      quoteHash: bare(event.quoteHash),
      epoch: Number(event.epoch),
      blockHash: bare(event.blockHash),
    };
    const found = this.#of.evidence.claimBootstrap(claim, this.#circumstances(entry));
    const { measurement, platform, epoch } = claim;
    this.#hold({ role: 'bootstrap', node: event.networkKey, measurement, platform, epoch, found }, entry);
    const block = await this.#of.reader.chain.block(Number(event.blockNumber));
    if (bare(block.hash) !== claim.blockHash) {
      const message = `block ${event.blockNumber} is ${block.hash}, not ${event.blockHash}`;
      this.#findings.add('failure', 'BOOTSTRAP_BLOCK', `block ${entry.block}`, message);
    }
  }

  #onboarded(event: EventOf<'Onboarded'>, entry: Entry): void {
    const { past, evidence, answers } = this.#of;
    const { replay } = past;
    const requestHash = bare(event.requestHash);
    const { state, answerHash } = answers.get(requestHash)!;
    const isAnswered = state === 'answered';
    if (isAnswered) past.storage.answered(event.requestHash, answerHash);
    else {
      const message = `request ${requestHash} reads ${state}, its event says answered`;
      this.#findings.add('failure', 'EVENT_CONTRADICTS_STATE', `block ${entry.block}`, message);
    }
    const request = replay.requests.get(event.requestHash);
    const [measurement, platform] = [bare(event.measurement), bare(event.platform)];
    const found = evidence.claimOnboarding({
      requestHash,
      measurement,
      platform,
      circumstances: this.#circumstances(entry),
      earlier: request && this.#circumstances(request),
      networkKey: replay.networkKey,
      recorded: isAnswered ? bare(answerHash) : undefined,
    });
    const node = request?.node ?? 'unknown';
    this.#hold({ role: 'onboarded', node, measurement, platform, epoch: replay.epoch, found }, entry);
  }

  #hold(claim: Omit<Claim, 'block' | 'time' | 'configs'>, { block, time }: Entry): void {
    const { replay } = this.#of.past;
    const now = replay
      .valuesOf('config')
      .map((value) => [value, replay.standing('config', value, time).is] as const);
    // Lists rarely change: most holders share one.
    const last = this.#all.at(-1)?.configs;
    const isSame = last?.size === now.length && now.every(([value, is]) => last.get(value) === is);
    this.#all.push({ ...claim, block, time, configs: isSame ? last : new Map(now) });
  }

  #judgeProof(proof: Proof, ifMissing: 'gap' | 'warning', where: string): void {
    if (proof.is === 'verified') return;
    this.#findings.add(proof.is === 'missing' ? ifMissing : 'failure', proof.code, where, proof.message);
  }

  #judgeAnswer({ tightened, claim, answer }: FoundOnboarding, where: string): void {
    if (tightened !== undefined) {
      const message = `refused as of its onboarding (${tightened}), accepted as of its request: the policy changed, or the collateral expired, in between`;
      this.#findings.add('warning', 'POLICY_TIGHTENED_MEANWHILE', where, message);
    }
    // The contract checked the network key's signature before it recorded the answer; the record only repeats that.
    if (claim.recorded !== undefined) this.#judgeProof(answer, 'warning', where);
  }

  /** Whoever runs a quorum of the endpoints that a config names is trusted by its nodes: say who they are. */
  #judgeConfig({ found, configs }: Claim, where: string): void {
    const config = configOf(found);
    if (config === undefined) return;
    const was = configs.get(`0x${config}`) ?? 'unlisted';
    if (was !== 'allowed') {
      const message = `config ${config} was ${was} when its node was let in`;
      this.#findings.add('failure', 'CONFIG_NOT_ALLOWED', where, message);
    }
    const fault = this.#of.evidence.configOf(config);
    if (fault === false) {
      const message = `no record has network.json ${config}: which endpoints its nodes believe is unknown`;
      this.#findings.add('gap', 'CONFIG_RECORD_MISSING', where, message);
    } else if (fault !== undefined) this.#findings.add('failure', fault.code, where, fault.message);
  }

  #circumstances({ time, policy }: { time: number; policy?: TcbPolicy }): Circumstances {
    const { network, flavour, memory, past } = this.#of;
    return { network, flavour, time, policy: policy ?? past.replay.tcbPolicyAt(time), memory };
  }
}
