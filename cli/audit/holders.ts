/** Everyone who was given the secret of the present epoch, and what the public files prove of each. */
import type { VerifierMemory } from '../../lib/attestation/memory.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import { type Flavour, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import type { NetworkEvent, RequestView } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Archives } from './archives.ts';
import { type Circumstances, type Claimed, proveAnswer, proveBootstrap, proveRequest } from './evidence.ts';
import type { Findings } from './findings.ts';
import type { Entry } from './history.ts';
import type { Past } from './past.ts';
import { type Kind, kinds, type Standing } from './replay.ts';
import type { Holder } from './report.ts';
import { bare } from './words.ts';

type EventOf<Name extends NetworkEvent['name']> = Extract<NetworkEvent, { name: Name }>;

export interface HoldersOptions {
  readonly network: Domain;
  readonly flavour: Flavour;
  readonly past: Past;
  readonly records: Archives;
  readonly reader: NetworkReader;
  readonly memory: VerifierMemory;
  /** What the contract shows of each request that an event says was answered, by request hash. */
  readonly answers: ReadonlyMap<string, RequestView>;
}

export class Holders {
  readonly #of: HoldersOptions;
  readonly #findings: Findings;
  #all: Omit<Holder, 'standing'>[] = [];

  constructor(of: HoldersOptions, findings: Findings) {
    this.#of = of;
    this.#findings = findings;
  }

  /** Judges the evidence behind an event that `past` has just taken, if it gave anyone the secret. */
  async take(entry: Entry): Promise<void> {
    const { block, event } = entry;
    const where = `block ${block}`;
    if (event.name === 'Bootstrapped') await this.#bootstrapped(event, entry, where);
    if (event.name === 'Onboarded') this.#onboarded(event, entry, where);
  }

  /** As they stand at this time, Unix seconds. */
  at(time: number): Holder[] {
    return this.#all.map((holder) => {
      const standing: Partial<Record<Kind, Standing>> = {};
      for (const kind of kinds) {
        const value = holder[kind];
        if (value !== undefined) standing[kind] = this.#of.past.replay.standing(kind, `0x${value}`, time);
      }
      return { ...holder, standing };
    });
  }

  async #bootstrapped(event: EventOf<'Bootstrapped'>, entry: Entry, where: string): Promise<void> {
    const claim = {
      networkKey: event.networkKey,
      measurement: bare(event.measurement),
      config: bare(event.config),
      platform: bare(event.platform),
      quoteHash: bare(event.quoteHash),
      epoch: Number(event.epoch),
      blockHash: bare(event.blockHash),
    };
    const versions = this.#of.records.bootstraps.get(claim.quoteHash) ?? [];
    const proof = proveBootstrap(versions, claim, this.#circumstances(entry));
    // A new secret: whoever held the last one does not hold this one.
    this.#all = [];
    this.#hold({ ...claim, role: 'bootstrap', node: event.networkKey, proof }, entry, where);
    const block = await this.#of.reader.chain.block(Number(event.blockNumber));
    if (bare(block.hash) !== claim.blockHash) {
      this.#findings.add(
        'failure',
        'BOOTSTRAP_BLOCK',
        where,
        `block ${event.blockNumber} is ${block.hash}, not ${event.blockHash}`,
      );
    }
  }

  #onboarded(event: EventOf<'Onboarded'>, entry: Entry, where: string): void {
    const requestHash = bare(event.requestHash);
    const claim: Claimed = { measurement: bare(event.measurement), platform: bare(event.platform) };
    const { records, network, past } = this.#of;
    const { replay } = past;
    const versions = records.requests.get(requestHash) ?? [];
    const request = replay.requests.get(event.requestHash);
    const circumstances = this.#circumstances(entry);
    let proof = proveRequest(versions, requestHash, claim, circumstances);
    if (proof.is === 'refused' && request !== undefined) {
      // Its onboarder judged it some blocks before its answer was posted; what changed in between did not bind it.
      const earlier = proveRequest(versions, requestHash, claim, {
        ...circumstances,
        time: request.time,
        policy: request.policy,
      });
      if (earlier.is === 'verified') {
        this.#findings.add(
          'warning',
          'POLICY_TIGHTENED_MEANWHILE',
          where,
          `refused as of its onboarding (${proof.code}), accepted as of its request: the policy changed, or the collateral expired, in between`,
        );
        proof = earlier;
      }
    }
    const node = request?.node ?? 'unknown';
    const config = versions[0]?.config;
    this.#hold({ ...claim, config, epoch: replay.epoch, role: 'onboarded', node, proof }, entry, where);

    const { state, answerHash } = this.#of.answers.get(requestHash)!;
    if (state !== 'answered') {
      this.#findings.add(
        'failure',
        'EVENT_CONTRADICTS_STATE',
        where,
        `request ${requestHash} reads ${state}, its event says answered`,
      );
      return;
    }
    past.storage.answered(event.requestHash, answerHash);
    const answers = records.answers.get(requestHash) ?? [];
    const answer = proveAnswer(answers, requestHash, bare(answerHash), replay.networkKey, network);
    // The contract checked the network key's signature before it recorded the answer; the record only repeats that.
    if (answer.is !== 'verified') {
      this.#findings.add(answer.is === 'missing' ? 'warning' : 'failure', answer.code, where, answer.message);
    }
  }

  #hold(holder: Omit<Holder, 'standing' | 'block' | 'time'>, { block, time }: Entry, where: string): void {
    this.#all.push({ ...holder, block, time });
    const { proof, config } = holder;
    if (proof.is !== 'verified') {
      this.#findings.add(proof.is === 'missing' ? 'gap' : 'failure', proof.code, where, proof.message);
    }
    if (config === undefined) return;
    const { is } = this.#of.past.replay.standing('config', `0x${config}`, time);
    if (is !== 'allowed') {
      const message = `config ${config} was ${is} when its node was let in`;
      this.#findings.add('failure', 'CONFIG_NOT_ALLOWED', where, message);
    }
    this.#judgeConfig(config, where);
  }

  /** Whoever runs a quorum of the endpoints that a config names is trusted by its nodes: say who they are. */
  #judgeConfig(config: string, where: string): void {
    const bytes = this.#of.records.configs.get(config);
    if (bytes === undefined) {
      this.#findings.add(
        'gap',
        'CONFIG_RECORD_MISSING',
        where,
        `no record has network.json ${config}: which endpoints its nodes believe is unknown`,
      );
      return;
    }
    try {
      const parsed = parseNetworkConfig(bytes, this.#of.flavour);
      const { chainId, contract } = this.#of.network;
      if (parsed.chainId !== chainId || !sameAddress(parsed.contract, contract)) {
        this.#findings.add(
          'failure',
          'CONFIG_OTHER_NETWORK',
          where,
          `network.json ${config} is for ${parsed.contract} on chain ${parsed.chainId}`,
        );
      }
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      this.#findings.add('failure', codeOf(error), where, error.message);
    }
  }

  #circumstances({ time }: Entry): Circumstances {
    const { network, flavour, memory, past } = this.#of;
    return { network, flavour, time, policy: past.replay.tcbPolicyAt(time), memory };
  }
}
