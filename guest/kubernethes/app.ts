/**
 * One app: what the contract wants of it, what runs, and what was refused.
 *
 * It does one thing at a time, and no other app waits for it. What the host may delay, fetching and loading, happens beside that, for
 * a manifest in force and for one that is still in its delay. A refusal never takes down what is serving: old containers go only when
 * the new ones are up, or, where both may not run at once, when everything that the new ones need is in the engine; they are started
 * again if the new ones do not come up.
 */
import type { AppState, AppStatus, AppTrouble, Rollout } from '../../lib/protocol/app-status.ts';
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
import type { Desired } from './apps-reader.ts';
import {
  Containers,
  type ContainersOptions,
  type Deployment,
  type Instance,
  NotUp,
  POLL,
  type StorageByName,
} from './containers.ts';
import type { Claims } from './domains.ts';
import type { Found, Storage } from './engine.ts';
import { type Kept, unrecorded } from './kept.ts';
import { Preparations, type PreparationsOptions } from './preparations.ts';
import { quietly } from './quietly.ts';
import type { Secrets } from './secrets.ts';
import { type Setback, setback } from './setback.ts';
import { shownMessage } from './shown.ts';

export interface AppOptions extends ContainersOptions, PreparationsOptions {
  readonly kept: Kept;
  /** What a container gets of the disks. @throws DISK_… while the data disk is not usable, HOST_FOLDER */
  storageOf(app: string, plan: ContainerPlan): Promise<Storage>;
  readonly secrets: Pick<Secrets, 'prepare' | 'of' | 'prune'>;
  /** The folder with the agent's socket for one container. @throws SOCKET_… while the agent is away */
  agentFolderOf(request: AppFolderRequest): Promise<string>;
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

type Ended = NonNullable<ContainersReply['containers'][number]['ended']>;

export class App {
  readonly name: string;
  readonly #options: AppOptions;
  readonly #neighbours: Neighbours;
  readonly #containers: Containers;
  readonly #preparations: Preparations;
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
  readonly #refusals = new Map<Hex, Setback>();
  /** Why nothing serves although something did. */
  #ended: Ended | undefined;
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
    this.#containers = new Containers(name, options);
    this.#preparations = new Preparations(name, options);
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
      const preparing = this.#preparations.underWay();
      if (preparing === undefined && this.#work === undefined) return;
      await Promise.all([this.#work, preparing]);
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

  /** Where hosts ask it. @throws APP_NO_REQUESTS, APP_NOT_RUNNING */
  answersAt(): { readonly host: string; readonly port: number } {
    const ended = this.#overdue(this.#serving);
    if (ended !== undefined) throw new DstackError('APP_NOT_RUNNING', `${this.name}: ${ended.message}`);
    const serving = this.#switching ? undefined : this.#serving;
    const one = serving?.instances.find(({ plan }) => plan.requests !== undefined);
    if (serving !== undefined && one === undefined)
      throw new DstackError(
        'APP_NO_REQUESTS',
        `the manifest of ${this.name} has no container with "requests": it answers no host`,
      );
    if (one === undefined || one.address === '') throw new DstackError('APP_NOT_RUNNING', this.whyNotReady());
    return { host: one.address, port: one.plan.requests!.port };
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
    const inForce = wanted === this.#serving?.hash ? serving : this.#preparations.domains(wanted);
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
    const own = [this.#serving, this.#starting, this.#leaving, this.#previous];
    return [...own, ...this.#preparations.manifests()].filter((one) => one !== undefined);
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
    this.#containers.adopt(found);
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
        // Starting one that runs only tells its address. If it is not told now, `revive` asks again: other apps do not wait for it.
        if (running)
          await this.#quietly(
            async () => Object.assign(instance, await engine.start(instance.id)),
            'not taken over yet',
          );
      }
      const numbers = new Map(
        instances.map(({ id, plan }) => [plan.name, this.#containers.numberOf(id) ?? 0] as const),
      );
      const superseded = hash === record?.serving ? record.superseded : undefined;
      const network = await engine.ensureNetwork(this.name);
      this.#serving = { hash, manifest, instances, network, numbers, superseded };
      log.info({ app: this.name, manifest: hash }, 'taken over from an earlier run');
    }
    const before = record?.previous === undefined ? undefined : kept.manifest(record.previous);
    if (before !== undefined) this.#previous = { hash: record!.previous!, manifest: before };
    const ours = new Set(serving?.instances.map(({ id }) => id));
    this.#containers.discard(found.map(({ id }) => id).filter((id) => !ours.has(id)));
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
    if (this.#ended !== undefined) await this.#containers.sweep();
    if (this.#frozen) return this.#revive();
    if (hash === undefined) return this.#withdraw();
    if (this.#serving?.hash === hash) {
      this.#refusals.delete(hash);
      return this.#revive();
    }
    const manifest = this.#preparations.ready(hash);
    if (manifest === undefined || !this.#isDue(hash)) return this.#revive();
    await this.#advance(hash, manifest);
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
    this.#preparations.drop(hash);
    await this.#quietly(() => this.#retire());
    await this.#quietly(() => this.#neighbours.tidy());
  }

  /** Fetches and loads, unless that is done, under way or to be tried later. */
  #prepare(hash: Hex): void {
    if (this.#serving?.hash === hash || this.#preparations.has(hash) || !this.#isDue(hash)) return;
    this.#preparations.begin(hash, (error) => {
      if (error === undefined) this.#kick();
      else this.#refuse(hash, error, hash === this.#wanted ? 'app not deployed' : 'next manifest not ready');
    });
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
    this.#containers.discard(instances.map(({ id }) => id));
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
    for (const hash of this.#refusals.keys()) if (!current.has(hash)) this.#refusals.delete(hash);
    this.#preparations.keepOnly(current);
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
    const numbers = await this.#containers.takeNumbers(plans);
    try {
      await this.#replace({ hash, manifest, network, instances: [], numbers }, storage);
    } finally {
      this.#containers.freeUnused(numbers);
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
      await this.#containers.sweep();
      await this.#bringUp(starting, storage);
      if (old !== undefined) this.#previous = old;
      this.#serving = starting;
      this.#leaving = old;
      this.#ended = undefined;
      this.#rememberOrRetry();
    } catch (error) {
      if (error instanceof NotUp) error.logs = await this.#containers.publicLogs(starting.instances);
      this.#containers.discard(starting.instances.map(({ id }) => id));
      await this.#quietly(() => this.#restart());
      throw error;
    } finally {
      this.#starting = undefined;
      this.#switching = false;
    }
  }

  /** Resolves when all containers are up. @throws ENGINE_…, APP_NOT_UP, APP_UNHEALTHY, MANIFEST_SUPERSEDED, APP_UNRECORDED */
  async #bringUp(starting: Deployment, storage: StorageByName): Promise<void> {
    const plans = plansOf(starting.manifest);
    const replacing = plans.filter(({ update }) => update === 'replace');
    const beside = plans.filter(({ update }) => update === 'beside');
    await this.#containers.start(starting, beside, storage);
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
      await this.#containers.start(starting, replacing, storage);
    }
    for (const instance of starting.instances)
      await this.#containers.untilUp(instance, () => this.#assertWanted(starting.hash));
  }

  /** The owner may have gone back meanwhile, because it does not come up. @throws MANIFEST_SUPERSEDED */
  #assertWanted(hash: Hex): void {
    if (!this.#frozen && this.#wanted !== hash) throw superseded(hash);
  }

  /** Starts containers again that stopped by themselves, or whose health checks fail. */
  #revive(): Promise<void> {
    return this.#containers.revive(this.#serving?.instances ?? [], () => this.#rememberOrRetry());
  }

  /** Goes back to the old containers. `revive` starts those that do not start now. */
  async #restart(): Promise<void> {
    const { engine, log } = this.#options;
    await this.#containers.sweep();
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
    this.#containers.discard(old.map(({ id }) => id));
    this.#leaving = undefined;
    await this.#containers.sweep();
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

  async #withdraw(): Promise<void> {
    const { engine, kept, log } = this.#options;
    // It may be about to come for the first time.
    this.#gone = !this.#present && this.#pending === undefined;
    if (!this.#present) return;
    try {
      await this.#containers.sweep();
      for (const { id } of [...(this.#serving?.instances ?? []), ...(this.#leaving?.instances ?? [])])
        await this.#containers.remove(id);
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

  #quietly(action: () => Promise<unknown>, what?: string): Promise<void> {
    return quietly({ log: this.#options.log, app: this.name }, action, what);
  }
}

function superseded(hash: Hex): DstackError {
  return new DstackError('MANIFEST_SUPERSEDED', `the contract no longer names manifest ${hash}`);
}
