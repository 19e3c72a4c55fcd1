/**
 * One app: what the contract wants of it, what runs, and what was refused.
 *
 * It does one thing at a time, and no other app waits for it. What the host may delay, fetching and loading, happens beside that, for
 * a manifest in force and for one that is still in its delay. A refusal never takes down what is serving: old containers go only when
 * the new ones are up, or, where both may not run at once, when everything that the new ones need is in the engine; they are started
 * again if the new ones do not come up.
 */
import type { Log } from '../../lib/daemon/log.ts';
import {
  type AppState,
  type AppStatus,
  type AppTrouble,
  appsStatusLimits,
  type Rollout,
} from '../../lib/protocol/app-status.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  type ContainerPlan,
  domainsOf,
  type Manifest,
  plansOf,
  type SitePlan,
} from '../../lib/protocol/manifest.ts';
import type { AppFolderRequest, ContainersReply } from '../../lib/protocol/sockets.ts';
import { addressOf, NUMBERS } from '../bridges.ts';
import type { Desired } from './apps-reader.ts';
import { type Fetcher, ManifestRefused } from './deployment.ts';
import type { Claims } from './domains.ts';
import type { AppNetwork, Engine, Found, Running, Storage } from './engine.ts';
import { type Kept, unrecorded } from './kept.ts';
import { Numbers } from './numbers.ts';
import type { Secrets } from './secrets.ts';
import { type Setback, setback } from './setback.ts';
import { shownMessage } from './shown.ts';

export interface AppOptions {
  readonly engine: Engine;
  readonly fetcher: Fetcher;
  readonly kept: Kept;
  /** What a container gets of the disks. @throws DISK_… while the data disk is not usable, HOST_FOLDER */
  storageOf(app: string, plan: ContainerPlan): Promise<Storage>;
  readonly secrets: Pick<Secrets, 'prepare' | 'of' | 'prune'>;
  /** The folder with the agent's socket for one container. @throws SOCKET_… while the agent is away */
  agentFolderOf(request: AppFolderRequest): Promise<string>;
  /** What is wrong with a container that runs; undefined when it is up. */
  probe(at: Running, plan: ContainerPlan): Promise<string | undefined>;
  readonly log: Log;
  /** A monotonic clock, in milliseconds. */
  now(): number;
  pause(milliseconds: number): Promise<void>;
  /** How long a container with neither a port nor a health check must stay up. Milliseconds. */
  readonly staysUp: number;
  /** The chain's clock, Unix seconds: it never goes back, also while the chain cannot be reached. */
  chainNow(): number;
  /** How long an app runs whose manifest is not the one in force any more, or while the contract cannot be read. Seconds. */
  supersededGrace(): number;
  /** Asks later whether the front is like what is said from now on of where requests go. */
  frontMark(): () => boolean;
  /** How long a switch waits for the front, which may be away. Milliseconds. */
  readonly frontWithin: number;
  /** How long the old containers go on after the front leads elsewhere: for requests under way. Milliseconds. */
  readonly drain: number;
  /** The same for containers that must stop before the new ones start, while the front lets requests wait. */
  readonly lull: number;
}

/** What the app asks of the others' keeper. */
export interface Neighbours {
  /** @throws APP_NO_ROOM */
  assertRoom(app: string, manifest: Manifest): void;
  /** @throws APP_DOMAIN_TAKEN, APP_DOMAIN_NETWORK, APP_DOMAINS_FULL */
  assertDomains(app: string, manifest: Manifest): void;
  /** Removes what no app needs. */
  tidy(): Promise<void>;
  /** The time of the block at which the contract was read last, Unix seconds. */
  readAt(): number | undefined;
  /** How a rollout of this app ended. */
  tell(rollout: Omit<Rollout, 'at'>): void;
}

/** What the contract says of one app. */
export interface Wish {
  /** The manifest in force; undefined for an app that was withdrawn, or has none yet. */
  readonly wanted: Hex | undefined;
  /** A manifest that takes effect later. */
  readonly pending: Hex | undefined;
  /** Since when `wanted` is in force, Unix seconds; undefined when the contract does not say it. */
  readonly since: number | undefined;
}

/** `address` is empty until it was started. */
interface Instance extends Running {
  readonly plan: ContainerPlan;
  /** Health checks that failed since the last good one, and when the next one is due. */
  failures?: number;
  nextProbe?: number;
  /** It ended or was not well, and when it was started again for that. */
  crash?: Setback | undefined;
  revivedAt?: number;
  /** It ended by itself, and its manifest does not want it started again. */
  finished?: boolean;
  /** It was stopped for a new version, and is started again if that one does not come up. */
  interrupted?: boolean;
}

type StorageByName = ReadonlyMap<string, Storage>;

/** Containers of one manifest. */
interface Deployment {
  readonly hash: Hex;
  readonly manifest: Manifest;
  readonly network: AppNetwork;
  readonly instances: Instance[];
  /** Since when the contract names another manifest, Unix seconds by the chain's clock. */
  superseded?: number | undefined;
  /** Of each container, by its name: its number on the network. */
  readonly numbers: ReadonlyMap<string, number>;
}

