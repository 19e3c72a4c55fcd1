/**
 * The containers of one app in the engine: how they get their addresses, are started, looked at, started again and removed. Which of
 * them there should be is the app's to say.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { appsStatusLimits } from '../../lib/protocol/app-status.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { ContainerPlan, Manifest } from '../../lib/protocol/manifest.ts';
import { addressOf, NUMBERS } from '../bridges.ts';
import type { AppNetwork, Engine, Found, Running, Storage } from './engine.ts';
import { Numbers } from './numbers.ts';
import { quietly } from './quietly.ts';
import type { Secrets } from './secrets.ts';
import { type Setback, setback } from './setback.ts';

export interface ContainersOptions {
  readonly engine: Engine;
  readonly secrets: Pick<Secrets, 'of'>;
  /** What is wrong with a container that runs; undefined when it is up. */
  probe(at: Running, plan: ContainerPlan): Promise<string | undefined>;
  readonly log: Log;
  /** A monotonic clock, in milliseconds. */
  now(): number;
  pause(milliseconds: number): Promise<void>;
  /** How long a container with neither a port nor a health check must stay up. Milliseconds. */
  readonly staysUp: number;
}

/** `address` is empty until it was started. */
export interface Instance extends Running {
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

export type StorageByName = ReadonlyMap<string, Storage>;

/** Containers of one manifest. */
export interface Deployment {
  readonly hash: Hex;
  readonly manifest: Manifest;
  readonly network: AppNetwork;
  readonly instances: Instance[];
  /** Since when the contract names another manifest, Unix seconds by the chain's clock. */
  superseded?: number | undefined;
  /** Of each container, by its name: its number on the network. */
  readonly numbers: ReadonlyMap<string, number>;
}

/** Between two looks at something that is awaited. Milliseconds. */
export const POLL = 250;
/** Between commands that see whether a new one is healthy: each takes the engine about a tenth of a second. */
const EXEC_POLL = 1_000;
/** For one without a health check, milliseconds. */
const UP_WITHIN = 120_000;
/** One that ran for so long, in milliseconds, is started again at once. */
const RAN_WELL = 600_000;

export class Containers {
  readonly #app: string;
  readonly #options: ContainersOptions;
  /** What containers get their addresses from, and who has which by the engine's id. */
  readonly #numbers: Readonly<Record<ContainerPlan['egress'], Numbers>>;
  readonly #numberOf = new Map<string, number>();
  /** Those that must be removed before anything else of this app is started. */
  readonly #litter: string[] = [];

  constructor(app: string, options: ContainersOptions) {
    this.#app = app;
    this.#options = options;
    this.#numbers = {
      none: new Numbers(NUMBERS.none, options.now),
      internet: new Numbers(NUMBERS.internet, options.now),
    };
  }

