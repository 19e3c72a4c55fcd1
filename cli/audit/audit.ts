/**
 * The network's life, replayed from its chain and its public files: who was let in, on what evidence, and who could hold
 * the secret today. `audit` reads like the report that it produces.
 */
import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { createMemory, type VerifierMemory } from '../../lib/attestation/memory.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, parseHex, sameAddress, ZERO_WORD } from '../../lib/protocol/hex.ts';
import { type Flavour, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import type { NetworkEvent, RequestView } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Archives, SourceReport } from './archives.ts';
import {
  type Claimed,
  type Proof,
  proveAnswer,
  proveBootstrap,
  proveRequest,
  signedAnswers,
} from './evidence.ts';
import { type AuditedHead, CLOCK_SKEW_SECONDS, OLD_HEAD_SECONDS } from './head.ts';
import type { Entry, History } from './history.ts';
import { type Kind, kinds, type Pending, Replay, type Request, type Standing } from './replay.ts';
import { sideBySide } from './side-by-side.ts';
import type { StateProof, Upcoming } from './state.ts';
import { StorageReplay } from './storage.ts';

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
  readonly node: Address | 'unknown';
  readonly epoch: number;
  readonly block: number;
  /** Unix seconds. */
  readonly time: number;
  readonly measurement: string;
  readonly platform: string;
  readonly config: string | undefined;
  readonly proof: Proof;
  /** Whether what let it in is still allowed today. */
  readonly standing: Partial<Record<Kind, Standing>>;
}

/**
 * The state of a request at the audited block. Open: it can still be answered. Expired: its window is over. None: it was
 * never registered.
 */
export type RequestStanding = 'open' | 'expired' | 'answered' | 'none';

/** A request without an answer on chain. */
export interface Unanswered {
  readonly requestHash: string;
  readonly node: Address;
  readonly epoch: number;
  readonly block: number;
  /** Unix seconds. */
  readonly time: number;
  readonly standing: RequestStanding;
}

/** The network's key signed an answer that the contract does not have. */
export interface Unposted {
  readonly requestHash: string;
  readonly node: Address;
  readonly answerHash: string;
  /** `answered` means: by another answer than this one. */
  readonly standing: RequestStanding;
  /** Whether its request can't be answered on chain any more, whatever happens. */
  readonly final: boolean;
  /** Whether a record has the sealed secret itself, which a node gives out only once the answer is on chain. */
  readonly sealedFound: boolean;
}

export interface AuditReport {
  readonly verdict: 'sound' | 'sound-with-warnings' | 'unproven' | 'failed';
  readonly chainId: number;
  readonly contract: Address;
  /** The block as of which all of this is true. Compare its hash with a source of your own: all endpoints together can hide what came later. */
  readonly head: {
    readonly number: number;
    readonly hash: string;
    readonly timestamp: number;
    /** The auditor's own clock when the head was read, Unix seconds, and how far the block was behind it. */
    readonly seenAt: number;
    readonly age: number;
    /** Whether the auditor named the block. */
    readonly chosen: boolean;
    /** How many endpoints were asked; all of them agreed. */
    readonly endpoints: number;
  };
  /** Whether the contract's whole storage was proven, and is what the events add up to. */
  readonly storage: StateProof & { readonly explained: boolean };
  readonly owner: string;
  /** How long loosening takes now, in seconds. */
  readonly delay: number;
  readonly epoch: number;
  readonly timeline: readonly { readonly block: number; readonly time: number; readonly text: string }[];
  /** Every node that was given the secret of the current epoch. */
  readonly holders: readonly Holder[];
  readonly unanswered: readonly Unanswered[];
  readonly unposted: readonly Unposted[];
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
  readonly records: Archives;
  readonly reader: NetworkReader;
  /** The block at which the contract's state is compared. */
  readonly head: AuditedHead;
  /** Both of the same block. */
  readonly stateProof: StateProof;
  readonly upcoming: Upcoming;
}

export async function audit(input: AuditInput): Promise<AuditReport> {
  const auditor = new Auditor(input);
  auditor.judgeHead();
  auditor.judgeDeployment();
  auditor.judgeSources();
  await auditor.readAnswers();
  for (const entry of input.history.entries) await auditor.take(entry);
  await auditor.compareWithState();
  await auditor.compareUpcoming();
  auditor.compareStorage();
  await auditor.lookForHiddenOnboardings();
  auditor.listUnanswered();
  auditor.listUnposted();
  auditor.judgeToday();
  return auditor.report();
}

