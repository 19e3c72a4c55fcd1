/**
 * The state machine: for each app, what the contract wants, what runs, and what was refused.
 *
 * One `step` runs at a time and owns all state; readers (`containers`, `upstream`) only look. A refusal never takes down
 * what is serving: the old containers are stopped only when everything that the new ones need is in the engine, and they
 * are restarted if the new ones do not come up.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { Container, Manifest } from '../../lib/protocol/manifest.ts';
import type { ContainersReply, UpstreamReply } from '../../lib/protocol/sockets.ts';
import type { Desired } from './apps-reader.ts';
import type { Fetcher } from './deployment.ts';
import type { AppNetwork, Engine, Running } from './engine.ts';

export interface SupervisorOptions {
  engine: Engine;
  fetcher: Fetcher;
  /** The app's folder on the data disk; undefined without one. @throws DISK_… while it is not usable */
  dataFolder(app: string): Promise<string | undefined>;
  /** Whether something accepts connections there. */
  accepts(address: string, port: number): Promise<boolean>;
  log: Log;
  /** A monotonic clock, in milliseconds. */
  now(): number;
  pause(milliseconds: number): Promise<void>;
  /** How long new containers may take to come up, and how long one without a port must stay up. Milliseconds. */
  upWithin?: number;
  staysUp?: number;
}

/** `address` is empty until it was started. */
interface Instance extends Running {
  container: Container;
}

/** Containers of one manifest. */
interface Deployment {
  hash: Hex;
  manifest: Manifest;
  network: AppNetwork;
  instances: Instance[];
}

/** Something that did not work, and when it is tried again. */
interface Setback {
  hash: Hex;
  code: string;
  message: string;
  attempts: number;
  notBefore: number;
}

interface App {
  serving?: Deployment;
  /** New containers that are not up yet; the agent knows them already. */
  starting?: Deployment;
  /** True while the old containers are down and the new ones not up. */
  switching: boolean;
  refusal?: Setback;
  crash?: Setback;
  /** Containers that must be removed before anything else of this app is started. */
  litter: string[];
}

const FIRST_PAUSE = 2_000;
const LONGEST_PAUSE = 60_000;
const POLL = 250;

export class Supervisor {
  readonly #options: Required<SupervisorOptions>;
  /** In the contract's order. */
  #apps = new Map<string, App>();
  #hasChainState = false;
  #held = 'the contract has not been read yet';

  constructor(options: SupervisorOptions) {
    this.#options = { upWithin: 120_000, staysUp: 3_000, ...options };
  }

  /** Says why no app is started yet; the first `step` ends it. */
  hold(reason: string): void {
    this.#held = reason;
  }