  /** What an earlier run of this daemon left has the addresses that it had. */
  adopt(found: readonly Found[]): void {
    // Nobody knows which addresses were given back just before.
    for (const numbers of Object.values(this.#numbers)) numbers.rest();
    for (const { id, number } of found) this.#hold(id, number);
  }

  numberOf(id: string): number | undefined {
    return this.#numberOf.get(id);
  }

  /** Waits for addresses that are at rest: after many rollouts in a minute, or one right after this daemon was started again. */
  async takeNumbers(plans: readonly ContainerPlan[]): Promise<ReadonlyMap<string, number>> {
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

  /** Gives back those of containers that were not made: the others have theirs until they are removed. */
  freeUnused(numbers: ReadonlyMap<string, number>): void {
    const had = new Set(this.#numberOf.values());
    for (const number of numbers.values()) if (!had.has(number)) this.#free(number);
  }

  #hold(id: string, number: number): void {
    for (const numbers of Object.values(this.#numbers)) numbers.hold(number);
    this.#numberOf.set(id, number);
  }

  #free(number: number): void {
    for (const numbers of Object.values(this.#numbers)) numbers.free(number);
  }

  /** Makes and starts those of `plans`, which join the deployment one by one. @throws ENGINE_… */
  async start(
    deployment: Deployment,
    plans: readonly ContainerPlan[],
    storage: StorageByName,
  ): Promise<void> {
    const { engine, secrets } = this.#options;
    for (const plan of plans) {
      const id = await engine.create({
        name: `dstack_${this.#app}_${plan.name}_${deployment.hash.slice(0, 16)}`,
        app: this.#app,
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

  /** @param assertWanted is called before each look @throws what that throws, APP_NOT_UP, APP_UNHEALTHY, ENGINE_… */
  async untilUp(instance: Instance, assertWanted: () => void): Promise<void> {
    const { id, address, plan } = instance;
    const { engine, probe, now, pause, staysUp } = this.#options;
    const within = plan.health === undefined ? UP_WITHIN : plan.health.startSeconds * 1000;
    const started = now();
    for (;;) {
      assertWanted();
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

  /** Starts those again that stopped by themselves, or whose health checks fail. @param changed hears that the app's record is not true any more */
  async revive(instances: readonly Instance[], changed: () => void): Promise<void> {
    const { engine, log, now } = this.#options;
    for (const instance of instances) {
      const { id, plan } = instance;
      try {
        await this.sweep();
        if (instance.finished) continue;
        const isRunning = await engine.isRunning(id);
        if (isRunning && instance.address === '') Object.assign(instance, await engine.start(id));
        const wrong = isRunning ? await this.#sickness(instance) : 'stopped';
        const { revivedAt } = instance;
        if (revivedAt !== undefined && now() - revivedAt > RAN_WELL) instance.crash = undefined;
        if (wrong === undefined || (instance.crash?.notBefore ?? 0) > now()) continue;
        const code = isRunning ? 'APP_UNHEALTHY' : 'APP_STOPPED';
        const error = new DstackError(code, `container ${plan.name} ${wrong}`);
        const logs = await this.publicLogs([instance]);
        instance.crash = { ...setback(instance.crash, error, now()), logs };
        const { attempts } = instance.crash;
        const fields = { app: this.#app, container: plan.name, code, attempts };
        if (isRunning ? plan.restart === 'no' : await this.#isFinished(instance)) {
          instance.finished = !isRunning;
          if (instance.finished) changed();
          log.warn(fields, `container ${wrong}; it is not started again`);
          continue;
        }
        log.warn(fields, `container ${wrong}; starting it`);
        if (isRunning) await engine.stop(id, plan.stopSeconds);
        Object.assign(instance, await engine.start(id), { failures: 0, nextProbe: undefined });
        instance.revivedAt = now();
        if (instance.interrupted) {
          instance.interrupted = false;
          changed();
        }
      } catch (error) {
        log.warn(
          { app: this.#app, code: codeOf(error) },
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

  /** Has containers removed before anything else of this app is started. */
  discard(ids: readonly string[]): void {
    this.#litter.push(...ids);
  }

  /** Removes what must not run any more. @throws ENGINE_…, with what is left still in `#litter` */
  async sweep(): Promise<void> {
    while (this.#litter.length > 0) {
      await this.remove(this.#litter[0]!);
      this.#litter.shift();
    }
  }

  /** Removes a container, whose address rests from then on. @throws ENGINE_… */
  async remove(id: string): Promise<void> {
    await this.#options.engine.remove(id);
    const number = this.#numberOf.get(id);
    if (number !== undefined && this.#numberOf.delete(id)) this.#free(number);
  }

  /** The last lines of containers whose manifest says that anyone may read them. */
  async publicLogs(instances: readonly Instance[]): Promise<Record<string, string[]>> {
    const { engine, log } = this.#options;
    const logs: Record<string, string[]> = {};
    for (const { id, plan } of instances) {
      if (plan.logs !== 'public') continue;
      await quietly({ log, app: this.#app }, async () => {
        logs[plan.name] = await engine.logs(id, appsStatusLimits.logLines);
      });
    }
    return logs;
  }
}

/** By which name its containers reach each other. */
function addressesOf({ network, numbers }: Deployment): Record<string, string> {
  return Object.fromEntries([...numbers].map(([name, number]) => [name, addressOf(network.gateway, number)]));
}

/** New containers that did not come up. */
export class NotUp extends DstackError {
  logs: Readonly<Record<string, string[]>> = {};
}
