/**
 * All apps of the node: each is followed by itself (app.ts), so that none waits for another. What they share is here: the engine's
 * images, the machine's memory, and who answers for the website.
 */
import { sharedRun } from '../../lib/daemon/shared-run.ts';
import { type AppsStatus, appsStatusLimits } from '../../lib/protocol/app-status.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { domainsOf, type Manifest, plansOf } from '../../lib/protocol/manifest.ts';
import { APP_DOMAINS, type ContainersReply, type Upstreams } from '../../lib/protocol/sockets.ts';
import { App, type AppOptions } from './app.ts';
import type { Desired } from './apps-reader.ts';
import { type Holder, holdersOf } from './domains.ts';
import { History } from './history.ts';
import { unrecorded } from './kept.ts';
import { boundedLogs, shownMessage } from './shown.ts';

export interface SupervisorOptions
  extends Omit<AppOptions, keyof typeof TIMES>,
    Partial<Pick<AppOptions, keyof typeof TIMES>> {
  /** What containers of version 2 may have together. */
  readonly memoryMiB: number;
  /** The network's own name, the first that network.json has: no app names it. */
  ownName?(): string | undefined;
}

/** Milliseconds: AppOptions. */
const TIMES = { staysUp: 3_000, frontWithin: 30_000, drain: 5_000, lull: 1_000 };
/** How exactly a new start of this daemon knows when the contract was read. Seconds. */
const KEPT_EVERY = 60;

export class Supervisor {
  readonly #options: AppOptions & SupervisorOptions;
  /** In the contract's order. */
  #apps = new Map<string, App>();
  #hasChainState = false;
  #readAt: number | undefined;
  /** It was said that the time could not be kept, and it has not been kept since. */
  #isReadAtUnkept = false;
  #problem: AppsStatus['problem'];
  readonly #history = new History();
  #held = 'the contract has not been read yet';
  /** Whose each domain is, as it was found last. */
  #holders: ReadonlyMap<string, Holder> = new Map();
  #saidOfDomains = '';
  #readContract: () => Promise<Desired> = async () => new Map();
  /** Apps that are about to start at the same time need one reading between them, and those that started one look at the images. */
  readonly #readAgain = sharedRun(() => this.#readContract());
  readonly #tidyAll = sharedRun(() => this.#tidy());

  constructor(options: SupervisorOptions) {
    this.#options = { ...TIMES, ...options };
  }

  /** Says why no app is started yet; the first `step` ends it. */
  hold(reason: string): void {
    this.#held = reason;
  }

