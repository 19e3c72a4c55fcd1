/**
 * The network's life, replayed from its chain and its public files: who was let in, on what evidence, and who could hold
 * the secret today. `audit` reads like the report that it makes.
 */
import type { NetworkReader } from '../../lib/framework/network-reader.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Flavour, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { type Claimed, type Proof, proveAnswer, proveBootstrap, proveRequest } from './evidence.ts';
import { type AuditedHead, CLOCK_SKEW_SECONDS, OLD_HEAD_SECONDS } from './head.ts';
import type { Entry, History } from './history.ts';
import type { Records, SourceReport } from './records.ts';
import { type Kind, kinds, type Pending, Replay, type Standing } from './replay.ts';

/** `failure`: the history or its evidence contradicts itself. `gap`: something can't be checked. `warning`: true, and to be known. */
export type Severity = 'failure' | 'gap' | 'warning';

export interface Finding {
  readonly severity: Severity;
  /** Stable; programs match on it. */
  readonly code: string;
  /** Where in the history: `block 12`, or what it is about. */
  readonly where: string;
  readonly message: string;
}

/** A node that was given the secret of its epoch. Hex without 0x; config is undefined when no record says it. */
export interface Holder {
  readonly role: 'bootstrap' | 'onboarded';
  /** Its one-time address, or the network key for the first node. */
  readonly node: string;
  readonly epoch: number;
  readonly block: number;
  /** Unix seconds. */
  readonly time: number;
  readonly measurement: string;
  readonly platform: string;
  readonly config: string | undefined;
  readonly proof: Proof;
  /** How what let it in stands today. */
  readonly standing: Partial<Record<Kind, Standing>>;
}

export interface AuditReport {
  readonly verdict: 'sound' | 'sound-with-warnings' | 'unproven' | 'failed';
  readonly chainId: number;
  readonly contract: string;
  /** The block that all of this is as of. Compare its hash with a source of your own: all endpoints together can hide what came later. */
  readonly head: {
    readonly number: number;
    readonly hash: string;
    readonly timestamp: number;
    /** The auditor's own clock when the head was read, Unix seconds, and how far the block was behind it. */
    readonly seenAt: number;
    readonly age: number;
    /** Whether the auditor named the block. */
    readonly chosen: boolean;
    /** How many endpoints said so; all that were asked. */
    readonly endpoints: number;
  };
  readonly owner: string;
  /** Seconds that loosening takes now. */
  readonly delay: number;
  readonly epoch: number;
  readonly timeline: readonly { readonly block: number; readonly time: number; readonly text: string }[];
  /** Everyone who was given the secret of the present epoch. */
  readonly holders: readonly Holder[];
  readonly pending: readonly Pending[];
  readonly apps: readonly { readonly app: string; readonly manifest: string | undefined }[];
  /** Where the public files came from, and what was wrong there. */
  readonly sources: readonly SourceReport[];
  readonly findings: readonly Finding[];
}

export interface AuditInput {
  readonly network: Domain;
  readonly flavour: Flavour;
  readonly history: History;
  readonly records: Records;
  readonly reader: NetworkReader;
  /** The block at which the contract's state is compared. */
  readonly head: AuditedHead;
}

export async function audit(input: AuditInput): Promise<AuditReport> {
  const auditor = new Auditor(input);
  auditor.judgeHead();
  auditor.judgeDeployment();
  auditor.judgeSources();
  for (const entry of input.history.entries) await auditor.take(entry);
  await auditor.compareWithState();
  await auditor.lookForHiddenOnboardings();
  auditor.judgeToday();
  return auditor.report();
}

class Auditor {
  readonly #input: AuditInput;
  readonly #replay = new Replay();
  readonly #findings: Finding[] = [];
  readonly #timeline: { block: number; time: number; text: string }[] = [];
  #holders: Omit<Holder, 'standing'>[] = [];

  constructor(input: AuditInput) {
    this.#input = input;
  }

  /** A history that ends early shows no revocation and nobody who came later; whoever means that has to say so. */
  judgeHead(): void {
    const { number, timestamp, seenAt, age, chosen } = this.#input.head;
    const where = `block ${number}`;
    if (age < -CLOCK_SKEW_SECONDS) {
      const message = `the block is of ${instant(timestamp)}, this machine's clock says ${instant(seenAt)}: how old the block is can't be said`;
      this.#find('gap', 'HEAD_AFTER_CLOCK', where, message);
    }
    if (chosen) {
      const message = `the auditor named this block, ${age} s old: nothing that came later is in this report`;
      this.#find('warning', 'HEAD_CHOSEN', where, message);
    } else if (age > OLD_HEAD_SECONDS) {
      const message = `the newest block that the endpoints show is ${age} s old by this machine's clock: they hide what came later, or the chain stands still; audit the past with --at ${number}`;
      this.#find('failure', 'HEAD_OLD', where, message);
    }
  }

