/** A node whose engine, files and memory of earlier runs are in memory: what the supervisor's tests share. */
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import {
  type ContainerPlan,
  type Manifest,
  type ManifestV1,
  type ManifestV2,
  secretsOf,
} from '../../lib/protocol/manifest.ts';
import type { AppFolderRequest } from '../../lib/protocol/sockets.ts';
import { addressOf } from '../bridges.ts';
import { type Fetcher, ManifestRefused } from './deployment.ts';
import type { ContainerSpec, Engine, Found, Running, Storage } from './engine.ts';
import type { Kept, Serving } from './kept.ts';
import type { Secrets } from './secrets.ts';
import { Supervisor } from './supervisor.ts';

/** An engine in memory: the same guarantees as podman, with containers that can be made to fail. */
export class MemoryEngine implements Engine {
  readonly images = new Set<string>();
  readonly networks = new Map<string, number>();
  readonly containers = new Map<string, { spec: ContainerSpec; running: boolean; address: string }>();
  readonly log: string[] = [];
  /** Images whose containers exit at once, those that run but do not listen, and those that say that they are not well. */
  readonly broken = new Set<string>();
  readonly deaf = new Set<string>();
  readonly sick = new Set<string>();
  /** Those that end while they are being checked. */
  readonly fleeting = new Set<string>();
  /** With what containers of an image end; with 1 without this. */
  readonly exits = new Map<string, number>();
  failing = '';
  #next = 1;

  async list(): Promise<Found[]> {
    return [...this.containers].map(([id, { spec, running }], at) => ({
      id,
      app: spec.app,
      manifest: spec.manifest,
      container: spec.container.name,
      running,
      number: spec.number,
      created: at,
    }));
  }
  async hasImage(digest: string) {
    return this.images.has(digest);
  }
  async assertReadable() {}
  async imageVolumes() {
    return [];
  }
  async imageUser() {
    return '';
  }
  async removeLooks() {}
  async pullImage(_reference: string) {}
  prunes = 0;
  async pruneImages(keep: (digest: string) => boolean) {
    this.prunes += 1;
    for (const image of this.images) if (!keep(image)) this.images.delete(image);
  }
  async ensureNetwork(app: string) {
    const index = this.networks.get(app) ?? this.#next++;
    this.networks.set(app, index);
    return { name: `dstack-${app}`, gateway: `10.90.${index}.1` };
  }
  async removeNetwork(app: string) {
    this.networks.delete(app);
  }
  async removeNetworksExcept(apps: ReadonlySet<string>) {
    for (const app of this.networks.keys()) if (!apps.has(app)) this.networks.delete(app);
  }
  async runIn() {
    return 0;
  }
  async logs(id: string, lines: number) {
    return [`last ${lines} of ${this.#get(id).spec.name}`];
  }
  async create(spec: ContainerSpec): Promise<string> {
    this.#mayFail('create');
    if (!this.images.has(spec.image)) throw new DstackError('ENGINE_REFUSED', 'no such image');
    const id = `${spec.name}#${this.#next++}`;
    this.containers.set(id, { spec, running: false, address: '' });
    this.log.push(`create ${spec.name}`);
    return id;
  }
  async start(id: string): Promise<Running> {
    this.#mayFail('start');
    const container = this.#get(id);
    if (container.running) return { id, address: container.address };
    container.running = !this.broken.has(container.spec.image);
    container.address = addressOf(container.spec.network.gateway, container.spec.number);
    return { id, address: container.address };
  }
  async stop(id: string) {
    this.#mayFail('stop');
    this.log.push(`stop ${this.#get(id).spec.name}`);
    this.#get(id).running = false;
  }
  async remove(id: string) {
    this.#mayFail('remove');
    this.containers.delete(id);
  }
  async isRunning(id: string) {
    this.#mayFail('isRunning');
    return this.containers.get(id)?.running ?? false;
  }
  async exitCode(id: string) {
    const container = this.containers.get(id);
    return container === undefined || container.running
      ? undefined
      : (this.exits.get(container.spec.image) ?? 1);
  }
  running(): string[] {
    return [...this.containers.values()].filter(({ running }) => running).map(({ spec }) => spec.image);
  }
  listens(address: string): boolean {
    const found = [...this.containers.values()].find((container) => container.address === address);
    return found?.running === true && !this.deaf.has(found.spec.image);
  }
  isSick(id: string): boolean {
    const container = this.#get(id);
    if (this.fleeting.has(container.spec.image)) {
      container.running = false;
      throw new DstackError('ENGINE_REFUSED', 'the container is not running');
    }
    return this.sick.has(this.#get(id).spec.image);
  }
  #get(id: string) {
    const container = this.containers.get(id);
    if (container === undefined) throw new DstackError('ENGINE_REFUSED', 'no such container');
    return container;
  }
  #mayFail(call: string) {
    if (this.failing === call) throw new DstackError('ENGINE_UNREACHABLE', 'podman is away');
  }
}