  /**
   * Moves every app towards what the contract wants. One app's trouble never stops another; nothing is thrown.
   *
   * @param desired as the contract was just read
   * @param readAgain reads it again: called before starting anything that took time to fetch. May throw
   */
  async step(desired: Desired, readAgain: () => Promise<Desired>): Promise<void> {
    this.#hasChainState = true;
    for (const [name, app] of this.#apps) if (!desired.has(name)) await this.#withdraw(name, app);
    const ordered = [...desired.keys()].map(
      (name) => [name, this.#apps.get(name) ?? { switching: false, litter: [] }] as const,
    );
    const leaving = [...this.#apps].filter(([name]) => !desired.has(name));
    this.#apps = new Map([...ordered, ...leaving]);
    for (const [name, hash] of desired) await this.#advance(name, this.#apps.get(name)!, hash, readAgain);
  }

  /** While the contract cannot be read: restarts what stopped by itself, and changes nothing else. */
  async keep(): Promise<void> {
    for (const [name, app] of this.#apps) await this.#revive(name, app);
  }

  /** Every container that runs for an app, and the address it calls from. */
  containers(): ContainersReply['containers'] {
    return [...this.#apps].flatMap(([app, { serving, starting }]) =>
      [serving, starting].flatMap((deployment) =>
        (deployment?.instances ?? [])
          .filter(({ address }) => address !== '')
          .map(({ address }) => ({
            app,
            manifestHash: deployment!.hash,
            address,
            gateway: deployment!.network.gateway,
          })),
      ),
    );
  }

  /** Where requests from outside go: to the first app, in the contract's order, that has a port. @throws NOT_READY */
  upstream(): UpstreamReply {
    for (const [app, { serving, switching }] of this.#apps) {
      const front = serving?.instances.find((instance) => instance.container.http !== undefined);
      if (front !== undefined && !switching)
        return { app, host: front.address, port: front.container.http!.port };
    }
    throw new DstackError('NOT_READY', this.#whyNotReady());
  }

  #whyNotReady(): string {
    if (!this.#hasChainState) return this.#held;
    if (this.#apps.size === 0) return 'the contract names no app';
    const reasons = [...this.#apps].map(([name, app]) => {
      if (app.refusal !== undefined && app.serving === undefined) return `${name}: ${app.refusal.code}`;
      if (app.serving === undefined) return `${name} is starting`;
      return app.switching ? `${name} is being replaced` : `${name} has no http port`;
    });
    return reasons.join('; ').slice(0, 400);
  }

  async #advance(name: string, app: App, hash: Hex, readAgain: () => Promise<Desired>): Promise<void> {
    const { log, now } = this.#options;
    const isNew = app.serving?.hash !== hash;
    if (!isNew) delete app.refusal;
    const isDue = app.refusal?.hash !== hash || app.refusal.notBefore <= now();
    if (!isNew || !isDue) return this.#revive(name, app);
    try {
      await this.#deploy(name, app, hash, readAgain);
      delete app.refusal;
      log.info({ app: name, manifest: hash }, 'app deployed');
      await this.#prune();
    } catch (error) {
      app.refusal = this.#setback(app.refusal, hash, error);
      const { code, attempts } = app.refusal;
      log.warn(
        { app: name, manifest: hash, code, attempts, old: app.serving?.hash },
        `app not deployed: ${(error as Error).message}`,
      );
    }
  }

  /** @throws what fetching, starting and `readAgain` throw, and MANIFEST_SUPERSEDED; the old one then serves as before */
  async #deploy(name: string, app: App, hash: Hex, readAgain: () => Promise<Desired>): Promise<void> {
    const { engine, fetcher, dataFolder } = this.#options;
    const manifest = await fetcher.manifest(name, hash);
    for (const image of new Set(manifest.containers.map(imageOf))) await fetcher.image(image);
    const data = await dataFolder(name);
    const network = await engine.ensureNetwork(name);
    // The host delivers the files as slowly as it likes; the owner may have replaced this manifest meanwhile, for a reason.
    if ((await readAgain()).get(name) !== hash) {
      throw new DstackError('MANIFEST_SUPERSEDED', `the contract no longer names manifest ${hash}`);
    }
    const old = app.serving;
    app.switching = true;
    app.starting = { hash, manifest, network, instances: [] };
    try {
      // One at a time: two versions must never write to the app's data at once.
      await this.#sweep(app);
      for (const instance of old?.instances ?? []) await engine.stop(instance.id);
      await this.#start(name, app.starting, data);
      app.serving = app.starting;
      delete app.crash;
    } catch (error) {
      app.litter.push(...app.starting.instances.map(({ id }) => id));
      await this.#quietly(() => this.#restart(name, app));
      throw error;
    } finally {
      delete app.starting;
      app.switching = false;
    }
    app.litter.push(...(old?.instances ?? []).map(({ id }) => id));
    await this.#quietly(() => this.#sweep(app));
  }

  /** Fills `deployment.instances` and resolves when all are up. @throws ENGINE_…, APP_NOT_UP */
  async #start(app: string, deployment: Deployment, data: string | undefined): Promise<void> {
    for (const container of deployment.manifest.containers) {
      const id = await this.#options.engine.create({
        name: `dstack_${app}_${container.name}_${deployment.hash.slice(0, 16)}`,
        app,
        image: imageOf(container),
        container,
        network: deployment.network,
        ...(data === undefined ? {} : { data }),
      });
      const instance: Instance = { id, address: '', container };
      deployment.instances.push(instance);
      Object.assign(instance, await this.#options.engine.start(id));
    }
    for (const instance of deployment.instances) await this.#untilUp(instance);
  }

  async #untilUp({ id, address, container }: Instance): Promise<void> {
    const { engine, accepts, now, pause, upWithin, staysUp } = this.#options;
    const started = now();
    for (;;) {
      if (!(await engine.isRunning(id))) {
        throw new DstackError('APP_NOT_UP', `container ${container.name} stopped right after its start`);
      }
      const lasted = now() - started;
      if (container.http === undefined ? lasted >= staysUp : await accepts(address, container.http.port))
        return;
      if (lasted > upWithin) {
        const port = container.http?.port;
        throw new DstackError(
          'APP_NOT_UP',
          `container ${container.name} does not listen on its port ${port}`,
        );
      }
      await pause(POLL);
    }
  }