  judgeDeployment(): void {
    const { deployment } = this.#input.history;
    if (!deployment.genuine) this.#find('gap', 'CONTRACT_CODE_UNPROVEN', 'deployment', deployment.reason);
  }

  /** What a source spoiled or kept back shows where it is missed; here it is said of whom to expect it. */
  judgeSources(): void {
    for (const { source, faults, faultCount } of this.#input.records.sources) {
      if (faultCount === 0) continue;
      const more = faultCount > faults.length ? ` (and ${faultCount - faults.length} more)` : '';
      this.#find('warning', 'RECORD_SOURCE_FAULTY', source, `${faults.join('; ')}${more}`);
    }
  }

  async take(entry: Entry): Promise<void> {
    const { block, time, event } = entry;
    const where = `block ${block}`;
    try {
      this.#replay.take(entry);
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      this.#find('failure', error.code, where, error.message);
    }
    if (event.name === 'Bootstrapped') await this.#bootstrapped(event, entry, where);
    if (event.name === 'Onboarded') await this.#onboarded(event, entry, where);
    this.#timeline.push({ block, time, text: describe(event) });
  }

  async #bootstrapped(event: Extract<NetworkEvent, { name: 'Bootstrapped' }>, entry: Entry, where: string) {
    const claim = {
      networkKey: event.networkKey,
      measurement: bare(event.measurement),
      config: bare(event.config),
      platform: bare(event.platform),
      quoteHash: bare(event.quoteHash),
      epoch: Number(event.epoch),
      blockHash: bare(event.blockHash),
    };
    const versions = this.#input.records.bootstraps.get(claim.quoteHash) ?? [];
    const proof = proveBootstrap(versions, claim, this.#circumstances(entry));
    // A new secret: whoever held the last one does not hold this.
    this.#holders = [];
    this.#hold({ ...claim, role: 'bootstrap', node: event.networkKey, proof }, entry, where);
    const block = await this.#input.reader.chain.block(Number(event.blockNumber));
    if (bare(block.hash) !== claim.blockHash) {
      this.#find(
        'failure',
        'BOOTSTRAP_BLOCK',
        where,
        `block ${event.blockNumber} is ${block.hash}, not ${event.blockHash}`,
      );
    }
  }

  async #onboarded(event: Extract<NetworkEvent, { name: 'Onboarded' }>, entry: Entry, where: string) {
    const requestHash = bare(event.requestHash);
    const claim: Claimed = { measurement: bare(event.measurement), platform: bare(event.platform) };
    const { records, network, reader, head } = this.#input;
    const versions = records.requests.get(requestHash) ?? [];
    const request = this.#replay.requests.get(event.requestHash);
    const circumstances = this.#circumstances(entry);
    let proof = proveRequest(versions, requestHash, claim, circumstances);
    if (proof.is === 'refused' && request !== undefined) {
      // Its onboarder judged it some blocks before its answer was posted, and what changed since did not bind it.
      const earlier = proveRequest(versions, requestHash, claim, {
        ...circumstances,
        time: request.time,
        policy: request.policy,
      });
      if (earlier.is === 'verified') {
        this.#find(
          'warning',
          'POLICY_TIGHTENED_MEANWHILE',
          where,
          `refused as of its onboarding (${proof.code}), accepted as of its request: the policy, or the collateral's time, ran out in between`,
        );
        proof = earlier;
      }
    }
    const node = request?.node ?? 'unknown';
    const config = versions[0]?.config;
    this.#hold({ ...claim, config, epoch: this.#replay.epoch, role: 'onboarded', node, proof }, entry, where);

    const { state, answerHash } = await reader.request(Buffer.from(requestHash, 'hex'), head);
    if (state !== 'answered') {
      this.#find(
        'failure',
        'EVENT_CONTRADICTS_STATE',
        where,
        `request ${requestHash} reads ${state}, its event says answered`,
      );
      return;
    }
    const answers = records.answers.get(requestHash) ?? [];
    const answer = proveAnswer(answers, requestHash, bare(answerHash), this.#replay.networkKey, network);
    // The contract checked the network key's signature before it recorded the answer; the record only repeats that.
    if (answer.is !== 'verified') {
      this.#find(answer.is === 'missing' ? 'warning' : 'failure', answer.code, where, answer.message);
    }
  }

  #hold(holder: Omit<Holder, 'standing' | 'block' | 'time'>, { block, time }: Entry, where: string): void {
    this.#holders.push({ ...holder, block, time });
    const { proof, config } = holder;
    if (proof.is !== 'verified') {
      this.#find(proof.is === 'missing' ? 'gap' : 'failure', proof.code, where, proof.message);
    }
    if (config === undefined) return;
    const { is } = this.#replay.standing('config', `0x${config}`, time);
    if (is !== 'allowed') {
      this.#find(
        'failure',
        'CONFIG_NOT_ALLOWED',
        where,
        `config ${config} was ${is} when its node was let in`,
      );
    }
    this.#judgeConfig(config, where);
  }

  /** Whoever runs a quorum of the endpoints that a config names is trusted by its nodes: say who they are. */
  #judgeConfig(config: string, where: string): void {
    const bytes = this.#input.records.configs.get(config);
    if (bytes === undefined) {
      this.#find(
        'gap',
        'CONFIG_RECORD_MISSING',
        where,
        `no record has network.json ${config}: whom its nodes believe about the chain is unknown`,
      );
      return;
    }
    try {
      const parsed = parseNetworkConfig(bytes, this.#input.flavour);
      const { chainId, contract } = this.#input.network;
      if (parsed.chainId !== chainId || parsed.contract.toLowerCase() !== contract.toLowerCase()) {
        this.#find(
          'failure',
          'CONFIG_OTHER_NETWORK',
          where,
          `network.json ${config} is for ${parsed.contract} on chain ${parsed.chainId}`,
        );
      }
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      this.#find('failure', codeOf(error), where, error.message);
    }
  }

  /** An event that all endpoints left out, or put in, shows here: the contract's state is not what the events add up to. */
  async compareWithState(): Promise<void> {
    const { reader, head } = this.#input;
    const differs = (what: string, replayed: unknown, actual: unknown) => {
      if (String(replayed).toLowerCase() === String(actual).toLowerCase()) return;
      this.#find(
        'failure',
        'HISTORY_INCOMPLETE',
        what,
        `the events add up to ${replayed}, the contract says ${actual}`,
      );
    };
    const network = await reader.network(head);
    differs('network key', this.#replay.networkKey || `0x${'0'.repeat(40)}`, network.networkKey);
    differs('epoch', this.#replay.epoch, network.epoch);
    differs('onboarded', this.#replay.onboarded, network.onboarded);
    differs('delay', this.#replay.delayAt(head.timestamp), network.delay);
    const { deniedFmspcs, ...tcb } = this.#replay.tcbPolicyAt(head.timestamp);
    const shown = await reader.tcbPolicy(head);
    for (const part of ['statuses', 'minimumTcbEvaluationDataNumber', 'gracePeriodDays'] as const) {
      differs(`TCB policy: ${part}`, tcb[part], shown[part]);
    }
    for (const fmspc of deniedFmspcs ?? []) {
      differs(`FMSPC ${fmspc} denied`, true, await reader.fmspcDenied(bytesOf(fmspc), head));
    }
    differs('platforms open', this.#replay.platformsOpenAt(head.timestamp), network.platformsOpen);
    const ZERO = `0x${'0'.repeat(64)}`;
    const apps = await reader.apps(head);
    differs('number of apps', this.#replay.apps.size, apps.length);
    for (const { app, manifestHash } of apps) {
      differs(`app ${nameOf(app)}`, this.#replay.manifestAt(app, head.timestamp) ?? ZERO, manifestHash);
    }
    for (const kind of kinds) {
      for (const value of this.#replay.valuesOf(kind)) {
        const others = { measurement: ZERO, config: ZERO, platform: ZERO, [kind]: value };
        const allowed = await reader.isAllowed(
          {
            measurement: bytesOf(others.measurement),
            config: bytesOf(others.config),
            platform: bytesOf(others.platform),
          },
          head,
        );
        const is = this.#replay.standing(kind, value, head.timestamp).is === 'allowed';
        differs(`${kind} ${bare(value)}`, is, allowed[`${kind}Allowed`]);
      }
    }
  }

  /** A request or answer that someone kept and that the contract has as answered, without an event to say so. */
  async lookForHiddenOnboardings(): Promise<void> {
    const { records, reader, head } = this.#input;
    const hashes = new Set([
      ...records.requests.keys(),
      ...records.answers.keys(),
      ...[...this.#replay.requests.keys()].map(bare),
    ]);
    for (const hash of hashes) {
      if (this.#replay.requests.get(`0x${hash}`)?.answered === true) continue;
      const { state } = await reader.request(bytesOf(hash), head);
      if (state === 'answered') {
        this.#find(
          'failure',
          'HIDDEN_ONBOARDING',
          `request ${hash}`,
          'the contract has it as answered, and no event says so: the endpoints hide one',
        );
      }
    }
  }

  /** What is true today and a reader must know. */
  judgeToday(): void {
    const now = this.#input.head.timestamp;
    if (this.#replay.epoch === 0)
      this.#find('warning', 'NOT_BOOTSTRAPPED', 'today', 'the network has no secret yet');
    if (this.#input.flavour !== 'production') {
      this.#find(
        'warning',
        'NOT_PRODUCTION',
        'today',
        `${this.#input.flavour} evidence proves nothing: the simulated platform's keys are published`,
      );
    }
    if (this.#replay.delayAt(now) === 0) {
      this.#find(
        'warning',
        'NO_DELAY',
        'today',
        `the delay is 0: owner ${this.#replay.owner} can let in any image in one block`,
      );
    }
    if (this.#replay.platformsOpenAt(now)) {
      this.#find('warning', 'PLATFORMS_OPEN', 'today', 'any platform may join that is not revoked');
    }
    for (const { node, standing, role } of this.#holdersToday()) {
      for (const kind of kinds) {
        const found = standing[kind];
        if (found === undefined || found.is === 'allowed') continue;
        const since = found.is === 'revoked' ? ` at ${instant(found.at)}` : '';
        this.#find(
          'warning',
          `HOLDER_${kind.toUpperCase()}_REVOKED`,
          `${role} node ${node}`,
          `its ${kind} is ${found.is}${since}; it was given the secret before and the secret was not replaced since`,
        );
      }
    }
    const count = this.#holders.length;
    if (count === 1)
      this.#find(
        'warning',
        'NETWORK_OF_ONE',
        'today',
        'one node was ever given the secret: if it dies, the secret is gone',
      );
  }

  report(): AuditReport {
    const { network, head } = this.#input;
    const now = head.timestamp;
    const has = (severity: Severity) => this.#findings.some((finding) => finding.severity === severity);
    const order: Severity[] = ['failure', 'gap', 'warning'];
    return {
      verdict: has('failure')
        ? 'failed'
        : has('gap')
          ? 'unproven'
          : has('warning')
            ? 'sound-with-warnings'
            : 'sound',
      ...network,
      head: {
        number: head.number,
        hash: head.hash,
        timestamp: head.timestamp,
        seenAt: head.seenAt,
        age: head.age,
        chosen: head.chosen,
        endpoints: head.proven.of,
      },
      owner: this.#replay.owner,
      delay: this.#replay.delayAt(now),
      epoch: this.#replay.epoch,
      timeline: this.#timeline,
      holders: this.#holdersToday(),
      pending: this.#replay.pendingAt(now),
      apps: [...this.#replay.apps.keys()].map((app) => ({
        app: nameOf(app),
        manifest: this.#replay.manifestAt(app, now),
      })),
      sources: this.#input.records.sources,
      findings: [...this.#findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity)),
    };
  }

  #holdersToday(): Holder[] {
    const now = this.#input.head.timestamp;
    return this.#holders.map((holder) => {
      const standing: Partial<Record<Kind, Standing>> = {};
      for (const kind of kinds) {
        const value = holder[kind];
        if (value !== undefined) standing[kind] = this.#replay.standing(kind, `0x${value}`, now);
      }
      return { ...holder, standing };
    });
  }

  #circumstances({ time }: Entry) {
    const policy = this.#replay.tcbPolicyAt(time);
    return { network: this.#input.network, flavour: this.#input.flavour, time, policy };
  }

  #find(severity: Severity, code: string, where: string, message: string): void {
    this.#findings.push({ severity, code, where, message });
  }
}

/** One event for people. */
function describe(event: NetworkEvent): string {
  const { name, ...fields } = event;
  const values = Object.entries(fields).map(([field, value]) => {
    if (field === 'app') return `app ${nameOf(String(value))}`;
    if (field === 'from') return `from ${instant(Number(value))}`;
    return `${field} ${value}`;
  });
  return [name, ...values].join(', ');
}

/** 2026-01-31 12:00:00Z */
export const instant = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace('T', ' ').replace('.000Z', 'Z');
const bare = (hex: string): string => hex.replace(/^0x/, '').toLowerCase();
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(bare(hex), 'hex'));
const nameOf = (app: string): string => Buffer.from(bare(app), 'hex').toString('latin1').replace(/\0+$/, '');