/** The chain's time when a test begins; a network's grace, in seconds. */
export const [START, GRACE] = [1_800_000_000, 86_400];

export const digest = (letters: string): string => letters.repeat(64).slice(0, 64);

export const wanted = (desired: Record<string, string>) =>
  new Map(Object.entries(desired).map(([app, hash]) => [app, parseHex(digest(hash))]));

/** What a daemon keeps for the next one, in memory. */
export class MemoryKept implements Kept {
  readonly manifests = new Map<string, Manifest>();
  readonly records = new Map<string, Serving>();
  isFull = false;
  manifest(hash: string) {
    return this.manifests.get(hash);
  }
  save() {}
  prune(hashes: ReadonlySet<string>) {
    for (const hash of this.manifests.keys()) if (!hashes.has(hash)) this.manifests.delete(hash);
  }
  record(app: string) {
    return this.records.get(app);
  }
  remember(app: string, serving: Serving) {
    this.#assertRoom();
    this.records.set(app, serving);
  }
  #assertRoom() {
    if (this.isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  }
  forget(app: string) {
    this.records.delete(app);
  }
  at: number | undefined;
  readAt() {
    return this.at;
  }
  rememberReadAt(at: number) {
    this.#assertRoom();
    this.at = at;
  }
}

/** A node whose host volume is two maps. Manifest hashes and image digests are one letter repeated. */
export function node() {
  const engine = new MemoryEngine();
  const kept = new MemoryKept();
  /** Images whose files the host never delivers. */
  const stalled = new Set<string>();
  const fetched: string[] = [];
  /** Manifests that are here, and are none. */
  const malformed = new Set<string>();
  const manifests = new Map<string, Manifest>();
  const archives = new Set<string>();
  const messages: { code?: string; msg: string }[] = [];
  let time = 0;
  let disk: string | undefined = '/mnt/encrypted_data/volumes';
  let diskCode = '';
  const fetcher: Fetcher = {
    async manifest(_app, hash) {
      const manifest = kept.manifest(hash) ?? manifests.get(hash);
      if (malformed.has(hash)) throw new ManifestRefused('MANIFEST_MALFORMED', 'malformed');
      if (manifest === undefined) throw new DstackError('MANIFEST_MISSING', 'no manifest');
      kept.manifests.set(hash, manifest);
      return manifest;
    },
    async image(image, own) {
      writable.set(image, own);
      if (stalled.has(image)) return new Promise<never>(() => {});
      if (engine.images.has(image)) return;
      fetched.push(image);
      if (!archives.has(image)) throw new DstackError('ARCHIVE_MISSING', 'no archive');
      engine.images.add(image);
    },
  };
  /** By image, the folders that are said to have limits of their own. */
  const writable = new Map<string, readonly string[]>();
  /** Envelopes on the host volume, and by manifest what was opened. */
  const envelopes = new Set<string>();
  const opened = new Set<string>();
  /** How many turns of the event loop's microtasks it takes to open them. */
  const slow = { turns: 0 };
  const secrets: Omit<Secrets, 'value'> = {
    async prepare(hash, manifest) {
      for (let turn = 0; turn < slow.turns; turn += 1) await undefined;
      if (opened.has(hash)) return;
      if (secretsOf(manifest).some(({ envelope }) => !envelopes.has(envelope)))
        throw new DstackError('SECRET_MISSING', 'no envelope');
      opened.add(hash);
    },
    of: async (hash, plan) =>
      plan.secrets.length === 0 ? undefined : { folder: `${hash}/${plan.name}`, user: 0 },
    prune(hashes: ReadonlySet<string>) {
      for (const hash of opened) if (!hashes.has(hash)) opened.delete(hash);
    },
  };
  const record = (fields: object, msg: string) => messages.push({ ...fields, msg });
  const options = {
    engine,
    fetcher,
    kept,
    memoryMiB: 1000,
    ownName: () => 'network.example',
    storageOf: async (app: string, { data }: ContainerPlan): Promise<Storage> => {
      if (data === 'none') return { volumes: {} };
      if (diskCode !== '') throw new DstackError(diskCode, 'disk');
      return { volumes: {}, ...(disk !== undefined && { data: `${disk}/${app}/data` }) };
    },
    secrets,
    async agentFolderOf({ app, manifestHash, container }: AppFolderRequest) {
      if (!agent.isUp) throw new DstackError('SOCKET_UNREACHABLE', 'the agent is away');
      return `/run/${app}/${manifestHash}/${container}`;
    },
    probe: async ({ id, address }: Running, { health, http }: ContainerPlan) => {
      if (health !== undefined)
        return engine.isSick(id) ? 'answers / with status 500: no database' : undefined;
      return engine.listens(address) ? undefined : `does not listen on its port ${http[0]?.port}`;
    },
    log: { info: record, warn: record },
    now: () => time,
    chainNow: () => START + Math.floor(time / 1000),
    supersededGrace: () => GRACE,
    frontMark: () => () => front.hasHeard,
    pause: async (ms: number) => {
      time += ms;
      await hook();
    },
  };
  /** What leads visitors to the containers. */
  const front = { hasHeard: true };
  const agent = { isUp: true };
  let supervisor = new Supervisor(options);
  let hook = async (): Promise<void> => {};
  /** The same in version 2: with these fields, `beside`, on port 80. */
  function publish2(app: string, hash: string, extra: Partial<ManifestV2['containers'][number]> = {}) {
    const container = {
      name: 'web',
      image: `sha256:${digest(hash)}`,
      update: 'beside' as const,
      http: { port: 80 },
      memoryMiB: 100,
    };
    manifests.set(digest(hash), { version: 2, app, containers: [{ ...container, ...extra }] });
    archives.add(digest(hash));
  }
  /** The same, with websites of its own. */
  function publishSites(app: string, hash: string, ...domains: string[]) {
    const http = domains.map((domain, index) => ({ domain, port: 80 + index, protocol: 'http1' as const }));
    publish2(app, hash, { http, update: 'replace' });
  }
  return {
    engine,
    kept,
    front,
    agent,
    stalled,
    fetched,
    writable,
    malformed,
    envelopes,
    opened,
    slow,
    /** The same in version 2, with one secret. */
    publishSecret(app: string, hash: string, envelope: string) {
      publish2(app, hash, { secrets: ['db'] });
      const manifest = manifests.get(digest(hash)) as ManifestV2;
      const secret = { name: 'db', envelope: parseHex(digest(envelope)) };
      manifests.set(digest(hash), { ...manifest, secrets: [secret] });
    },
    /** Called whenever something is waited for. */
    whenever(action: () => void | Promise<void>) {
      hook = async () => action();
    },
    get supervisor() {
      return supervisor;
    },
    /** The daemon is killed, and started again: all that is left is what runs, and what it kept. */
    async restart() {
      supervisor = new Supervisor(options);
      await supervisor.adopt(START + Math.floor(time / 1000));
      return supervisor;
    },
    now: () => time,
    archives,
    messages,
    /** Puts a manifest with one container of image `image` on the host volume, and the archive. */
    publish(
      app: string,
      hash: string,
      image = hash,
      extra: Partial<ManifestV1['containers'][number]> = { http: { port: 80 } },
    ) {
      const containers = [{ name: 'web', image: `sha256:${digest(image)}`, ...extra }];
      manifests.set(digest(hash), { version: 1, app, containers });
      archives.add(digest(image));
    },
    publish2,
    publishSites,
    unpublish: (hash: string) => manifests.delete(digest(hash)),
    /** @param readAgain what the contract says once the files have been fetched */
    step: (
      desired: Record<string, string>,
      readAgain: () => Record<string, string> | Promise<never> = () => desired,
      pending: Record<string, string> = {},
      since: Record<string, number> = {},
    ) => {
      supervisor.contractRead(START + Math.floor(time / 1000));
      const again = async () => wanted(await readAgain());
      return supervisor.step(wanted(desired), again, wanted(pending), new Map(Object.entries(since)));
    },
    pass(ms: number) {
      time += ms;
    },
    setDisk(state: string | undefined, code = '') {
      disk = state;
      diskCode = code;
    },
    codes: () => messages.flatMap(({ code }) => code ?? []),
    /** Where the website is, or why it is nowhere. */
    upstream(): string {
      const { upstream, reason } = supervisor.upstream().website;
      return upstream?.host ?? reason ?? '';
    },
    /** Which app answers for each domain, or why none does. */
    sites(): Record<string, string> {
      const { sites } = supervisor.upstream();
      return Object.fromEntries(
        sites.map(({ domain, upstream, reason }) => [domain, upstream?.app ?? reason ?? '']),
      );
    },
  };
}