type Ended = NonNullable<ContainersReply['containers'][number]['ended']>;

interface Preparation {
  state: 'running' | 'ready';
  manifest?: Manifest;
  done: Promise<void>;
}

const POLL = 250;
/** Between commands that see whether a new one is healthy: each takes the engine about a tenth of a second. */
const EXEC_POLL = 1_000;
/** For one without a health check, milliseconds. */
const UP_WITHIN = 120_000;
/** One that ran for so long, in milliseconds, is started again at once. */
const RAN_WELL = 600_000;

export class App {
  readonly name: string;
  readonly #options: AppOptions;
  readonly #neighbours: Neighbours;
  #wanted: Hex | undefined;
  #pending: Hex | undefined;
  #readAgain: () => Promise<Desired> = async () => new Map();
  /** While nobody can say what the contract wants: only what runs is kept running. */
  #frozen = true;
  #serving: Deployment | undefined;
  /** New containers that are not up yet; the agent knows them already. */
  #starting: Deployment | undefined;
  /** Old containers that still answer what they were asked. */
  #leaving: Deployment | undefined;
  /** Served before: its image and manifest stay, so that going back needs nothing of the host. */
  #previous: { readonly hash: Hex; readonly manifest: Manifest } | undefined;
  /** True while old containers are down and the new ones not up. */
  #switching = false;
  readonly #preparations = new Map<Hex, Preparation>();
  readonly #refusals = new Map<Hex, Setback>();
  /** Why nothing serves although something did. */
  #ended: Ended | undefined;
  /** What containers get their addresses from, and who has which by the engine's id. */
  readonly #numbers: Readonly<Record<ContainerPlan['egress'], Numbers>>;
  readonly #numberOf = new Map<string, number>();
  /** The domains that a manifest names; none for one that no node runs. */
  readonly #domains = new Map<Hex, readonly string[]>();
  /** Containers that must be removed before anything else of this app is started. */
  readonly #litter: string[] = [];
  /** What a restarted daemon has to know is not, or may not be, in its record: it is written again at each pass. */
  #unrecorded = false;
  #work: Promise<void> | undefined;
  #again = false;
  /** Whether the engine has, or may have, anything of it. */
  #present = false;
  #gone = false;