class Auditor {
  readonly #input: AuditInput;
  readonly #replay = new Replay();
  readonly #storage = new StorageReplay();
  /** By request hash. */
  readonly #answers = new Map<string, RequestView>();
  readonly #memory: VerifierMemory;
  readonly #unanswered: Unanswered[] = [];
  readonly #unposted: Unposted[] = [];
  #requestWindow = 0;
  readonly #findings: Finding[] = [];
  readonly #timeline: { block: number; time: number; text: string }[] = [];
  #holders: Omit<Holder, 'standing'>[] = [];

  constructor(input: AuditInput) {
    this.#input = input;
    this.#memory = createMemory(trustRootOf(input.flavour));
  }

  /** A history that ends early shows no revocation and nobody who came later; whoever means that has to say so. */
  judgeHead(): void {
    const { number, timestamp, seenAt, age, chosen } = this.#input.head;
    const where = `block ${number}`;
    if (age < -CLOCK_SKEW_SECONDS) {
      const message = `the block is of ${instant(timestamp)}, this machine's clock says ${instant(seenAt)}: the block's age is unknown`;
      this.#find('gap', 'HEAD_AFTER_CLOCK', where, message);
    }
    if (chosen) {
      const message = `the auditor named this block, ${age} s old: nothing that came later is in this report`;
      this.#find('warning', 'HEAD_CHOSEN', where, message);
    } else if (age > OLD_HEAD_SECONDS) {
      const message = `the newest block that the endpoints show is ${age} s old by this machine's clock: they hide what came later, or the chain has stopped; to audit the past, give --at ${number}`;
      this.#find('failure', 'HEAD_OLD', where, message);
    }
  }

  /** What the contract shows of each request that an event says was answered: read together. */
  async readAnswers(): Promise<void> {
    const { history, reader, head } = this.#input;
    const hashes = history.entries.flatMap(({ event }) =>
      event.name === 'Onboarded' ? [bare(event.requestHash)] : [],
    );
    const views = await reader.requests(hashes.map(bytesOf), head);
    for (const [at, hash] of hashes.entries()) this.#answers.set(hash, views[at]!);
  }

  judgeDeployment(): void {
    const { deployment } = this.#input.history;
    if (!deployment.genuine) this.#find('gap', 'CONTRACT_CODE_UNPROVEN', 'deployment', deployment.reason);
  }

  /** What a source spoiled or withheld shows where it is missing; this names the source. */
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
    this.#storage.take(entry);
    if (event.name === 'Bootstrapped') await this.#bootstrapped(event, entry, where);
    if (event.name === 'Onboarded') this.#onboarded(event, entry, where);
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
    // A new secret: whoever held the last one does not hold this one.
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

  #onboarded(event: Extract<NetworkEvent, { name: 'Onboarded' }>, entry: Entry, where: string) {
    const requestHash = bare(event.requestHash);
    const claim: Claimed = { measurement: bare(event.measurement), platform: bare(event.platform) };
    const { records, network } = this.#input;
    const versions = records.requests.get(requestHash) ?? [];
    const request = this.#replay.requests.get(event.requestHash);
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
        this.#find(
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
    this.#hold({ ...claim, config, epoch: this.#replay.epoch, role: 'onboarded', node, proof }, entry, where);