  /**
   * Takes over what an earlier run of this daemon left, and removes what belongs to no app. From when the contract was read last
   * by that run, what is taken over may be overdue already.
   *
   * @param at the newest block's time that this machine has reached, Unix seconds
   * @throws ENGINE_…, APP_RECORD
   */
  async adopt(at: number): Promise<void> {
    const { engine, kept } = this.#options;
    this.#readAt = Math.min(at, kept.readAt() ?? at);
    await engine.removeLooks();
    const found = await engine.list();
    for (const name of new Set(found.map(({ app }) => app))) {
      await this.#app(name).adopt(found.filter(({ app }) => app === name));
    }
    await engine.removeNetworksExcept(new Set(this.#apps.keys()));
  }

  /**
   * Moves every app towards what the contract wants. Nothing is thrown, and nothing has to be waited for: the promise resolves when
   * no app has anything under way.
   *
   * @param desired as the contract was just read
   * @param readAgain reads it again: called before starting anything. May throw
   * @param pending manifests that take effect later
   * @param since since when those of `desired` are in force, as far as the contract says it; Unix seconds
   */
  async step(
    desired: Desired,
    readAgain: () => Promise<Desired>,
    pending: Desired = new Map(),
    since: ReadonlyMap<string, number> = new Map(),
  ): Promise<void> {
    this.#problem = undefined;
    this.#hasChainState = true;
    this.#readContract = readAgain;
    const names = [...new Set([...desired.keys(), ...pending.keys()])];
    const leaving = [...this.#apps].filter(([name, app]) => !names.includes(name) && !app.gone);
    this.#apps = new Map([...names.map((name) => [name, this.#app(name)] as const), ...leaving]);
    for (const [name, app] of this.#apps) {
      const wish = { wanted: desired.get(name), pending: pending.get(name), since: since.get(name) };
      app.follow(wish, this.#readAgain);
    }
    this.#sayLost();
    await this.#settled();
  }

  /** The contract was read, at a block of this time (Unix seconds). */
  contractRead(at: number): void {
    const { kept, log } = this.#options;
    this.#readAt = Math.max(at, this.#readAt ?? at);
    if (this.#readAt - (kept.readAt() ?? 0) < KEPT_EVERY) return;
    try {
      kept.rememberReadAt(this.#readAt);
      this.#isReadAtUnkept = false;
    } catch (cause) {
      // A new start would count from an earlier time, and so end apps rather too early than too late.
      const error = unrecorded('when the contract was read', cause);
      if (!this.#isReadAtUnkept) log.warn({ code: error.code }, `${error.message}; it is tried again`);
      this.#isReadAtUnkept = true;
    }
  }

  /** While the contract cannot be read: restarts what stopped by itself, ends what is overdue, and changes nothing else. */
  async keep(why: unknown): Promise<void> {
    const code = codeOf(why);
    this.#problem = { code, message: shownMessage(code, (why as Error).message) };
    for (const app of this.#apps.values()) app.keep();
    await this.#settled();
  }

  /** Every container that runs for an app, and the address it calls from. */
  containers(): ContainersReply['containers'] {
    return [...this.#apps.values()].flatMap((app) => app.containers());
  }

  /** Where hosts ask an app. @throws APP_UNKNOWN, APP_NO_REQUESTS, APP_NOT_RUNNING */
  answersAt(app: string): { readonly host: string; readonly port: number } {
    const one = this.#apps.get(app);
    if (one !== undefined) return one.answersAt();
    // A host that is told that there is no such app need not ask again.
    if (!this.#hasChainState) throw new DstackError('APP_NOT_RUNNING', this.#whyNotReady());
    throw new DstackError('APP_UNKNOWN', `this node runs no app ${app}: does the contract name it?`);
  }

  /** Hashes of the manifests whose containers run, or may be started. */
  manifests(): Hex[] {
    const all = [...this.#apps.values()].flatMap((app) => app.manifests().map(({ hash }) => hash));
    return [...new Set(all)];
  }

  /** Where requests from outside go. */
  upstream(): Upstreams {
    return {
      website: this.#website(),
      sites: [...this.#domains()].map(([domain, holder]) => ({ domain, ...this.#site(domain, holder) })),
    };
  }

  /** The first app, in the contract's order, that can answer. */
  #website(): Upstreams['website'] {
    for (const [app, one] of this.#apps) {
      const found = one.leads();
      if (found !== undefined) return { upstream: { app, ...found } };
      if (one.waits()) return { reason: one.whyNotReady(), waits: true };
    }
    return { reason: this.#whyNotReady() };
  }

  #site(domain: string, { app, unless }: Holder): Upstreams['website'] {
    if (unless !== undefined)
      return { reason: `${app} waits for the manifest of ${unless}, which may name ${domain} too` };
    // After a restart the contract's order is not known yet.
    const names = this.#claims().filter(({ serving = [] }) => serving.includes(domain));
    if (!this.#hasChainState && names.length > 1) return { reason: this.#held };
    const one = this.#apps.get(app)!;
    const found = one.leads(domain);
    if (found !== undefined) return { upstream: { app, ...found } };
    return { reason: one.whyNotReady(domain), ...(one.waits(domain) && { waits: true as const }) };
  }

  #domains(): ReadonlyMap<string, Holder> {
    this.#holders = holdersOf(this.#claims(), this.#holders);
    return this.#holders;
  }

  #claims(): ReturnType<App['claims']>[] {
    const ownName = this.#options.ownName?.();
    const others = (domains: readonly string[] | undefined) =>
      domains?.filter((domain) => domain !== ownName);
    return [...this.#apps.values()].map((app) => {
      const { name, inForce, serving } = app.claims();
      return { name, inForce: others(inForce), serving: others(serving) };
    });
  }

  /** By what is in force; an app that runs already is not stopped for it. */
  #assertDomains(name: string, manifest: Manifest): void {
    const holders = this.#domains();
    for (const domain of domainsOf(manifest)) {
      if (domain === this.#options.ownName?.()) {
        throw new DstackError(
          'APP_DOMAIN_NETWORK',
          `${domain} is the network's own name: its website is the app whose http is {"port": …}`,
        );
      }
      const app = holders.get(domain)?.app;
      if (app === undefined)
        throw new DstackError(
          'APP_DOMAINS_FULL',
          `the apps before ${name} name ${APP_DOMAINS} domains already, and ${domain} has no room`,
        );
      if (app !== name)
        throw new DstackError(
          'APP_DOMAIN_TAKEN',
          `${name} wants ${domain}, which is of ${app}, an app before it in the contract`,
        );
    }
  }

  /** Once for each that is new. */
  #sayLost(): void {
    const holders = this.#domains();
    const lost = this.#claims().flatMap(({ name, serving = [] }) =>
      serving.filter((domain) => holders.get(domain)?.app !== name).map((domain) => ({ name, domain })),
    );
    const said = JSON.stringify(lost);
    if (said !== this.#saidOfDomains)
      for (const { name, domain } of lost)
        this.#options.log.warn(
          { app: name, code: 'APP_DOMAIN_TAKEN' },
          `${name} runs on without ${domain}, which is of ${holders.get(domain)?.app ?? 'nobody'} now`,
        );
    this.#saidOfDomains = said;
  }

  /** What may be known outside of the VM. */
  status(): AppsStatus {
    const all = [...this.#apps.values()].filter(({ gone }) => !gone);
    let room: number = appsStatusLimits.allLogBytes;
    const apps = all.slice(0, appsStatusLimits.apps).map((app) => {
      const { status, logs } = app.status();
      if (status.trouble === undefined) return status;
      const bounded = boundedLogs(logs, room);
      room -= bounded.bytes;
      return { ...status, trouble: { ...status.trouble, logs: bounded.logs } };
    });
    return {
      now: this.#options.chainNow(),
      ...(this.#readAt !== undefined && { readAt: this.#readAt }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
      apps,
      more: all.length - apps.length,
      rollouts: this.#history.list(),
    };
  }

  #whyNotReady(): string {
    if (!this.#hasChainState) return this.#held;
    if (this.#apps.size === 0) return 'the contract names no app';
    return [...this.#apps.values()]
      .map((app) => app.whyNotReady())
      .join('; ')
      .slice(0, 400);
  }

  #app(name: string): App {
    const known = this.#apps.get(name);
    if (known !== undefined) return known;
    const app = new App(name, this.#options, {
      assertDomains: (of, manifest) => this.#assertDomains(of, manifest),
      assertRoom: (of, manifest) => this.#assertRoom(of, manifest),
      tidy: this.#tidyAll,
      readAt: () => this.#readAt,
      tell: (rollout) => this.#history.add({ ...rollout, at: this.#options.chainNow() }),
    });
    this.#apps.set(name, app);
    return app;
  }

  async #settled(): Promise<void> {
    await Promise.all([...this.#apps.values()].map((app) => app.settled()));
  }

  /**
   * What version 2 gives its containers is theirs, so all of it has to fit; the old ones of the same app count too, since both run for
   * a while. Containers of version 1 never had a promise.
   */
  #assertRoom(name: string, manifest: Manifest): void {
    const running = [...this.#apps.values()].flatMap((app) => app.running());
    const promised = running.reduce((sum, one) => sum + memoryOf(one), 0);
    const wanted = memoryOf(manifest);
    const { memoryMiB } = this.#options;
    if (wanted === 0 || promised + wanted <= memoryMiB) return;
    throw new DstackError(
      'APP_NO_ROOM',
      `${name} wants ${wanted} MiB of memory; of ${memoryMiB} MiB for apps, ${promised} are given away`,
    );
  }

  /** Images are in memory, so only those in use, about to be, or to go back to are kept. */
  async #tidy(): Promise<void> {
    const { engine, kept, secrets } = this.#options;
    const manifests = () => [...this.#apps.values()].flatMap((app) => app.manifests());
    let images: ReadonlySet<string> | undefined;
    await engine.pruneImages((digest) => {
      if (images === undefined) {
        images = new Set(manifests().flatMap(({ manifest }) => plansOf(manifest).map(({ image }) => image)));
        // Another app may need one more as soon as anything was waited for.
        queueMicrotask(() => {
          images = undefined;
        });
      }
      return images.has(digest);
    });
    const hashes = new Set(manifests().map(({ hash }) => hash));
    kept.prune(hashes);
    secrets.prune(hashes);
  }
}

function memoryOf(manifest: Manifest): number {
  if (manifest.version === 1) return 0;
  return plansOf(manifest).reduce((sum, { memoryMiB }) => sum + memoryMiB, 0);
}