  constructor(name: string, options: AppOptions, neighbours: Neighbours) {
    this.name = name;
    this.#options = options;
    this.#neighbours = neighbours;
    this.#numbers = {
      none: new Numbers(NUMBERS.none, options.now),
      internet: new Numbers(NUMBERS.internet, options.now),
    };
  }

  /** Withdrawn, and nothing of it is left. */
  get gone(): boolean {
    return this.#gone;
  }

  /**
   * Moves towards what the contract wants. Nothing is thrown.
   *
   * @param readAgain reads the contract again: called before anything is started. May throw
   */
  follow({ wanted, pending, since }: Wish, readAgain: () => Promise<Desired>): void {
    this.#wanted = wanted;
    this.#pending = pending;
    this.#readAgain = readAgain;
    this.#frozen = false;
    this.#gone = false;
    this.#supersede(since);
    this.#forget();
    for (const hash of [wanted, pending]) if (hash !== undefined) this.#prepare(hash);
    this.#kick();
  }

  /** While the contract cannot be read: restarts what stopped by itself, and changes nothing else. */
  keep(): void {
    this.#frozen = true;
    this.#kick();
  }

  /** Resolves when there is nothing under way. */
  async settled(): Promise<void> {
    for (;;) {
      const running = [...this.#preparations.values()].filter(({ state }) => state === 'running');
      if (running.length === 0 && this.#work === undefined) return;
      await Promise.all([this.#work, ...running.map(({ done }) => done)]);
    }
  }

  /** Every container that may run, and the address it calls from. */
  containers(): ContainersReply['containers'] {
    return [this.#serving, this.#starting, this.#leaving].flatMap((deployment) => {
      if (deployment === undefined) return [];
      const { hash: manifestHash, network, instances } = deployment;
      const ended = this.#overdue(deployment);
      const rest = { manifestHash, gateway: network.gateway, ...(ended !== undefined && { ended }) };
      return instances
        .filter(({ address }) => address !== '')
        .map(({ address, plan }) => ({
          ...{ app: this.name, container: plan.name, address, api: [...plan.api] },
          ...rest,
        }));
    });
  }

  /** Where requests for a domain go, or those for the network's website; undefined while it takes none. */
  leads(
    domain?: string,
  ): { readonly host: string; readonly port: number; readonly protocol: SitePlan['protocol'] } | undefined {
    return this.#switching ? undefined : this.#siteAt(domain);
  }

  /** Whether requests for it should wait a moment: what served it is being replaced. */
  waits(domain?: string): boolean {
    return this.#switching && this.#siteAt(domain) !== undefined;
  }

  #siteAt(domain: string | undefined): ReturnType<App['leads']> {
    if (this.#overdue(this.#serving) !== undefined) return undefined;
    for (const { address, plan } of this.#serving?.instances ?? []) {
      const site = plan.http.find((one) => one.domain === domain);
      if (site !== undefined && address !== '')
        return { host: address, port: site.port, protocol: site.protocol };
    }
    return undefined;
  }

  whyNotReady(domain?: string): string {
    const refusal = this.#wanted === undefined ? undefined : this.#refusals.get(this.#wanted);
    const ended = this.#overdue(this.#serving) ?? this.#ended;
    if (ended !== undefined) return `${this.name}: ${ended.code}`;
    if (this.#serving === undefined)
      return refusal === undefined ? `${this.name} is starting` : `${this.name}: ${refusal.code}`;
    if (this.#switching) return `${this.name} is being replaced`;
    return domain === undefined
      ? `${this.name} is not the website`
      : `${this.name} is starting for ${domain}`;
  }

  /** The domains that it names. */
  claims(): Claims {
    const serving = this.#serving && domainsOf(this.#serving.manifest);
    const wanted = this.#wanted;
    // Before the contract was read, what an earlier run of the daemon served counts.
    if (wanted === undefined) return { name: this.name, inForce: this.#frozen ? serving : [], serving };
    const inForce = wanted === this.#serving?.hash ? serving : this.#domains.get(wanted);
    return { name: this.name, inForce, serving };
  }

  /** Everything but its logs, which share what room there is. */
  status(): { readonly status: AppStatus; readonly logs: AppTrouble['logs'] } {
    const serving = this.#serving;
    const trouble = this.#trouble();
    const { now, supersededGrace } = this.#options;
    const since = serving?.superseded;
    return {
      logs: trouble?.setback.logs ?? {},
      status: {
        app: this.name,
        state: this.#state(),
        ...(this.#wanted !== undefined && { inForce: this.#wanted }),
        ...(this.#pending !== undefined && { pending: this.#pending }),
        ...(serving !== undefined && { serving: serving.hash }),
        ...(since !== undefined && { supersededSince: since, endsAt: since + supersededGrace() }),
        ...(trouble !== undefined && {
          trouble: {
            code: trouble.setback.code,
            message: shownMessage(trouble.setback.code, trouble.setback.message),
            manifest: trouble.manifest,
            attempts: trouble.setback.attempts,
            nextTry: Math.max(0, Math.ceil((trouble.setback.notBefore - now()) / 1000)),
            logs: {},
          },
        }),
      },
    };
  }

  #state(): AppState {
    const [serving, wanted] = [this.#serving, this.#wanted];
    if (this.#overdue(serving) !== undefined || this.#ended !== undefined) return 'ended';
    if (this.#switching) return 'replacing';
    if (serving !== undefined) return wanted === undefined || wanted === serving.hash ? 'serving' : 'behind';
    if (wanted === undefined) return 'waiting';
    return this.#refusals.has(wanted) ? 'down' : 'starting';
  }

  /** The refusal of the manifest in force, else of the next one, else what the containers that serve were started again for. */
  #trouble(): { readonly manifest: Hex; readonly setback: Setback } | undefined {
    for (const manifest of [this.#wanted, this.#pending]) {
      const setback = manifest === undefined ? undefined : this.#refusals.get(manifest);
      if (setback !== undefined) return { manifest: manifest!, setback };
    }
    const crash = this.#serving?.instances.find(({ crash }) => crash !== undefined)?.crash;
    return crash === undefined ? undefined : { manifest: this.#serving!.hash, setback: crash };
  }

  /** Manifests of which something must stay, the one that serves first. */
  manifests(): { readonly hash: Hex; readonly manifest: Manifest }[] {
    const preparing = [...this.#preparations].flatMap(([hash, { manifest }]) =>
      manifest === undefined ? [] : [{ hash, manifest }],
    );
    return [this.#serving, this.#starting, this.#leaving, this.#previous, ...preparing].filter(
      (one) => one !== undefined,
    );
  }

  /** Manifests whose containers run, or are about to. */
  running(): Manifest[] {
    return [this.#serving, this.#starting, this.#leaving].flatMap((one) => one?.manifest ?? []);
  }

  /**
   * Takes over what an earlier run of this daemon left. What it recorded as serving serves on; without a record, the oldest that is
   * whole: a younger one may not have been up yet. The rest is removed.
   */
  async adopt(found: readonly Found[]): Promise<void> {
    const { kept, engine, log } = this.#options;
    this.#present = true;
    // Nobody knows which addresses were given back just before.
    for (const numbers of Object.values(this.#numbers)) numbers.rest();
    for (const { id, number } of found) this.#hold(id, number);
    const record = kept.record(this.name);
    const whole = [...new Set(found.map(({ manifest }) => manifest))].flatMap((hash) => {
      const manifest = kept.manifest(hash);
      const own = found.filter((one) => one.manifest === hash);
      const plans = manifest === undefined ? [] : plansOf(manifest);
      const instances = plans.flatMap((plan) => {
        const one = own.find(({ container }) => container === plan.name);
        if (one === undefined) return [];
        const was = (list: readonly string[] | undefined) =>
          hash === record?.serving && list?.includes(plan.name) === true;
        const [finished, interrupted] = [was(record?.finished), was(record?.interrupted)];
        return [{ id: one.id, address: '', plan, running: one.running, finished, interrupted }];
      });
      if (manifest === undefined || instances.length < plans.length) return [];
      return [{ hash, manifest, instances, created: Math.min(...own.map(({ created }) => created)) }];
    });
    whole.sort(
      (a, b) =>
        Number(b.hash === record?.serving) - Number(a.hash === record?.serving) || a.created - b.created,
    );
    const [serving] = whole;
    if (serving !== undefined) {
      const { hash, manifest } = serving;
      const instances: Instance[] = [];
      for (const { running, ...instance } of serving.instances) {
        instances.push(instance);
        // Starting one that runs only tells its address. If it is not told now, `#revive` asks again: other apps do not wait for it.
        if (running)
          await this.#quietly(
            async () => Object.assign(instance, await engine.start(instance.id)),
            'not taken over yet',
          );
      }
      const numbers = new Map(
        instances.map(({ id, plan }) => [plan.name, this.#numberOf.get(id) ?? 0] as const),
      );
      const superseded = hash === record?.serving ? record.superseded : undefined;
      const network = await engine.ensureNetwork(this.name);
      this.#serving = { hash, manifest, instances, network, numbers, superseded };
      log.info({ app: this.name, manifest: hash }, 'taken over from an earlier run');
    }
    const before = record?.previous === undefined ? undefined : kept.manifest(record.previous);
    if (before !== undefined) this.#previous = { hash: record!.previous!, manifest: before };
    const ours = new Set(serving?.instances.map(({ id }) => id));
    this.#litter.push(...found.map(({ id }) => id).filter((id) => !ours.has(id)));
  }

  #kick(): void {
    this.#again = true;
    this.#work ??= this.#run();
  }

  async #run(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await this.#quietly(() => this.#once(), 'app not followed');
    }
    // In the same turn as the last look: a kick in between would be lost until the next one.
    this.#work = undefined;
  }

  async #once(): Promise<void> {
    const hash = this.#wanted;
    if (this.#unrecorded) this.#rememberOrRetry();
    const ended = this.#overdue(this.#serving);
    if (ended !== undefined) await this.#end(ended);
    if (this.#ended !== undefined) await this.#sweep();
    if (this.#frozen) return this.#revive();
    if (hash === undefined) return this.#withdraw();
    if (this.#serving?.hash === hash) {
      this.#refusals.delete(hash);
      return this.#revive();
    }
    const prepared = this.#preparations.get(hash);
    if (prepared?.state !== 'ready' || !this.#isDue(hash)) return this.#revive();
    await this.#advance(hash, prepared.manifest!);
  }

  async #advance(hash: Hex, manifest: Manifest): Promise<void> {
    const { log } = this.#options;
    try {
      await this.#deploy(hash, manifest);
      this.#refusals.delete(hash);
      log.info({ app: this.name, manifest: hash }, 'app deployed');
      this.#neighbours.tell({ app: this.name, manifest: hash, outcome: 'deployed' });
    } catch (error) {
      this.#refuse(hash, error, 'app not deployed');
    }
    // What the engine has may have changed: the next attempt looks again.
    this.#preparations.delete(hash);
    await this.#quietly(() => this.#retire());
    await this.#quietly(() => this.#neighbours.tidy());
  }

  /** Fetches and loads, unless that is done, under way or to be tried later. */
  #prepare(hash: Hex): void {
    if (this.#serving?.hash === hash || this.#preparations.has(hash) || !this.#isDue(hash)) return;
    const preparation: Preparation = { state: 'running', done: Promise.resolve() };
    this.#preparations.set(hash, preparation);
    preparation.done = this.#fetch(hash, preparation).then(
      () => {
        preparation.state = 'ready';
        this.#kick();
      },
      (error: unknown) => {
        this.#preparations.delete(hash);
        this.#refuse(hash, error, hash === this.#wanted ? 'app not deployed' : 'next manifest not ready');
      },
    );
  }

  async #fetch(hash: Hex, preparation: Preparation): Promise<void> {
    const { fetcher, secrets } = this.#options;
    const manifest = await fetcher.manifest(this.name, hash).catch((error: unknown) => {
      if (error instanceof ManifestRefused) this.#domains.set(hash, []);
      throw error;
    });
    this.#domains.set(hash, domainsOf(manifest));
    // From here on its images are not tidied away.
    preparation.manifest = manifest;
    for (const { image, tmpfs, volumes } of plansOf(manifest))
      await fetcher.image(image, [...Object.keys(tmpfs), ...Object.keys(volumes)]);
    await secrets.prepare(hash, manifest);
  }

  #isDue(hash: Hex): boolean {
    return (this.#refusals.get(hash)?.notBefore ?? 0) <= this.#options.now();
  }

  #refuse(hash: Hex, error: unknown, what: string): void {
    const { log, now } = this.#options;
    const refusal = {
      ...setback(this.#refusals.get(hash), error, now()),
      ...(error instanceof NotUp && { logs: error.logs }),
    };
    this.#refusals.set(hash, refusal);
    const { code, attempts, logs } = refusal;
    const shown = logs === undefined || Object.keys(logs).length === 0 ? {} : { logs };
    log.warn(
      { app: this.name, manifest: hash, code, attempts, old: this.#serving?.hash, ...shown },
      `${what}: ${refusal.message}`,
    );
    if (hash === this.#wanted)
      this.#neighbours.tell({ app: this.name, manifest: hash, outcome: 'refused', code });
  }

  /** Why these containers must get nothing any more; asked whenever somebody wants something for them. */
  #overdue(deployment: Deployment | undefined): Ended | undefined {
    if (deployment === undefined) return undefined;
    const { chainNow, supersededGrace } = this.#options;
    const [now, grace] = [chainNow(), supersededGrace()];
    const isOver = (since: number | undefined) => since !== undefined && now - since >= grace;
    if (isOver(deployment.superseded)) {
      const message = `the network has run another manifest of ${this.name} for longer than ${grace} s`;
      return { code: 'APP_SUPERSEDED', message };
    }
    if (!isOver(this.#neighbours.readAt())) return undefined;
    const message = `this node has not read the contract for longer than ${grace} s: it cannot know what the network runs`;
    return { code: 'APP_CHAIN_STALE', message };
  }

  /**
   * The time counts from what the chain says, so that no new start of anything begins it again; and from the first such manifest,
   * however many came after it.
   */
  #supersede(since: number | undefined): void {
    const serving = this.#serving;
    if (serving === undefined) return;
    const before = serving.superseded;
    // One that was withdrawn goes at once, and has no successor to count from.
    const isCurrent = this.#wanted === undefined || serving.hash === this.#wanted;
    serving.superseded = isCurrent
      ? undefined
      : Math.min(before ?? Number.POSITIVE_INFINITY, since ?? this.#options.chainNow());
    if (serving.superseded !== before) this.#rememberOrRetry();
  }

  /** Lets go of containers that are overdue. What they would need to be started again stays. */
  async #end(why: Ended): Promise<void> {
    const { engine, log, pause, drain } = this.#options;
    const serving = this.#serving!;
    const { hash, manifest, instances } = serving;
    log.warn({ app: this.name, manifest: hash, code: why.code }, `app ended: ${why.message}`);
    await this.#untilLedElsewhere();
    await pause(drain);
    if (this.#overdue(serving) === undefined) return;
    for (const { id, plan } of instances) await this.#quietly(() => engine.stop(id, plan.stopSeconds));
    this.#litter.push(...instances.map(({ id }) => id));
    this.#ended = why;
    this.#previous = { hash, manifest };
    this.#serving = undefined;
    this.#neighbours.tell({ app: this.name, manifest: hash, outcome: 'ended', code: why.code });
  }

  /** @throws APP_UNRECORDED */
  #remember(): void {
    const serving = this.#serving;
    this.#unrecorded = serving !== undefined;
    if (serving === undefined) return;
    const { hash, superseded, instances } = serving;
    const previous = this.#previous?.hash;
    const namesOf = (which: 'finished' | 'interrupted') => {
      const names = instances.filter((one) => one[which] === true).map(({ plan }) => plan.name);
      return names.length === 0 ? {} : { [which]: names };
    };
    try {
      this.#options.kept.remember(this.name, {
        serving: hash,
        ...(previous !== undefined && previous !== hash && { previous }),
        ...(superseded !== undefined && { superseded }),
        ...namesOf('finished'),
        ...namesOf('interrupted'),
      });
    } catch (cause) {
      throw unrecorded(`what runs of ${this.name}`, cause);
    }
    this.#unrecorded = false;
  }

  /** Of what has happened already: it is not undone for this. Nothing is thrown. */
  #rememberOrRetry(): void {
    const isKnown = this.#unrecorded;
    try {
      this.#remember();
    } catch (error) {
      const fields = { app: this.name, code: codeOf(error) };
      if (!isKnown) this.#options.log.warn(fields, `${(error as Error).message}; it is tried again`);
    }
  }

  /** What is neither wanted nor pending any more. */
  #forget(): void {
    const current = new Set([this.#wanted, this.#pending]);
    for (const map of [this.#refusals, this.#domains])
      for (const hash of map.keys()) if (!current.has(hash)) map.delete(hash);
    for (const [hash, { state }] of this.#preparations)
      if (!current.has(hash) && state === 'ready') this.#preparations.delete(hash);
  }

  /** @throws what starting and `readAgain` throw, MANIFEST_SUPERSEDED, APP_NO_ROOM, APP_DOMAIN…; the old one then serves as before */
  async #deploy(hash: Hex, manifest: Manifest): Promise<void> {
    const { engine } = this.#options;
    const plans = plansOf(manifest);
    const storage = new Map<string, Storage>();
    for (const plan of plans) storage.set(plan.name, await this.#options.storageOf(this.name, plan));
    this.#present = true;
    const network = await engine.ensureNetwork(this.name);
    // Who may ask the agent nothing has no socket of its.
    for (const { name: container, api } of plans) {
      if (api.length === 0) continue;
      const request = { app: this.name, manifestHash: hash, container, gateway: network.gateway };
      const agent = await this.#options.agentFolderOf(request);
      storage.set(container, { ...storage.get(container)!, agent });
    }
    const numbers = await this.#takeNumbers(plans);
    try {
      await this.#replace({ hash, manifest, network, instances: [], numbers }, storage);
    } finally {
      // Those of containers that were not made: the others have theirs until they are removed.
      const had = new Set(this.#numberOf.values());
      for (const number of numbers.values()) if (!had.has(number)) this.#free(number);
    }
  }

  /** Starts these and, once they are up, takes the old ones out of service. @throws as `#deploy` */
  async #replace(starting: Deployment, storage: StorageByName): Promise<void> {
    const { hash, manifest } = starting;
    // The host delivers the files as slowly as it likes; the owner may have replaced this manifest meanwhile, for a reason.
    if ((await this.#readAgain()).get(this.name) !== hash) throw superseded(hash);
    this.#neighbours.assertDomains(this.name, manifest);
    this.#neighbours.assertRoom(this.name, manifest);
    const old = this.#serving;
    this.#starting = starting;
    try {
      await this.#sweep();
      await this.#bringUp(starting, storage);
      if (old !== undefined) this.#previous = old;
      this.#serving = starting;
      this.#leaving = old;
      this.#ended = undefined;
      this.#rememberOrRetry();
    } catch (error) {
      if (error instanceof NotUp) error.logs = await this.#publicLogs(starting.instances);
      this.#litter.push(...starting.instances.map(({ id }) => id));
      await this.#quietly(() => this.#restart());
      throw error;
    } finally {
      this.#starting = undefined;
      this.#switching = false;
    }
  }

  /** Waits for addresses that are at rest: after many rollouts in a minute, or one right after this daemon was started again. */
  async #takeNumbers(plans: readonly ContainerPlan[]): Promise<ReadonlyMap<string, number>> {
    const taken = new Map<string, number>();
    for (const { name, egress } of plans) {
      for (let number: number | undefined; number === undefined; ) {
        number = this.#numbers[egress].take();
        if (number === undefined) await this.#options.pause(POLL);
        else taken.set(name, number);
      }
    }
    return taken;
  }

  #hold(id: string, number: number): void {
    for (const numbers of Object.values(this.#numbers)) numbers.hold(number);
    this.#numberOf.set(id, number);
  }

  #free(number: number): void {
    for (const numbers of Object.values(this.#numbers)) numbers.free(number);
  }

  /** Removes a container, whose address rests from then on. @throws ENGINE_… */
  async #remove(id: string): Promise<void> {
    await this.#options.engine.remove(id);
    const number = this.#numberOf.get(id);
    if (number !== undefined && this.#numberOf.delete(id)) this.#free(number);
  }

  /** Resolves when all containers are up. @throws ENGINE_…, APP_NOT_UP, APP_UNHEALTHY, MANIFEST_SUPERSEDED, APP_UNRECORDED */
  async #bringUp(starting: Deployment, storage: StorageByName): Promise<void> {
    const plans = plansOf(starting.manifest);
    const replacing = plans.filter(({ update }) => update === 'replace');
    const beside = plans.filter(({ update }) => update === 'beside');
    await this.#start(starting, beside, storage);
    if (replacing.length > 0) {
      // Two versions must never write to the app's data at once.
      const names = new Set(replacing.map(({ name }) => name));
      const stopping = (this.#serving?.instances ?? []).filter(
        ({ plan, finished }) => finished !== true && (plan.data === 'rw' || names.has(plan.name)),
      );
      // Kept before it happens: a daemon that is killed here has to know that they did not end by themselves.
      for (const instance of stopping) instance.interrupted = true;
      if (stopping.length > 0) this.#remember();
      this.#switching = this.#serving !== undefined;
      if (stopping.some(({ plan }) => plan.http.length > 0)) {
        await this.#untilLedElsewhere();
        await this.#options.pause(this.#options.lull);
      }
      for (const { id, plan } of stopping) await this.#options.engine.stop(id, plan.stopSeconds);
      await this.#start(starting, replacing, storage);
    }
    for (const instance of starting.instances) await this.#untilUp(instance, starting.hash);
  }

  async #start(
    deployment: Deployment,
    plans: readonly ContainerPlan[],
    storage: StorageByName,
  ): Promise<void> {
    const { engine, secrets } = this.#options;
    for (const plan of plans) {
      const id = await engine.create({
        name: `dstack_${this.name}_${plan.name}_${deployment.hash.slice(0, 16)}`,
        app: this.name,
        manifest: deployment.hash,
        image: plan.image,
        container: plan,
        network: deployment.network,
        storage: storage.get(plan.name)!,
        secrets: await secrets.of(deployment.hash, plan),
        number: deployment.numbers.get(plan.name)!,
        siblings: addressesOf(deployment),
      });
      const instance: Instance = { id, address: '', plan };
      deployment.instances.push(instance);
      this.#hold(id, deployment.numbers.get(plan.name)!);
      Object.assign(instance, await engine.start(id));
    }
  }

  async #untilUp(instance: Instance, hash: Hex): Promise<void> {
    const { id, address, plan } = instance;
    const { engine, probe, now, pause, staysUp } = this.#options;
    const within = plan.health === undefined ? UP_WITHIN : plan.health.startSeconds * 1000;
    const started = now();
    for (;;) {
      // The owner may have gone back meanwhile, because it does not come up.
      if (!this.#frozen && this.#wanted !== hash) throw superseded(hash);
      if (!(await engine.isRunning(id))) {
        instance.finished = await this.#isFinished(instance);
        // A container that has done what it was for is as good as one that is up.
        if (instance.finished && plan.http.length === 0 && (await engine.exitCode(id)) === 0) return;
        throw new NotUp('APP_NOT_UP', `container ${plan.name} stopped right after its start`);
      }
      const lasted = now() - started;
      const isProbed = plan.health !== undefined || plan.http.length > 0;
      let wrong: string | undefined;
      try {
        wrong = isProbed ? await probe({ id, address }, plan) : undefined;
      } catch (error) {
        // It may have ended during the check, which the next round says better.
        if (await engine.isRunning(id)) throw error;
        continue;
      }
      if (wrong === undefined && (isProbed || lasted >= staysUp)) return;
      if (wrong !== undefined && lasted > within) {
        const code = plan.health === undefined ? 'APP_NOT_UP' : 'APP_UNHEALTHY';
        throw new NotUp(code, `container ${plan.name} ${wrong}`);
      }
      await pause(plan.health?.exec === undefined ? POLL : EXEC_POLL);
    }
  }

  /** Starts containers again that stopped by themselves, or whose health checks fail. */
  async #revive(): Promise<void> {
    const { engine, log, now } = this.#options;
    for (const instance of this.#serving?.instances ?? []) {
      const { id, plan } = instance;
      try {
        await this.#sweep();
        if (instance.finished) continue;
        const isRunning = await engine.isRunning(id);
        if (isRunning && instance.address === '') Object.assign(instance, await engine.start(id));
        const wrong = isRunning ? await this.#sickness(instance) : 'stopped';
        const { revivedAt } = instance;
        if (revivedAt !== undefined && now() - revivedAt > RAN_WELL) instance.crash = undefined;
        if (wrong === undefined || (instance.crash?.notBefore ?? 0) > now()) continue;
        const code = isRunning ? 'APP_UNHEALTHY' : 'APP_STOPPED';
        const error = new DstackError(code, `container ${plan.name} ${wrong}`);
        const logs = await this.#publicLogs([instance]);
        instance.crash = { ...setback(instance.crash, error, now()), logs };
        const { attempts } = instance.crash;
        const fields = { app: this.name, container: plan.name, code, attempts };
        if (isRunning ? plan.restart === 'no' : await this.#isFinished(instance)) {
          instance.finished = !isRunning;
          if (instance.finished) this.#rememberOrRetry();
          log.warn(fields, `container ${wrong}; it is not started again`);
          continue;
        }
        log.warn(fields, `container ${wrong}; starting it`);
        if (isRunning) await engine.stop(id, plan.stopSeconds);
        Object.assign(instance, await engine.start(id), { failures: 0, nextProbe: undefined });
        instance.revivedAt = now();
        if (instance.interrupted) {
          instance.interrupted = false;
          this.#rememberOrRetry();
        }
      } catch (error) {
        log.warn(
          { app: this.name, code: codeOf(error) },
          `container not started: ${(error as Error).message}`,
        );
      }
    }
  }

  /** Whether a container that does not run has ended for good: by itself, and as its manifest lets it. */
  async #isFinished({ id, plan, interrupted }: Instance): Promise<boolean> {
    if (plan.restart === 'always' || interrupted === true) return false;
    return plan.restart === 'no' || (await this.#options.engine.exitCode(id)) === 0;
  }

  /** What its health check has found wrong as often in a row as its manifest allows. */
  async #sickness(instance: Instance): Promise<string | undefined> {
    const { now, probe } = this.#options;
    const { health } = instance.plan;
    if (health === undefined) return undefined;
    // It is given the time to come up again.
    instance.nextProbe ??= now() + health.startSeconds * 1000;
    if (instance.nextProbe > now() && instance.failures !== undefined) return undefined;
    instance.nextProbe = now() + health.intervalSeconds * 1000;
    const wrong = await probe(instance, instance.plan);
    instance.failures = wrong === undefined ? 0 : (instance.failures ?? 0) + 1;
    return instance.failures >= health.retries ? wrong : undefined;
  }

  /** Goes back to the old containers. `#revive` starts those that do not start now. */
  async #restart(): Promise<void> {
    const { engine, log } = this.#options;
    await this.#sweep();
    let [stopped, marked] = [false, false];
    for (const instance of this.#serving?.instances ?? []) {
      if (instance.finished) continue;
      stopped ||= !(await engine.isRunning(instance.id));
      Object.assign(instance, await engine.start(instance.id));
      marked ||= instance.interrupted === true;
      instance.interrupted = false;
    }
    if (stopped || marked) this.#rememberOrRetry();
    if (stopped)
      log.warn({ app: this.name, manifest: this.#serving?.hash }, 'the old containers were started again');
  }

  /**
   * Lets the old containers finish, then removes them: from then on they are nobody's, and what the engine does not remove now it is
   * asked to remove until it has. One may be kept from ending, by the host if it reads what that does not deliver.
   */
  async #retire(): Promise<void> {
    const { engine, pause, drain } = this.#options;
    const old = this.#leaving?.instances ?? [];
    const running: Instance[] = [];
    for (const instance of old)
      if (await engine.isRunning(instance.id).catch(() => true)) running.push(instance);
    if (running.length > 0) {
      await this.#untilLedElsewhere();
      await pause(drain);
    }
    for (const { id, plan } of running) await this.#quietly(() => engine.stop(id, plan.stopSeconds));
    this.#litter.push(...old.map(({ id }) => id));
    this.#leaving = undefined;
    await this.#sweep();
  }

  /** Until the front has heard where requests go now. One that is away does not hold up a rollout for ever. */
  async #untilLedElsewhere(): Promise<void> {
    const { frontMark, frontWithin, log, now, pause } = this.#options;
    const isDone = frontMark();
    const started = now();
    while (!isDone()) {
      if (now() - started >= frontWithin) {
        log.warn({ app: this.name, code: 'FRONT_SILENT' }, 'the front has not said that it leads elsewhere');
        return;
      }
      await pause(POLL);
    }
  }

  /** Removes what must not run any more. @throws ENGINE_…, with what is left still in `#litter` */
  async #sweep(): Promise<void> {
    while (this.#litter.length > 0) {
      await this.#remove(this.#litter[0]!);
      this.#litter.shift();
    }
  }

  async #withdraw(): Promise<void> {
    const { engine, kept, log } = this.#options;
    // It may be about to come for the first time.
    this.#gone = !this.#present && this.#pending === undefined;
    if (!this.#present) return;
    try {
      await this.#sweep();
      for (const { id } of [...(this.#serving?.instances ?? []), ...(this.#leaving?.instances ?? [])])
        await this.#remove(id);
      await engine.removeNetwork(this.name);
      kept.forget(this.name);
      const was = this.#serving?.hash;
      this.#serving = this.#leaving = this.#previous = this.#ended = undefined;
      if (was !== undefined) this.#neighbours.tell({ app: this.name, manifest: was, outcome: 'withdrawn' });
      this.#present = false;
      this.#gone = this.#pending === undefined;
      log.info({ app: this.name }, 'app withdrawn');
      await this.#quietly(() => this.#neighbours.tidy());
    } catch (error) {
      // The next step tries again.
      log.warn({ app: this.name, code: codeOf(error) }, `app not withdrawn yet: ${(error as Error).message}`);
    }
  }

  /** The last lines of containers whose manifest says that anyone may read them. */
  async #publicLogs(instances: readonly Instance[]): Promise<Record<string, string[]>> {
    const logs: Record<string, string[]> = {};
    for (const { id, plan } of instances) {
      if (plan.logs !== 'public') continue;
      await this.#quietly(async () => {
        logs[plan.name] = await this.#options.engine.logs(id, appsStatusLimits.logLines);
      });
    }
    return logs;
  }

  /** For what must not hide or undo what happened before. */
  async #quietly(action: () => Promise<unknown>, what = 'clean-up'): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#options.log.warn({ app: this.name, code: codeOf(error) }, `${what}: ${(error as Error).message}`);
    }
  }
}

/** By which name its containers reach each other. */
function addressesOf({ network, numbers }: Deployment): Record<string, string> {
  return Object.fromEntries([...numbers].map(([name, number]) => [name, addressOf(network.gateway, number)]));
}

/** New containers that did not come up. */
class NotUp extends DstackError {
  logs: Readonly<Record<string, string[]>> = {};
}

function superseded(hash: Hex): DstackError {
  return new DstackError('MANIFEST_SUPERSEDED', `the contract no longer names manifest ${hash}`);
}