    const { state, answerHash } = this.#answers.get(requestHash)!;
    if (state !== 'answered') {
      this.#find(
        'failure',
        'EVENT_CONTRADICTS_STATE',
        where,
        `request ${requestHash} reads ${state}, its event says answered`,
      );
      return;
    }
    this.#storage.answered(event.requestHash, answerHash);
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
        `no record has network.json ${config}: which endpoints its nodes believe is unknown`,
      );
      return;
    }
    try {
      const parsed = parseNetworkConfig(bytes, this.#input.flavour);
      const { chainId, contract } = this.#input.network;
      if (parsed.chainId !== chainId || !sameAddress(parsed.contract, contract)) {
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
    const network = await reader.network(head);
    this.#requestWindow = network.requestWindow;
    this.#differs('network key', this.#replay.networkKey, network.networkKey);
    this.#differs('epoch', this.#replay.epoch, network.epoch);
    this.#differs('onboarded', this.#replay.onboarded, network.onboarded);
    this.#differs('delay', this.#replay.delayAt(head.timestamp), network.delay);
    const { deniedFmspcs, ...tcb } = this.#replay.tcbPolicyAt(head.timestamp);
    const shown = await reader.tcbPolicy(head);
    for (const part of ['statuses', 'minimumTcbEvaluationDataNumber', 'gracePeriodDays'] as const) {
      this.#differs(`TCB policy: ${part}`, tcb[part], shown[part]);
    }
    for (const fmspc of deniedFmspcs ?? []) {
      this.#differs(`FMSPC ${fmspc} denied`, true, await reader.fmspcDenied(bytesOf(fmspc), head));
    }
    this.#differs('platforms open', this.#replay.platformsOpenAt(head.timestamp), network.platformsOpen);
    const ZERO = ZERO_WORD;
    const apps = await reader.apps(head);
    const replayed = [...this.#replay.apps.values()].filter(({ manifest }) => manifest !== undefined);
    this.#differs('number of apps', replayed.length, apps.length);
    for (const { app, manifestHash } of apps) {
      this.#differs(`app ${nameOf(app)}`, this.#replay.manifestAt(app, head.timestamp) ?? ZERO, manifestHash);
    }
    if (this.#isProven()) return;
    // A call answers for one value of each kind.
    const [measurements, configs, platforms] = kinds.map((kind) => [...this.#replay.valuesOf(kind)]);
    const rows = Math.max(measurements!.length, configs!.length, platforms!.length);
    const triples = Array.from({ length: rows }, (_, at) => ({
      measurement: measurements![at] ?? ZERO,
      config: configs![at] ?? ZERO,
      platform: platforms![at] ?? ZERO,
    }));
    const allowed = await sideBySide(triples, AT_ONCE, ({ measurement, config, platform }) =>
      reader.isAllowed(
        { measurement: bytesOf(measurement), config: bytesOf(config), platform: bytesOf(platform) },
        head,
      ),
    );
    for (const kind of kinds) {
      for (const [at, value] of [...this.#replay.valuesOf(kind)].entries()) {
        const is = this.#replay.standing(kind, value, head.timestamp).is === 'allowed';
        this.#differs(`${kind} ${bare(value)}`, is, allowed[at]![`${kind}Allowed`]);
      }
    }
  }

  /** Whether every value that the contract holds is known to be what the events add up to: then no view has to say it again. */
  #isProven(): boolean {
    return this.#explained() && this.#input.history.deployment.genuine;
  }

  /**
   * Compares what is pending with what the contract itself says: the delay exists so that a loosening is seen before it takes effect,
   * and an endpoint that hides one would defeat that.
   */
  async compareUpcoming(): Promise<void> {
    const { upcoming } = this.#input;
    const { minimum, statuses, grace, nextDelay, deniedUntil, platformsOpenFrom } = this.#storage;
    const dated = (value: unknown, from: unknown) => `${value} from ${from}`;
    this.#differs(
      'the delay set last',
      dated(nextDelay.delay, nextDelay.from),
      dated(upcoming.delay.delay, upcoming.delay.from),
    );
    this.#differs('platforms open from', platformsOpenFrom, upcoming.platformsOpenFrom);
    const tcb = upcoming.tcbPolicy;
    for (const [what, part, value, from] of [
      ['minimum', minimum, tcb.minimumTcbEvaluationDataNumber, tcb.minimumFrom],
      ['statuses', statuses, tcb.statuses, tcb.statusesFrom],
      ['grace period', grace, tcb.gracePeriod, tcb.gracePeriodFrom],
    ] as const) {
      this.#differs(`TCB policy set last: ${what}`, dated(part.set, part.from), dated(value, from));
    }
    const fmspcs = (list: readonly (readonly [string, bigint])[]) =>
      list.map(([fmspc, until]) => `${fmspc} until ${until}`).join(', ') || 'none';
    this.#differs(
      'denied FMSPCs',
      fmspcs([...deniedUntil]),
      fmspcs(upcoming.fmspcs.map(({ fmspc, deniedUntil: until }) => [fmspc, until] as const)),
    );
    for (const { app, latest, from } of upcoming.apps) {
      const replayed = this.#storage.appOf(app);
      const what = `latest manifest of app ${nameOf(app)}`;
      this.#differs(what, dated(replayed.latest, replayed.from), dated(latest, from));
    }
    if (this.#isProven()) return;
    const values = kinds.flatMap((kind) =>
      [...this.#replay.valuesOf(kind)].map((value) => ({ kind, value })),
    );
    const shown = await sideBySide(values, AT_ONCE, ({ kind, value }) => upcoming.allowedFrom(kind, value));
    for (const [at, { kind, value }] of values.entries()) {
      this.#differs(`${kind} ${bare(value)} allowed from`, this.#storage.allowedFrom(kind, value), shown[at]);
    }
  }

  /**
   * A view answers for a value that one knows. A value that was allowed secretly, or a request that was answered secretly, shows only in the
   * root of the storage.
   */
  compareStorage(): void {
    const { stateProof } = this.#input;
    const where = `block ${this.#input.head.number}`;
    if (!stateProof.proven) {
      const message = `no endpoint proves the contract's storage (eth_getProof), so it is unknown whether the events are complete: give an endpoint that does, with --rpc (${stateProof.reason})`;
      this.#find('gap', 'STORAGE_UNPROVEN', where, message);
    } else if (!this.#explained() && !stateProof.canonical) {
      const message =
        "this chain keeps empty slots in its tries, as some development chains do: its storage root can't be compared, so it is unknown whether the events are complete";
      const severity = this.#input.flavour === 'production' ? 'gap' : 'warning';
      this.#find(severity, 'STORAGE_ROOT_NOT_CANONICAL', where, message);
    } else if (!this.#explained()) {
      const message = `the contract's storage has root ${stateProof.storageRoot}, the events add up to ${this.#storage.root()}: something is set, allowed, pending or answered that the events don't show`;
      this.#find('failure', 'STORAGE_UNEXPLAINED', where, message);
    }
  }

  #explained(): boolean {
    const { stateProof } = this.#input;
    return stateProof.proven && stateProof.storageRoot === this.#storage.root();
  }

  #differs(what: string, replayed: unknown, actual: unknown): void {
    if (String(replayed).toLowerCase() === String(actual).toLowerCase()) return;
    const message = `the events add up to ${replayed}, the contract says ${actual}`;
    this.#find('failure', 'HISTORY_INCOMPLETE', what, message);
  }

  /** A request or answer in a record that the contract shows as answered although no event says so. */
  async lookForHiddenOnboardings(): Promise<void> {
    // If the events explain all of the storage there is none, whatever the records say.
    if (this.#explained()) return;
    const { records, reader, head } = this.#input;
    const own = [...this.#replay.requests.keys()].map(bare);
    const recorded = new Set([...records.requests.keys(), ...records.answers.keys()]);
    const others = [...recorded].filter((hash) => !this.#replay.requests.has(`0x${hash}`));
    if (others.length > MOST_LOOKED_UP) {
      const message = `there are records of ${others.length} requests that are not in the history: ${MOST_LOOKED_UP} of them were looked up`;
      this.#find('gap', 'RECORDS_TOO_MANY', 'records', message);
    }
    const lookedUp = [...own, ...others.slice(0, MOST_LOOKED_UP)].filter(
      (hash) => this.#replay.requests.get(`0x${hash}`)?.answered !== true,
    );
    const views = await reader.requests(lookedUp.map(bytesOf), head);
    for (const [at, hash] of lookedUp.entries()) {
      if (views[at]!.state === 'answered') {
        this.#find(
          'failure',
          'HIDDEN_ONBOARDING',
          `request ${hash}`,
          'the contract shows it as answered, and no event says so: the endpoints hide one',
        );
      }
    }
  }

  /** Anyone can register; a request that nobody answered was refused, or nobody could answer it. */
  listUnanswered(): void {
    for (const [hash, request] of this.#replay.requests) {
      if (request.answered) continue;
      const { node, epoch, block, time } = request;
      const standing = this.#standingOf(request);
      this.#unanswered.push({ requestHash: bare(hash), node, epoch, block, time, standing });
    }
    if (this.#unanswered.length === 0) return;
    const open = this.#unanswered.filter(({ standing }) => standing === 'open').length;
    this.#find(
      'warning',
      'REGISTRATIONS_UNANSWERED',
      'today',
      `${this.#unanswered.length} registrations were not answered, ${open} of them still can be`,
    );
  }

  /**
   * Answers that the network's key signed and that are not on chain. A node gives out the sealed secret only once the contract has the
   * answer. If the sealed bytes are found in a record, they did get out; if not, they got out only if the node that signed broke
   * that rule.
   */
  listUnposted(): void {
    const { records, network, head } = this.#input;
    for (const [requestHash, versions] of records.answers) {
      const request = this.#replay.requests.get(`0x${requestHash}`);
      const posted = this.#storage.answerOf(`0x${requestHash}`);
      const standing = this.#standingOf(request);
      const made = records.requests.get(requestHash)?.[0]?.blockNumber;
      const over =
        request !== undefined
          ? request.block + BLOCK_HASHES + this.#requestWindow
          : (made ?? Number.POSITIVE_INFINITY) + BLOCK_HASHES;
      const final = standing !== 'open' && head.number > over;
      for (const { node, answerHash, sealedFound } of signedAnswers(
        versions,
        records.sealed.get(requestHash) ?? [],
        parseHex(requestHash),
        this.#replay.networkKeys,
        network,
      )) {
        if (posted !== undefined && answerHash.slice(0, 62) === posted) continue;
        const unposted = { requestHash, node, answerHash, standing, final, sealedFound };
        this.#unposted.push(unposted);
        this.#judgeUnposted(unposted);
      }
    }
  }

  #judgeUnposted({ requestHash, node, standing, final, sealedFound }: Unposted): void {
    const where = `request ${requestHash}`;
    const what = `the network's key signed an answer to ${node} that is not on chain (the request reads ${standing})`;
    if (final && sealedFound) {
      const message = `${what} and can no longer get there, and a record has the sealed secret: whoever has the request's key could open it, without a trace on chain`;
      this.#find('failure', 'SECRET_WITHOUT_TRACE', where, message);
    } else if (final && standing === 'none') {
      const message = `${what}: a node answered a request that was never made on chain, which no node built from this source does`;
      this.#find('failure', 'ANSWER_WITHOUT_REQUEST', where, message);
    } else {
      const message = `${what}${final ? '' : ' yet'}: nobody got the secret by it if the node that signed gives out the sealed bytes only once they are recorded`;
      this.#find('warning', 'ANSWER_NOT_POSTED', where, message);
    }
  }

  #standingOf(request: Request | undefined): RequestStanding {
    if (request === undefined) return 'none';
    if (request.answered) return 'answered';
    const isOver = this.#input.head.number > request.block + this.#requestWindow;
    return isOver || request.epoch !== this.#replay.epoch ? 'expired' : 'open';
  }

  /** What is true today and a reader should know. */
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
          `its ${kind} is ${found.is}${since}; it was given the secret before, and the secret has not been replaced since`,
        );
      }
    }
    const count = this.#holders.length;
    if (count === 1)
      this.#find(
        'warning',
        'NETWORK_OF_ONE',
        'today',
        'only one node was ever given the secret: if it dies, the secret is lost',
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
      storage: { ...this.#input.stateProof, explained: this.#explained() },
      owner: this.#replay.owner,
      delay: this.#replay.delayAt(now),
      epoch: this.#replay.epoch,
      timeline: this.#timeline,
      holders: this.#holdersToday(),
      unanswered: this.#unanswered,
      unposted: this.#unposted,
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
    const { network, flavour } = this.#input;
    return { network, flavour, time, policy, memory: this.#memory };
  }

  #find(severity: Severity, code: string, where: string, message: string): void {
    this.#findings.push({ severity, code, where, message });
  }
}

/** One event in words. */
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
/** How far back a contract can read block hashes: a request over an older block can no longer be registered. Blocks. */
const BLOCK_HASHES = 256;
/** Questions to the endpoints at the same time. */
const AT_ONCE = 8;
/** How many requests that only records know of are looked up in the contract. */
const MOST_LOOKED_UP = 5_000;
const bare = (hex: string): string => hex.replace(/^0x/, '').toLowerCase();
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(bare(hex), 'hex'));
const nameOf = (app: string): string => Buffer.from(bare(app), 'hex').toString('latin1').replace(/\0+$/, '');