  /** Starts containers again that stopped by themselves. */
  async #revive(name: string, app: App): Promise<void> {
    const { engine, log, now } = this.#options;
    for (const instance of app.serving?.instances ?? []) {
      try {
        await this.#sweep(app);
        if (await engine.isRunning(instance.id)) continue;
        if (app.crash !== undefined && app.crash.notBefore > now()) continue;
        const stopped = new DstackError('APP_STOPPED', `container ${instance.container.name} stopped`);
        app.crash = this.#setback(app.crash, app.serving!.hash, stopped);
        log.warn(
          { app: name, container: instance.container.name, attempts: app.crash.attempts },
          'container stopped; starting it',
        );
        Object.assign(instance, await engine.start(instance.id));
      } catch (error) {
        log.warn({ app: name, code: codeOf(error) }, `container not started: ${(error as Error).message}`);
      }
    }
  }

  /** Goes back to the old containers. `#revive` starts those that do not start now. */
  async #restart(name: string, app: App): Promise<void> {
    await this.#sweep(app);
    if (app.serving === undefined) return;
    for (const instance of app.serving.instances) {
      Object.assign(instance, await this.#options.engine.start(instance.id));
    }
    this.#options.log.warn(
      { app: name, manifest: app.serving.hash },
      'the old containers were started again',
    );
  }

  /** Removes what must not run any more. @throws ENGINE_…, with what is left still in `litter` */
  async #sweep(app: App): Promise<void> {
    while (app.litter.length > 0) {
      await this.#options.engine.remove(app.litter[0]!);
      app.litter.shift();
    }
  }

  async #withdraw(name: string, app: App): Promise<void> {
    const { engine, log } = this.#options;
    try {
      await this.#sweep(app);
      for (const instance of app.serving?.instances ?? []) await engine.remove(instance.id);
      await engine.removeNetwork(name);
      this.#apps.delete(name);
      log.info({ app: name }, 'app withdrawn');
      await this.#prune();
    } catch (error) {
      // Still in #apps, so the next step tries again.
      log.warn({ app: name, code: codeOf(error) }, `app not withdrawn yet: ${(error as Error).message}`);
    }
  }

  /** Images are in memory, so only those in use are kept. */
  async #prune(): Promise<void> {
    const kept = [...this.#apps.values()].flatMap(
      (app) => app.serving?.manifest.containers.map(imageOf) ?? [],
    );
    await this.#quietly(() => this.#options.engine.pruneImages(new Set(kept)));
  }

  #setback(before: Setback | undefined, hash: Hex, error: unknown): Setback {
    const attempts = before?.hash === hash ? before.attempts + 1 : 1;
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(attempts - 1, 10));
    const message = (error as Error).message;
    return { hash, code: codeOf(error), message, attempts, notBefore: this.#options.now() + pause };
  }

  /** For clean-up whose failure must not hide or undo what happened before. */
  async #quietly(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#options.log.warn({ code: codeOf(error) }, `clean-up: ${(error as Error).message}`);
    }
  }
}

const imageOf = (container: Container): string => container.image.slice('sha256:'.length);
