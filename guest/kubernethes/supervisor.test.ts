import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { APPS_STATUS_MAX_BYTES, AppsStatusSchema } from '../../lib/protocol/app-status.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import {
  type ContainerPlan,
  type Manifest,
  type ManifestV1,
  type ManifestV2,
  secretsOf,
} from '../../lib/protocol/manifest.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { AppFolderRequest } from '../../lib/protocol/sockets.ts';
import { addressOf } from '../bridges.ts';
import { type Fetcher, ManifestRefused } from './deployment.ts';
import type { ContainerSpec, Engine, Found, Running, Storage } from './engine.ts';
import type { Kept, Serving } from './kept.ts';
import type { Secrets } from './secrets.ts';
import { Supervisor } from './supervisor.ts';

/** An engine in memory: the same guarantees as podman, with containers that can be made to fail. */
class MemoryEngine implements Engine {
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
const [START, GRACE] = [1_800_000_000, 86_400];

const digest = (letters: string): string => letters.repeat(64).slice(0, 64);

const wanted = (desired: Record<string, string>) =>
  new Map(Object.entries(desired).map(([app, hash]) => [app, parseHex(digest(hash))]));

/** What a daemon keeps for the next one, in memory. */
class MemoryKept implements Kept {
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
function node() {
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

describe('a front that has not heard yet', () => {
  test('still finds the old container, which stops after it has', async () => {
    const { step, publish2, engine, front, whenever, upstream, now } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' });
    const old = upstream();
    front.hasHeard = false;
    const began = now();
    let seen = 0;
    whenever(() => {
      if (upstream() === old) return;
      seen += 1;
      expect(engine.listens(old)).toBe(true);
      // Longer than requests under way are given.
      if (now() - began > 20_000) front.hasHeard = true;
    });
    await step({ greeting: 'b' });
    expect(seen).toBeGreaterThan(10);
    expect(front.hasHeard).toBe(true);
    expect(engine.running()).toEqual([digest('b')]);
  });

  test('does not hold up a rollout for ever', async () => {
    const { step, publish2, engine, front, codes, now } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' });
    front.hasHeard = false;
    const began = now();
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
    expect(codes()).toEqual(['FRONT_SILENT']);
    expect(now() - began).toBeLessThan(60_000);
  });

  test('of a container that must stop first: requests wait before that, and nobody else gets them', async () => {
    const { step, publish2, engine, front, whenever, supervisor, upstream } = node();
    publish2('greeting', 'a', { update: 'replace' });
    publish2('greeting', 'b', { update: 'replace' });
    publish2('other', 'c');
    const both = { greeting: 'a', other: 'c' };
    await step(both);
    const old = upstream();
    front.hasHeard = false;
    let seen = 0;
    whenever(() => {
      const { website } = supervisor.upstream();
      if (website.upstream !== undefined) return;
      expect(website).toEqual({ reason: 'greeting is being replaced', waits: true });
      if (front.hasHeard) return;
      expect(engine.listens(old)).toBe(true);
      seen += 1;
      front.hasHeard = seen > 3;
    });
    await step({ ...both, greeting: 'b' });
    expect(seen).toBe(4);
    expect(supervisor.upstream().website.upstream?.app).toBe('greeting');
    expect(engine.running().sort()).toEqual([digest('b'), digest('c')]);
  });
});

describe('supervisor', () => {
  test('starts what the contract names, and says where it listens', async () => {
    const { step, publish, supervisor, engine, upstream } = node();
    expect(upstream()).toBe('the contract has not been read yet');
    supervisor.hold('too small');
    expect(upstream()).toBe('too small');
    await step({});
    expect(upstream()).toBe('the contract names no app');
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    const [only] = supervisor.containers();
    expect(supervisor.upstream()).toEqual({
      website: { upstream: { app: 'greeting', host: only!.address, port: 80, protocol: 'http1' } },
      sites: [],
    });
    expect(only).toEqual({
      app: 'greeting',
      container: 'web',
      manifestHash: digest('a'),
      address: only!.address,
      gateway: '10.90.1.1',
      api: ['info', 'key', 'attest'],
    });
    expect([...engine.containers.values()][0]!.spec).toMatchObject({
      app: 'greeting',
      image: digest('a'),
      storage: { data: '/mnt/encrypted_data/volumes/greeting/data', volumes: {} },
    });
  });

  test('replaces: old down before new up, old gone, its image kept for a way back, never two at once', async () => {
    const { step, publish, engine } = node();
    publish('greeting', 'a');
    publish('greeting', 'b');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' });
    const name = (hash: string) => `dstack_greeting_web_${hash.repeat(16)}`;
    expect(engine.log).toEqual([`create ${name('a')}`, `stop ${name('a')}`, `create ${name('b')}`]);
    expect(engine.running()).toEqual([digest('b')]);
    expect([...engine.images].sort()).toEqual([digest('a'), digest('b')]);
    expect(engine.containers.size).toBe(1);
  });

  test('a refusal leaves the old one serving, and is tried again after a growing pause', async () => {
    const { step, publish, upstream, codes, pass, engine, archives } = node();
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    const before = upstream();
    publish('greeting', 'b');
    archives.delete(digest('b'));
    for (let i = 0; i < 3; i++) await step({ greeting: 'b' });
    expect(codes()).toEqual(['ARCHIVE_MISSING']);
    pass(2000);
    await step({ greeting: 'b' });
    pass(2000);
    await step({ greeting: 'b' });
    expect(codes()).toEqual(['ARCHIVE_MISSING', 'ARCHIVE_MISSING']);
    expect(upstream()).toBe(before);
    archives.add(digest('b'));
    pass(2000);
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
  });

  test('files that took their time: what was replaced meanwhile is not started, nor while nobody can say', async () => {
    const { step, publish, upstream, codes, pass, engine } = node();
    for (const hash of ['a', 'b', 'c']) publish('greeting', hash);
    await step({ greeting: 'a' });
    const before = upstream();
    await step({ greeting: 'b' }, () => ({ greeting: 'c' }));
    pass(2000);
    await step({ greeting: 'b' }, () => ({}));
    pass(4000);
    await step({ greeting: 'b' }, () => Promise.reject(new DstackError('CHAIN_BEHIND', 'old')));
    expect(codes()).toEqual(['MANIFEST_SUPERSEDED', 'MANIFEST_SUPERSEDED', 'CHAIN_BEHIND']);
    expect(upstream()).toBe(before);
    expect(engine.log).toHaveLength(1);
    await step({ greeting: 'c' });
    expect(engine.running()).toEqual([digest('c')]);
  });

  test('while the contract cannot be read, what runs is kept running, and nothing else is started or removed', async () => {
    const { step, publish, pass, engine, archives, supervisor } = node();
    publish('greeting', 'a');
    publish('gone', 'd');
    publish('greeting', 'b');
    await step({ greeting: 'a', gone: 'd' });
    archives.delete(digest('b'));
    await step({ greeting: 'b', gone: 'd' });
    // The host delivers it now that the chain cannot be reached.
    archives.add(digest('b'));
    for (const container of engine.containers.values()) container.running = false;
    for (let i = 0; i < 5; i++) {
      pass(60_000);
      await supervisor.keep(new DstackError('CHAIN_UNREACHABLE', 'no endpoint'));
    }
    expect(engine.running().sort()).toEqual([digest('a'), digest('d')]);
  });

  test('a refused manifest that is rolled back is forgotten', async () => {
    const { step, publish, upstream, engine } = node();
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    const before = upstream();
    await step({ greeting: 'c' });
    await step({ greeting: 'a' });
    expect(upstream()).toBe(before);
    expect(engine.log).toHaveLength(1);
  });

  test.each(['broken', 'deaf'] as const)(
    'a new one that is %s: the old one is started again',
    async (trouble) => {
      const { step, publish, engine, upstream, codes, supervisor } = node();
      publish('greeting', 'a');
      publish('greeting', 'b');
      await step({ greeting: 'a' });
      engine[trouble].add(digest('b'));
      await step({ greeting: 'b' });
      expect(codes()).toEqual(['APP_NOT_UP']);
      expect(engine.running()).toEqual([digest('a')]);
      expect(engine.containers.size).toBe(1);
      expect(engine.listens(upstream())).toBe(true);
      expect(supervisor.containers().map(({ address }) => address)).toEqual([upstream()]);
    },
  );

  test('its containers know each other by name, and no address is given to another one soon', async () => {
    const { step, publish, engine } = node();
    const addresses = new Set<string>();
    for (const letter of ['a', 'b', 'a', 'b']) {
      publish('greeting', letter);
      await step({ greeting: letter });
      const [only] = [...engine.containers.values()];
      addresses.add(only!.address);
      expect(only!.spec.siblings).toEqual({ [only!.spec.container.name]: only!.address });
    }
    expect(addresses.size).toBe(4);
  });

  test('an app without a port must only stay up', async () => {
    const { step, publish, engine, upstream, codes } = node();
    publish('worker', 'a', 'a', {});
    engine.deaf.add(digest('a'));
    await step({ worker: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(upstream()).toBe('worker is not the website');
    publish('worker', 'b', 'b', {});
    engine.broken.add(digest('b'));
    await step({ worker: 'b' });
    expect(codes()).toEqual(['APP_NOT_UP']);
  });

  test('an app waits for the data disk; without one it gets none', async () => {
    const { step, publish, setDisk, codes, engine, pass, upstream } = node();
    publish('greeting', 'a');
    setDisk(undefined, 'DISK_NOT_READY');
    await step({ greeting: 'a' });
    expect(codes()).toEqual(['DISK_NOT_READY']);
    expect(upstream()).toBe('greeting: DISK_NOT_READY');
    setDisk(undefined);
    pass(2000);
    await step({ greeting: 'a' });
    expect([...engine.containers.values()][0]!.spec.storage).not.toHaveProperty('data');
  });

  test('who may ask the agent something has its socket, by app, manifest and container; nobody else has one', async () => {
    const { step, publish, publish2, agent, codes, engine, pass, supervisor } = node();
    publish('old', 'a');
    publish2('keys', 'b', { api: ['key'] });
    publish2('quiet', 'c');
    await step({ old: 'a', keys: 'b', quiet: 'c' });
    const folders = [...engine.containers.values()].map(({ spec }) => [spec.app, spec.storage.agent]);
    expect(Object.fromEntries(folders)).toEqual({
      old: `/run/old/${digest('a')}/web`,
      keys: `/run/keys/${digest('b')}/web`,
      quiet: undefined,
    });
    expect(supervisor.manifests().sort()).toEqual([digest('a'), digest('b'), digest('c')]);
    // Without the agent it is not started, and it is tried again.
    agent.isUp = false;
    publish2('keys', 'd', { api: ['sign'] });
    await step({ old: 'a', keys: 'd', quiet: 'c' });
    expect(codes()).toEqual(['SOCKET_UNREACHABLE']);
    agent.isUp = true;
    pass(2000);
    await step({ old: 'a', keys: 'd', quiet: 'c' });
    expect(engine.running()).toContain(digest('d'));
  });

  test("one app's trouble does not stop another", async () => {
    const { step, publish, engine, upstream, supervisor } = node();
    publish('good', 'b');
    await step({ bad: 'a', good: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
    expect(supervisor.upstream().website.upstream?.app).toBe('good');
    expect(engine.listens(upstream())).toBe(true);
  });

  test('a withdrawn app is gone at once, and not said to be superseded', async () => {
    const { step, publish, engine, supervisor, messages } = node();
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    await step({}, undefined, {}, { greeting: 0 });
    expect(engine.running()).toEqual([]);
    expect(supervisor.status().rollouts.map(({ outcome }) => outcome)).toEqual(['deployed', 'withdrawn']);
    expect(messages.filter(({ code }) => code !== undefined)).toEqual([]);
  });

  test('a withdrawn app is removed, also when that fails at first', async () => {
    const { step, publish, engine, supervisor } = node();
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    engine.failing = 'remove';
    await step({});
    expect(engine.running()).toEqual([digest('a')]);
    engine.failing = '';
    await step({});
    expect(engine.containers.size + engine.networks.size + engine.images.size).toBe(0);
    expect(supervisor.containers()).toEqual([]);
  });

  test('a container that stops is started again, with pauses', async () => {
    const { step, publish, engine, pass } = node();
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    const only = [...engine.containers.values()][0]!;
    only.running = false;
    await step({ greeting: 'a' });
    expect(only.running).toBe(true);
    only.running = false;
    await step({ greeting: 'a' });
    expect(only.running).toBe(false);
    pass(2000);
    await step({ greeting: 'a' });
    expect(only.running).toBe(true);
  });

  test("whatever happens, in the end the contract's wish runs and nothing else does", async () => {
    const app = fc.constantFrom('one', 'two');
    const hash = fc.constantFrom('a', 'b', 'c');
    const event = fc.oneof(
      fc.record({ kind: fc.constant('want' as const), app, hash }),
      fc.record({ kind: fc.constant('withdraw' as const), app, hash }),
      fc.record({ kind: fc.constant('break' as const), app, hash }),
      fc.record({ kind: fc.constant('mend' as const), app, hash }),
      fc.record({ kind: fc.constant('lose' as const), app, hash }),
      fc.record({
        kind: fc.constant('fail' as const),
        app,
        hash: fc.constantFrom('create', 'start', 'stop', 'isRunning', 'remove', ''),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 25 }), async (events) => {
        const { engine, publish, unpublish, step, pass, supervisor } = node();
        const wanted: Record<string, string> = {};
        const publishAll = () => {
          for (const letter of ['a', 'b', 'c']) {
            publish('one', letter);
          }
        };
        publishAll();
        for (const { kind, app, hash } of events) {
          if (kind === 'want') wanted[app] = hash;
          if (kind === 'withdraw') delete wanted[app];
          if (kind === 'break') engine.broken.add(digest(hash));
          if (kind === 'mend') engine.broken.clear();
          if (kind === 'lose') unpublish(hash);
          if (kind === 'fail') engine.failing = hash;
          await step(wanted);
          pass(700);
          const perApp = [...engine.containers.values()]
            .filter(({ running }) => running)
            .map(({ spec }) => spec.app);
          expect(new Set(perApp).size).toBe(perApp.length);
        }
        publishAll();
        engine.failing = '';
        engine.broken.clear();
        for (let i = 0; i < 6; i++) {
          pass(120_000);
          await step(wanted);
        }
        const running = [...engine.containers.values()].map(({ spec, running }) => [
          spec.app,
          spec.image[0],
          running,
        ]);
        expect(running.sort()).toEqual(
          Object.entries(wanted)
            .map(([app, hash]) => [app, hash, true])
            .sort(),
        );
        expect(supervisor.containers()).toHaveLength(Object.keys(wanted).length);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a rollout beside the old one', () => {
  const name = (hash: string) => `dstack_greeting_web_${hash.repeat(16)}`;

  test('the new one is up before the front leaves the old one, which ends after its requests', async () => {
    const { step, publish2, engine, upstream, supervisor, now, whenever } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b', { health: { http: '/' } });
    await step({ greeting: 'a' });
    const before = upstream();
    const seen: string[] = [];
    engine.sick.add(digest('b'));
    const began = now();
    whenever(() => {
      expect(engine.listens(upstream())).toBe(true);
      seen.push(upstream() === before ? 'old' : 'new');
      // The agent knows both, for as long as both may ask it.
      expect(
        supervisor
          .containers()
          .map(({ manifestHash }) => manifestHash[0])
          .sort(),
      ).toEqual(['a', 'b']);
      if (now() - began > 1000) engine.sick.clear();
    });
    await step({ greeting: 'b' });
    expect(new Set(seen)).toEqual(new Set(['old', 'new']));
    expect(seen.at(-1)).toBe('new');
    expect(engine.log).toEqual([`create ${name('a')}`, `create ${name('b')}`, `stop ${name('a')}`]);
    expect(engine.running()).toEqual([digest('b')]);
    expect(engine.containers.size).toBe(1);
    expect(supervisor.containers()).toHaveLength(1);
  });

  test('one that does not become healthy changes nothing, and says why', async () => {
    const { step, publish2, engine, upstream, supervisor, messages, whenever, now } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b', { health: { http: '/', startSeconds: 7 }, logs: 'public' });
    publish2('greeting', 'c', { health: { http: '/', startSeconds: 7 } });
    await step({ greeting: 'a' });
    const before = upstream();
    for (const bad of ['b', 'c']) {
      engine.sick.add(digest(bad));
      whenever(() => expect(upstream()).toBe(before));
      const began = now();
      await step({ greeting: bad });
      expect(now() - began).toBeLessThan(8_000);
      expect(messages.at(-1)).toMatchObject({
        code: 'APP_UNHEALTHY',
        msg: 'app not deployed: container web answers / with status 500: no database',
      });
      expect(engine.running()).toEqual([digest('a')]);
      expect(supervisor.containers()).toHaveLength(1);
    }
    expect(messages.at(-2)).toMatchObject({ logs: { web: [`last 20 of ${name('b')}`] } });
    // Its logs are its own.
    expect(messages.at(-1)).not.toHaveProperty('logs');
    expect(engine.log.filter((line) => line.startsWith('stop'))).toEqual([]);
  });

  test('the owner who goes back need not wait until it is given up', async () => {
    const { step, publish2, engine, codes, supervisor, whenever, now } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b', { health: { http: '/', startSeconds: 600 } });
    await step({ greeting: 'a' });
    engine.sick.add(digest('b'));
    const began = now();
    whenever(() => {
      whenever(() => {});
      void supervisor.step(wanted({ greeting: 'a' }), async () => wanted({ greeting: 'a' }));
    });
    await step({ greeting: 'b' });
    expect(codes()).toEqual(['MANIFEST_SUPERSEDED']);
    expect(now() - began).toBeLessThan(1_000);
    expect(engine.running()).toEqual([digest('a')]);
  });

  test('a container with the data disk waits for the old one to be gone, also from one version to the other', async () => {
    const { step, publish, publish2, engine } = node();
    publish('greeting', 'a');
    publish2('greeting', 'b', { update: 'replace', data: 'rw' });
    publish2('greeting', 'c', { data: 'ro' });
    for (const hash of ['a', 'b', 'c']) await step({ greeting: hash });
    expect(engine.log).toEqual([
      `create ${name('a')}`,
      `stop ${name('a')}`,
      `create ${name('b')}`,
      `create ${name('c')}`,
      `stop ${name('b')}`,
    ]);
  });

  test('going back needs nothing of the host', async () => {
    const { step, publish2, unpublish, archives, engine, fetched } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' });
    unpublish('a');
    archives.clear();
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(fetched).toEqual([digest('a'), digest('b')]);
  });

  test('a healthy one that becomes unhealthy is started again, after as many failures as it may have', async () => {
    const { step, publish2, engine, codes, pass } = node();
    publish2('greeting', 'a', { health: { http: '/', intervalSeconds: 10, retries: 2, startSeconds: 5 } });
    await step({ greeting: 'a' });
    const restarts = () => engine.log.filter((line) => line.startsWith('stop')).length;
    engine.sick.add(digest('a'));
    await step({ greeting: 'a' });
    expect(restarts()).toBe(0);
    pass(9_000);
    await step({ greeting: 'a' });
    expect(restarts()).toBe(0);
    pass(1_000);
    await step({ greeting: 'a' });
    expect(restarts()).toBe(1);
    expect(codes()).toEqual(['APP_UNHEALTHY']);
    expect(engine.running()).toEqual([digest('a')]);
  });

  test.each([
    ['a command, which takes the engine its time', { exec: ['/check'] }, 12],
    ['a request', { http: '/' }, 45],
  ])('whether a new one is healthy is asked by %s, so many times at most', async (_, check, most) => {
    const { step, publish2, engine } = node();
    publish2('greeting', 'a', { health: { ...check, startSeconds: 10 } });
    engine.sick.add(digest('a'));
    let asked = 0;
    const isSick = engine.isSick.bind(engine);
    engine.isSick = (id) => {
      asked += 1;
      return isSick(id);
    };
    await step({ greeting: 'a' });
    expect(asked).toBeGreaterThan(most / 2);
    expect(asked).toBeLessThanOrEqual(most);
  });

  test.each(['stop', 'isRunning', 'remove'] as const)(
    'an old one that the engine does not let go of at first (%s) is gone in the end, and known to the agent no more',
    async (call) => {
      const { step, publish2, engine, supervisor } = node();
      publish2('greeting', 'a');
      publish2('greeting', 'b');
      await step({ greeting: 'a' });
      const [[old]] = [[...engine.containers.keys()]];
      const real = engine[call].bind(engine) as (id: string) => Promise<never>;
      Object.assign(engine, {
        [call]: async (id: string) => {
          // It reads what the host does not give it, and so does not end.
          if (id === old) throw new DstackError('ENGINE_REFUSED', 'it does not end');
          return real(id);
        },
      });
      await step({ greeting: 'b' });
      expect(supervisor.containers().map(({ manifestHash }) => manifestHash)).toEqual([digest('b')]);
      Object.assign(engine, { [call]: real });
      await step({ greeting: 'b' });
      expect(engine.running()).toEqual([digest('b')]);
      expect(engine.containers.size).toBe(1);
    },
  );
});

describe('apps by themselves', () => {
  const soon = async (condition: () => boolean): Promise<void> => {
    for (let i = 0; i < 50 && !condition(); i++) await new Promise((resolve) => setImmediate(resolve));
    expect(condition()).toBe(true);
  };

  test('what the host holds back from one delays no other, nor what its owner does next', async () => {
    const { step, publish2, engine, stalled, supervisor } = node();
    for (const [app, hash] of [
      ['a', 'a'],
      ['b', 'b'],
      ['a', 'c'],
      ['b', 'd'],
    ] as const)
      publish2(app, hash);
    await step({ a: 'a', b: 'b' });
    stalled.add(digest('c'));
    void step({ a: 'c', b: 'd' });
    await soon(() => engine.running().includes(digest('d')) && !engine.running().includes(digest('b')));
    expect(engine.running().sort()).toEqual([digest('a'), digest('d')]);
    // One that stopped meanwhile is started again; the app can be rolled back, and withdrawn.
    [...engine.containers.values()].find(({ spec }) => spec.app === 'a')!.running = false;
    void step({ a: 'c', b: 'd' });
    await soon(() => engine.running().includes(digest('a')));
    void step({ b: 'd' });
    await soon(() => !engine.running().includes(digest('a')));
    expect(supervisor.containers().map(({ app }) => app)).toEqual(['b']);
  });

  test('a manifest in its delay is fetched and loaded, and starts nothing', async () => {
    const { step, publish2, engine, unpublish, archives, codes } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    publish2('next', 'c');
    await step({ greeting: 'a' }, undefined, { greeting: 'b', next: 'c' });
    expect(engine.running()).toEqual([digest('a')]);
    expect([...engine.images].sort()).toEqual([digest('a'), digest('b'), digest('c')]);
    // Another app's deployment does not tidy it away.
    publish2('other', 'd');
    await step({ greeting: 'a', other: 'd' }, undefined, { greeting: 'b', next: 'c' });
    expect(engine.images.has(digest('b'))).toBe(true);
    for (const hash of ['a', 'b', 'c']) unpublish(hash);
    archives.clear();
    await step({ greeting: 'b', other: 'd', next: 'c' });
    expect(engine.running().sort()).toEqual([digest('b'), digest('c'), digest('d')]);
    expect(codes()).toEqual([]);
  });

  test('one that is not there yet is said in advance, and one that was cancelled is forgotten', async () => {
    const { step, publish2, engine, messages } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' }, undefined, { greeting: 'e' });
    expect(messages.filter(({ code }) => code !== undefined)).toMatchObject([
      { code: 'MANIFEST_MISSING', manifest: digest('e'), msg: 'next manifest not ready: no manifest' },
    ]);
    await step({ greeting: 'a' }, undefined, { greeting: 'b' });
    expect(engine.images.has(digest('b'))).toBe(true);
    publish2('other', 'd');
    await step({ greeting: 'a', other: 'd' });
    expect(engine.images.has(digest('b'))).toBe(false);
  });

  test('memory that version 2 promises is there; an app without room changes nothing', async () => {
    const { step, publish, publish2, engine, codes, pass } = node();
    publish2('one', 'a', { memoryMiB: 400 });
    publish2('two', 'b', { memoryMiB: 700 });
    publish('old', 'c');
    await step({ one: 'a', two: 'b', old: 'c' });
    expect(codes()).toEqual(['APP_NO_ROOM']);
    expect(engine.running().sort()).toEqual([digest('a'), digest('c')]);
    // Both versions run for a while.
    publish2('one', 'd', { memoryMiB: 650 });
    publish2('one', 'e', { memoryMiB: 600 });
    pass(2000);
    await step({ one: 'd', old: 'c' });
    expect(codes()).toEqual(['APP_NO_ROOM', 'APP_NO_ROOM']);
    await step({ one: 'e', old: 'c' });
    expect(engine.running().sort()).toEqual([digest('c'), digest('e')]);
  });
});

describe('a daemon that is started again', () => {
  test('takes over what runs: the same containers, at once, without the contract', async () => {
    const { step, publish2, unpublish, restart, engine, upstream, archives } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    const [before, ids] = [upstream(), [...engine.containers.keys()]];
    unpublish('a');
    archives.clear();
    await restart();
    expect(upstream()).toBe(before);
    await step({ greeting: 'a' });
    expect([...engine.containers.keys()]).toEqual(ids);
    expect(engine.log).toHaveLength(1);
    expect(upstream()).toBe(before);
  });

  test('goes on from the middle of a rollout, at whatever step it was killed: what served, serves', async () => {
    for (const update of ['beside', 'replace'] as const) {
      for (let kill = 1; ; kill++) {
        const { step, publish2, restart, engine, upstream, whenever, codes } = node();
        publish2('greeting', 'a', { update });
        publish2('greeting', 'b', { update, health: { http: '/' } });
        await step({ greeting: 'a' });
        let calls = 0;
        // Everything that the engine is asked to do from now on is a step; after the kill, it is asked nothing more.
        const dying = (method: 'create' | 'start' | 'stop' | 'remove') => {
          const real = engine[method].bind(engine) as (...args: unknown[]) => Promise<never>;
          (engine as unknown as Record<string, unknown>)[method] = (...args: unknown[]) => {
            if (isDead) return real(...args);
            calls += 1;
            return calls > kill ? new Promise<never>(() => {}) : real(...args);
          };
        };
        let isDead = false;
        for (const method of ['create', 'start', 'stop', 'remove'] as const) dying(method);
        let finished = false;
        void step({ greeting: 'b' }).then(() => {
          finished = true;
        });
        for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
        if (finished) {
          // All steps have had their turn.
          expect(kill).toBeGreaterThan(3);
          break;
        }
        isDead = true;
        const wasUp = update === 'beside';
        await restart();
        const served = upstream();
        if (wasUp) expect(engine.listens(served), `${update}, killed after ${kill} calls`).toBe(true);
        whenever(() => {
          if (wasUp) expect(engine.listens(upstream())).toBe(true);
        });
        await step({ greeting: 'b' });
        expect(engine.running(), `${update}, killed after ${kill} calls`).toEqual([digest('b')]);
        expect(engine.containers.size).toBe(1);
        expect(codes()).toEqual(codes().filter((code) => code === 'APP_STOPPED'));
      }
    }
  });

  /** From now on the engine answers `calls` more calls that change anything, and none after that; until it is brought back. */
  function dyingAfter(engine: MemoryEngine, calls: number) {
    let [made, isBack] = [0, false];
    for (const method of ['create', 'start', 'stop', 'remove', 'ensureNetwork', 'removeNetwork'] as const) {
      const real = engine[method].bind(engine) as (...args: unknown[]) => Promise<never>;
      (engine as unknown as Record<string, unknown>)[method] = (...args: unknown[]) => {
        if (isBack) return real(...args);
        made += 1;
        return made > calls ? new Promise<never>(() => {}) : real(...args);
      };
    }
    return {
      bringBack: () => {
        isBack = true;
      },
    };
  }

  type Node = ReturnType<typeof node>;
  const sick: [string, (at: Node) => Promise<void>, string[]] = [
    'a rollout of one that never gets well',
    async ({ step, engine }) => {
      engine.sick.add(digest('b'));
      await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    },
    ['a'],
  ];
  const undone: [string, (at: Node) => Promise<void>, string[]] = [
    'a rollout that a reorg undoes',
    async ({ step, whenever, supervisor }) => {
      whenever(() => {
        whenever(() => {});
        void supervisor.step(wanted({ greeting: 'a' }), async () => wanted({ greeting: 'a' }));
      });
      await step({ greeting: 'b' }, undefined, {}, { greeting: START });
      await step({ greeting: 'a' });
    },
    ['a'],
  ];
  const over: [string, (at: Node) => Promise<void>, string[]] = [
    'the end of one that was superseded',
    async ({ step, pass }) => {
      pass(GRACE * 1000);
      await step({ greeting: 'e' }, undefined, {}, { greeting: START });
    },
    [],
  ];
  const gone: [string, (at: Node) => Promise<void>, string[]] = ['a withdrawal', ({ step }) => step({}), []];

  test.each(
    (['beside', 'replace'] as const).flatMap((update) =>
      [sick, undone, over, gone].map(([what, act, left]) => [update, what, act, left] as const),
    ),
  )('%s: killed at any step of %s, it comes to the same end', async (update, what, act, left) => {
    for (let kill = 0; ; kill++) {
      const at = node();
      const { step, publish2, restart, engine, pass, supervisor: first } = at;
      publish2('greeting', 'a', { update });
      publish2('greeting', 'b', { update, health: { http: '/', startSeconds: 2 } });
      await step({ greeting: 'a' });
      const { bringBack } = dyingAfter(engine, kill);
      let finished = false;
      void act(at).then(() => {
        finished = true;
      });
      for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
      if (finished) {
        expect(kill).toBeGreaterThan(1);
        break;
      }
      bringBack();
      expect(at.supervisor).toBe(first);
      await restart();
      for (let round = 0; round < 3; round++) {
        await act(at);
        pass(2_000);
      }
      expect(engine.running(), `${what}, ${update}, killed after ${kill} calls`).toEqual(left.map(digest));
      expect(engine.containers.size).toBe(left.length);
    }
  });

  test('what belongs to no app that it knows is removed, and what was withdrawn meanwhile too', async () => {
    const { step, publish2, restart, engine, kept } = node();
    publish2('greeting', 'a');
    publish2('lost', 'b');
    publish2('gone', 'c');
    await step({ greeting: 'a', lost: 'b', gone: 'c' });
    kept.manifests.delete(digest('b'));
    engine.networks.set('nobody', 200);
    const supervisor = await restart();
    expect(
      supervisor
        .containers()
        .map(({ app }) => app)
        .sort(),
    ).toEqual(['gone', 'greeting']);
    expect(engine.networks.has('nobody')).toBe(false);
    await step({ greeting: 'a', lost: 'b' });
    expect(engine.running().sort()).toEqual([digest('a'), digest('b')]);
    expect([...engine.networks.keys()].sort()).toEqual(['greeting', 'lost']);
    expect(engine.containers.size).toBe(2);
  });

  test('takes over all others, if the engine does not answer for one', async () => {
    const { step, publish2, restart, engine, messages, sites } = node();
    const site = (domain: string) => ({ http: [{ domain, port: 80, protocol: 'http1' as const }] });
    publish2('one', 'a', site('one.example'));
    publish2('two', 'b', site('two.example'));
    await step({ one: 'a', two: 'b' });
    const ids = [...engine.containers.keys()];
    const start = engine.start.bind(engine);
    engine.start = (id) =>
      id === ids[0] ? Promise.reject(new DstackError('ENGINE_UNREACHABLE', 'too much')) : start(id);
    await restart();
    expect(sites()).toMatchObject({ 'two.example': 'two' });
    await step({ one: 'a', two: 'b' });
    expect(messages).toContainEqual(expect.objectContaining({ app: 'one', code: 'ENGINE_UNREACHABLE' }));
    // Once it answers, it serves: the same container.
    engine.start = start;
    await step({ one: 'a', two: 'b' });
    expect(sites()).toEqual({ 'one.example': 'one', 'two.example': 'two' });
    expect([...engine.containers.keys()]).toEqual(ids);
  });

  test('still knows the way back', async () => {
    const { step, publish2, restart, engine, unpublish, archives } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    publish2('other', 'c');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' });
    await restart();
    await step({ greeting: 'b', other: 'c' });
    unpublish('a');
    archives.clear();
    await step({ greeting: 'a', other: 'c' });
    expect(engine.running().sort()).toEqual([digest('a'), digest('c')]);
  });
});

describe('a record that cannot be written', () => {
  const unrecorded = { app: 'greeting', code: 'APP_UNRECORDED' };

  test('undoes no switch, is said once, and is written when it can be', async () => {
    const { step, publish2, engine, upstream, kept, messages, codes, whenever, supervisor } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' });
    kept.isFull = true;
    whenever(() => expect(engine.listens(upstream())).toBe(true));
    for (let i = 0; i < 3; i++) await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
    expect(engine.listens(upstream())).toBe(true);
    expect(codes()).toEqual(['APP_UNRECORDED']);
    expect(messages.find(({ code }) => code !== undefined)).toMatchObject(unrecorded);
    expect(messages.map(({ msg }) => msg)).toContain('app deployed');
    expect(kept.records.get('greeting')).toEqual({ serving: digest('a') });
    kept.isFull = false;
    await supervisor.keep(new DstackError('CHAIN_UNREACHABLE', 'no endpoint'));
    expect(kept.records.get('greeting')).toEqual({ serving: digest('b'), previous: digest('a') });
    // The next time is said again.
    publish2('greeting', 'c');
    kept.isFull = true;
    await step({ greeting: 'c' });
    expect(codes()).toEqual(['APP_UNRECORDED', 'APP_UNRECORDED']);
  });

  test('before old containers are stopped, it is a refusal of the new one: the old ones serve as before', async () => {
    const { step, publish2, engine, upstream, kept, codes, pass, supervisor } = node();
    publish2('greeting', 'a', { update: 'replace', restart: 'no' });
    publish2('greeting', 'b', { update: 'replace' });
    await step({ greeting: 'a' });
    const before = upstream();
    kept.isFull = true;
    const remove = engine.remove.bind(engine);
    const start = engine.start.bind(engine);
    engine.remove = async (id) => {
      expect(upstream()).toBe(before);
      await remove(id);
    };
    engine.start = async (id) => {
      expect(upstream()).toBe(before);
      return start(id);
    };
    await step({ greeting: 'b' });
    // Since when the old one is superseded, and the refusal.
    expect(codes()).toEqual(['APP_UNRECORDED', 'APP_UNRECORDED']);
    expect(supervisor.status().apps[0]).toMatchObject({
      state: 'behind',
      trouble: { code: 'APP_UNRECORDED', message: expect.stringContaining('ENOSPC'), attempts: 1 },
    });
    expect(engine.running()).toEqual([digest('a')]);
    expect(engine.log.filter((line) => line.startsWith('stop'))).toEqual([]);
    // If it was written in part after all, it is put right: the old one may end by itself.
    kept.records.set('greeting', { serving: parseHex(digest('a')), interrupted: ['web'] });
    kept.isFull = false;
    await step({ greeting: 'b' });
    expect(kept.records.get('greeting')).not.toHaveProperty('interrupted');
    Object.assign(engine, { remove, start });
    pass(2_000);
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
  });

  test('since when it is superseded: what the contract wants is followed all the same, for every app', async () => {
    const { step, publish2, engine, kept, codes } = node();
    publish2('greeting', 'a');
    publish2('other', 'c');
    await step({ greeting: 'a' });
    kept.isFull = true;
    // The host withholds the new one.
    await step({ greeting: 'b', other: 'c' }, undefined, {}, { greeting: START });
    expect(engine.running().sort()).toEqual([digest('a'), digest('c')]);
    expect(codes().sort()).toEqual(['APP_UNRECORDED', 'APP_UNRECORDED', 'MANIFEST_MISSING']);
    kept.isFull = false;
    await step({ greeting: 'b', other: 'c' }, undefined, {}, { greeting: START });
    expect(kept.records.get('greeting')).toEqual({ serving: digest('a'), superseded: START });
    expect(kept.records.get('other')).toEqual({ serving: digest('c') });
  });

  test('of what ended by itself, or was started again after a rollout that failed', async () => {
    const { step, publish2, engine, kept, messages, codes } = node();
    publish2('greeting', 'a', { update: 'replace', restart: 'no' });
    publish2('greeting', 'b', { update: 'replace', health: { http: '/', startSeconds: 2 } });
    await step({ greeting: 'a' });
    engine.sick.add(digest('b'));
    const create = engine.create.bind(engine);
    engine.create = async (spec) => {
      kept.isFull = true;
      return create(spec);
    };
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(messages.map(({ msg }) => msg)).toContain('the old containers were started again');
    expect(kept.records.get('greeting')).toHaveProperty('interrupted');
    kept.isFull = false;
    await step({ greeting: 'a' });
    expect(kept.records.get('greeting')).not.toHaveProperty('interrupted');

    for (const container of engine.containers.values()) container.running = false;
    kept.isFull = true;
    await step({ greeting: 'a' });
    expect(codes().slice(-2).sort()).toEqual(['APP_STOPPED', 'APP_UNRECORDED']);
    expect(messages.at(-1)!.msg).toContain('it is not started again');
    kept.isFull = false;
    await step({ greeting: 'a' });
    expect(kept.records.get('greeting')).toMatchObject({ finished: ['web'] });
  });

  test('of when the contract was read: it is followed all the same', async () => {
    const { step, publish2, engine, kept, pass, messages, codes } = node();
    publish2('greeting', 'a');
    await step({});
    kept.isFull = true;
    for (let i = 0; i < 3; i++) {
      pass(61_000);
      await step({ greeting: 'a' });
    }
    expect(engine.running()).toEqual([digest('a')]);
    expect(codes()).toEqual(['APP_UNRECORDED', 'APP_UNRECORDED']);
    expect(messages[0]).toMatchObject({ code: 'APP_UNRECORDED', msg: expect.stringContaining('ENOSPC') });
    expect(kept.at).toBe(START);
    kept.isFull = false;
    await step({ greeting: 'a' });
    expect(kept.at).toBe(START + 183);
  });

  test('of what a daemon that was started again starts', async () => {
    const { step, publish2, engine, kept, restart, messages, codes } = node();
    publish2('greeting', 'a', { update: 'replace' });
    await step({ greeting: 'a' });
    kept.records.set('greeting', { serving: parseHex(digest('a')), interrupted: ['web'] });
    for (const container of engine.containers.values()) container.running = false;
    const supervisor = await restart();
    kept.isFull = true;
    await supervisor.keep(new DstackError('CHAIN_UNREACHABLE', 'no endpoint'));
    expect(engine.running()).toEqual([digest('a')]);
    expect(codes()).toEqual(['APP_STOPPED', 'APP_UNRECORDED']);
    expect(messages.filter(({ msg }) => msg.startsWith('container not started'))).toEqual([]);
    kept.isFull = false;
    await step({ greeting: 'a' });
    expect(kept.records.get('greeting')).toEqual({ serving: digest('a') });
  });
});

describe('an app that is superseded, or whose contract cannot be read', () => {
  const HOUR = 3600_000;
  const DAY = 24 * HOUR;
  const ended = (supervisor: Supervisor) => supervisor.containers().map(({ ended }) => ended?.code);
  const away = new DstackError('CHAIN_UNREACHABLE', 'no endpoint');

  test('ends when the grace is over: keys and website at once, then its containers', async () => {
    const { step, publish2, engine, supervisor, pass, upstream, whenever, messages } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    // The host withholds the new one.
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    pass(DAY - 3_000);
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    expect(ended(supervisor)).toEqual([undefined]);
    expect(engine.listens(upstream())).toBe(true);
    pass(3_000);
    // Nobody has looked yet, and still it gets nothing any more.
    expect(ended(supervisor)).toEqual(['APP_SUPERSEDED']);
    expect(upstream()).toBe('greeting: APP_SUPERSEDED');
    let waited = false;
    whenever(() => {
      waited = true;
      expect(engine.running()).toEqual([digest('a')]);
    });
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    expect(waited).toBe(true);
    expect(engine.containers.size).toBe(0);
    expect(supervisor.containers()).toEqual([]);
    expect(messages.find(({ code }) => code === 'APP_SUPERSEDED')?.msg).toMatch(/^app ended: /);
    expect(supervisor.status().apps).toMatchObject([
      { app: 'greeting', state: 'ended', inForce: digest('b') },
    ]);
    // What the network runs is started whenever it comes; and so is the old one, without the host, if the owner goes back.
    publish2('greeting', 'b');
    pass(60_000);
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    expect(engine.running()).toEqual([digest('b')]);
    expect(ended(supervisor)).toEqual([undefined]);
  });

  test('the owner who goes back to one that ended gets it, without the host', async () => {
    const { step, publish2, unpublish, archives, engine, pass } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    pass(DAY);
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    expect(engine.running()).toEqual([]);
    unpublish('a');
    archives.clear();
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
  });

  test.each([
    ['the contract says since when', { greeting: START + 10 }, {}],
    ['a next one hides since when', {}, { greeting: 'c' }],
  ])('a daemon that is started again does not begin anew: %s', async (_, since, pending) => {
    const { step, publish2, restart, engine, pass } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    pass(10_000);
    await step({ greeting: 'b' }, undefined, pending, since);
    pass(DAY / 2);
    await restart();
    await step({ greeting: 'b' }, undefined, pending, since);
    expect(engine.running()).toEqual([digest('a')]);
    pass(DAY / 2);
    // Before the contract is read, too.
    const supervisor = await restart();
    expect(ended(supervisor)).toEqual(['APP_SUPERSEDED']);
    await step({ greeting: 'b' }, undefined, pending, since);
    expect(engine.running()).toEqual([]);
  });

  test('a first look long after the rollout counts from the rollout', async () => {
    const { step, publish2, restart, kept, engine, pass } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    pass(DAY + HOUR);
    kept.at = START + 25 * 3600;
    await restart();
    await step({ greeting: 'b' }, undefined, {}, { greeting: START + 3600 });
    expect(engine.running()).toEqual([]);
  });

  test('one rollout after the other gives no more time; going back does', async () => {
    const { step, publish2, engine, pass, now } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    const since = () => ({ greeting: START + Math.floor(now() / 1000) });
    await step({ greeting: 'b' }, undefined, {}, since());
    pass(DAY / 2);
    await step({ greeting: 'a' }, undefined, {}, since());
    await step({ greeting: 'c' }, undefined, {}, since());
    pass(DAY / 2);
    await step({ greeting: 'd' }, undefined, {}, since());
    expect(engine.running()).toEqual([digest('a')]);
    pass(DAY / 2);
    await step({ greeting: 'e' }, undefined, {}, since());
    expect(engine.running()).toEqual([]);
  });

  test('a reorg that undoes a rollout: what served serves, and its time is not counted', async () => {
    const { step, publish2, engine, pass, upstream } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' }, undefined, {}, { greeting: START });
    expect(engine.running()).toEqual([digest('b')]);
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    await step({ greeting: 'c' }, undefined, {}, { greeting: START });
    await step({ greeting: 'a' });
    pass(2 * DAY);
    await step({ greeting: 'a' });
    expect(engine.listens(upstream())).toBe(true);
  });

  test('the contract cannot be read: five minutes change nothing, a day ends it, and it comes back by itself', async () => {
    const { step, publish2, engine, pass, upstream, supervisor, unpublish, archives } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    const [before, ids] = [upstream(), [...engine.containers.keys()]];
    for (let i = 0; i < 150; i++) {
      pass(2_000);
      await supervisor.keep(away);
    }
    expect(upstream()).toBe(before);
    await step({ greeting: 'a' });
    expect([...engine.containers.keys()]).toEqual(ids);
    pass(DAY);
    expect(ended(supervisor)).toEqual(['APP_CHAIN_STALE']);
    expect(upstream()).toBe('greeting: APP_CHAIN_STALE');
    await supervisor.keep(away);
    expect(engine.containers.size).toBe(0);
    expect(supervisor.status()).toMatchObject({
      problem: { code: 'CHAIN_UNREACHABLE' },
      apps: [{ state: 'ended' }],
    });
    unpublish('a');
    archives.clear();
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(engine.listens(upstream())).toBe(true);
  });

  test('a daemon that is started again remembers when the contract was read', async () => {
    const { step, publish2, restart, engine, pass } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    pass(DAY + 1_000);
    // Blocks are shown to the node all the time; only the contract's state is withheld.
    const supervisor = await restart();
    expect(ended(supervisor)).toEqual(['APP_CHAIN_STALE']);
    await supervisor.keep(away);
    expect(engine.containers.size).toBe(0);
  });

  test('what the engine does not remove now is removed later, and serves nobody meanwhile', async () => {
    const { step, publish2, engine, pass, supervisor } = node();
    publish2('greeting', 'a');
    await step({ greeting: 'a' });
    pass(DAY);
    engine.failing = 'remove';
    await supervisor.keep(away);
    expect(supervisor.containers()).toEqual([]);
    expect(engine.running()).toEqual([]);
    engine.failing = '';
    await supervisor.keep(away);
    expect(engine.containers.size).toBe(0);
  });
});

describe('what a container does when it ends', () => {
  const stop = (engine: MemoryEngine, code: number) => {
    for (const container of engine.containers.values()) {
      container.running = false;
      engine.exits.set(container.spec.image, code);
    }
  };

  test.each([
    ['always', 0, true],
    ['always', 1, true],
    ['on-failure', 0, false],
    ['on-failure', 1, true],
    ['no', 0, false],
    ['no', 1, false],
  ] as const)('restart %s, exit code %i: started again %j', async (restart, code, again) => {
    const { step, publish2, engine, restart: killed } = node();
    publish2('greeting', 'a', { restart });
    await step({ greeting: 'a' });
    stop(engine, code);
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual(again ? [digest('a')] : []);
    await killed();
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual(again ? [digest('a')] : []);
  });

  test('one that keeps ending is started again after growing pauses, each container by itself', async () => {
    const { step, publish2, engine, pass } = node();
    publish2('one', 'a');
    await step({ one: 'a' });
    let starts = 0;
    for (let second = 0; second < 120; second++) {
      if (engine.running().length > 0) starts += 1;
      stop(engine, 1);
      pass(1_000);
      await step({ one: 'a' });
    }
    // 2, 4, 8, 16, 32, 60 s.
    expect(starts).toBeLessThan(10);
    expect(starts).toBeGreaterThan(4);
    // After it has run well for long, at once.
    pass(60_000);
    await step({ one: 'a' });
    pass(601_000);
    await step({ one: 'a' });
    stop(engine, 1);
    await step({ one: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
  });

  test('one that has done its work is up; one that failed at it is not', async () => {
    const { step, publish2, engine, codes, upstream } = node();
    publish2('job', 'a', { restart: 'on-failure', http: undefined as never });
    engine.broken.add(digest('a'));
    engine.exits.set(digest('a'), 0);
    await step({ job: 'a' });
    expect(codes()).toEqual([]);
    expect(upstream()).toBe('job is not the website');
    publish2('job', 'b', { restart: 'on-failure', http: undefined as never });
    engine.broken.add(digest('b'));
    await step({ job: 'b' });
    expect(codes()).toEqual(['APP_NOT_UP']);
  });

  test('one that ends during its health check did not come up, and its public log is shown', async () => {
    const { step, publish2, engine, messages } = node();
    publish2('job', 'a', { health: { exec: ['/check'] }, logs: 'public', http: undefined as never });
    engine.fleeting.add(digest('a'));
    await step({ job: 'a' });
    expect(messages.find(({ code }) => code === 'APP_NOT_UP')).toHaveProperty('logs.web');
  });

  test('what was to be stopped for a new version, and was not, may end by itself, also for a daemon that starts again', async () => {
    const { step, publish2, engine, restart, kept } = node();
    publish2('greeting', 'a', { update: 'replace', restart: 'no' });
    publish2('greeting', 'b', { update: 'replace' });
    await step({ greeting: 'a' });
    engine.stop = () => Promise.reject(new DstackError('ENGINE_UNREACHABLE', 'podman is away'));
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(kept.records.get('greeting')).not.toHaveProperty('interrupted');
    await restart();
    stop(engine, 0);
    await step({ greeting: 'a' });
    expect(engine.running()).toEqual([]);
  });

  test('what was stopped for a new version is started again, whatever its policy', async () => {
    const { step, publish2, engine, restart } = node();
    publish2('greeting', 'a', { update: 'replace', restart: 'no' });
    publish2('greeting', 'b', { update: 'replace', health: { http: '/', startSeconds: 2 } });
    await step({ greeting: 'a' });
    engine.sick.add(digest('b'));
    await step({ greeting: 'b' });
    expect(engine.running()).toEqual([digest('a')]);
    // The same when the daemon is killed while the old one is down.
    const create = engine.create.bind(engine);
    engine.create = () => new Promise<never>(() => {});
    void step({ greeting: 'a' });
    await new Promise((resolve) => setImmediate(resolve));
    publish2('greeting', 'c', { update: 'replace' });
    void step({ greeting: 'c' });
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(engine.running()).toEqual([]);
    engine.create = create;
    const supervisor = await restart();
    await supervisor.keep(new DstackError('CHAIN_UNREACHABLE', 'no endpoint'));
    expect(engine.running()).toEqual([digest('a')]);
  });
});

describe('status', () => {
  test('says what is in force, what serves, and what went wrong; of private logs nothing', async () => {
    const { step, publish2, engine, supervisor, pass } = node();
    publish2('greeting', 'a');
    publish2('greeting', 'b', { health: { http: '/', startSeconds: 7 }, logs: 'public' });
    publish2('greeting', 'c', { health: { http: '/', startSeconds: 7 } });
    await step({ greeting: 'a' }, undefined, { later: 'f' });
    expect(supervisor.status()).toMatchObject({
      now: START,
      readAt: START,
      apps: [
        { app: 'greeting', state: 'serving', inForce: digest('a'), serving: digest('a') },
        { app: 'later', state: 'waiting', pending: digest('f'), trouble: { code: 'MANIFEST_MISSING' } },
      ],
      rollouts: [{ app: 'greeting', manifest: digest('a'), at: START, outcome: 'deployed' }],
    });
    for (const [bad, logs] of [
      ['b', { web: [`last 20 of dstack_greeting_web_${'b'.repeat(16)}`] }],
      ['c', {}],
    ] as const) {
      engine.sick.add(digest(bad));
      await step({ greeting: bad }, undefined, {}, { greeting: START });
      const status = supervisor.status();
      expect(check(AppsStatusSchema, status, 'X', 'the status')).toEqual(status);
      expect(status.apps[0]).toEqual({
        app: 'greeting',
        state: 'behind',
        inForce: digest(bad),
        serving: digest('a'),
        supersededSince: START,
        endsAt: START + GRACE,
        trouble: {
          code: 'APP_UNHEALTHY',
          message: 'container web answers / with status 500: no database',
          manifest: digest(bad),
          attempts: 1,
          nextTry: 2,
          logs,
        },
      });
      expect(status.rollouts.at(-1)).toMatchObject({
        manifest: digest(bad),
        outcome: 'refused',
        code: 'APP_UNHEALTHY',
      });
    }
    pass(2_000);
    await step({ greeting: 'c' }, undefined, {}, { greeting: START });
    expect(supervisor.status().apps[0]).toMatchObject({ trouble: { attempts: 2, nextTry: 4 } });
    await supervisor.keep(new Error('unforeseen: /run/dstack/secret'));
    expect(supervisor.status().problem).toEqual({
      code: 'INTERNAL',
      message: "internal error; see the node's log",
    });
    expect(supervisor.status().rollouts).toHaveLength(3);
  });

  test("a flood of apps' own text stays within its bounds", async () => {
    const { step, publish2, engine, supervisor } = node();
    engine.logs = async () => Array.from({ length: 20 }, () => '\u0000'.repeat(300));
    const apps = Array.from({ length: 70 }, (_, n) => [`app-${n}`, 'abcdef0123456789'[n % 16]!] as const);
    const desired = Object.fromEntries(apps);
    for (const [app, hash] of apps)
      publish2(app, hash, { logs: 'public', memoryMiB: 8, http: undefined as never });
    for (const digit of 'abcdef0123456789') engine.broken.add(digest(digit));
    await step(desired);
    const status = supervisor.status();
    expect(check(AppsStatusSchema, status, 'X', 'the status')).toEqual(status);
    expect(status.apps).toHaveLength(64);
    expect(status.more).toBe(6);
    expect(status.rollouts.length).toBeLessThanOrEqual(64);
    expect(Buffer.byteLength(JSON.stringify(status))).toBeLessThan(APPS_STATUS_MAX_BYTES / 2);
  });
});

describe('websites of apps', () => {
  test('each domain leads to its app, at its port; the network has its website besides', async () => {
    const { step, publish, publish2, supervisor } = node();
    publish('greeting', 'a');
    const http = [
      { domain: 'shop.example', port: 81, protocol: 'http1' as const },
      { domain: 'rpc.example', port: 82, protocol: 'h2c' as const },
    ];
    publish2('shop', 'b', { http, api: ['key'] });
    await step({ greeting: 'a', shop: 'b' });
    const { website, sites } = supervisor.upstream();
    expect(website.upstream).toMatchObject({ app: 'greeting', port: 80 });
    expect(sites).toMatchObject([
      { domain: 'shop.example', upstream: { app: 'shop', port: 81, protocol: 'http1' } },
      { domain: 'rpc.example', upstream: { app: 'shop', port: 82, protocol: 'h2c' } },
    ]);
    expect(supervisor.containers().map(({ app, api }) => [app, api])).toEqual([
      ['greeting', ['info', 'key', 'attest']],
      ['shop', ['key']],
    ]);
  });

  test("an app that wants another's domain is refused by code, and the other serves on", async () => {
    const { step, publishSites, publish2, sites, codes, pass, engine } = node();
    publishSites('one', 'a', 'shop.example');
    publishSites('two', 'b', 'two.example', 'shop.example');
    await step({ one: 'a', two: 'b' });
    expect(codes()).toEqual(['APP_DOMAIN_TAKEN']);
    expect(sites()).toEqual({ 'shop.example': 'one', 'two.example': 'two: APP_DOMAIN_TAKEN' });
    expect(engine.running()).toEqual([digest('a')]);
    // Once the first names it no more, it is the second's.
    publish2('one', 'c');
    pass(60_000);
    await step({ one: 'c', two: 'b' });
    await step({ one: 'c', two: 'b' });
    expect(sites()).toEqual({ 'two.example': 'two', 'shop.example': 'two' });
  });

  test('an app before it in the contract takes a domain on every node alike; what runs runs on, and it is in the log', async () => {
    const { step, publish, publishSites, sites, codes, engine, restart } = node();
    publish('one', 'a');
    publishSites('two', 'b', 'shop.example');
    await step({ one: 'a', two: 'b' });
    expect(sites()).toEqual({ 'shop.example': 'two' });
    publishSites('one', 'c', 'shop.example');
    for (let i = 0; i < 3; i++) await step({ one: 'c', two: 'b' });
    expect(sites()).toEqual({ 'shop.example': 'one' });
    expect(codes()).toEqual(['APP_DOMAIN_TAKEN']);
    expect(engine.running().sort()).toEqual([digest('b'), digest('c')]);
    // The daemon's successor does not know the contract's order until it has read it.
    const next = await restart();
    expect(next.upstream().sites).toEqual([
      { domain: 'shop.example', reason: 'the contract has not been read yet' },
    ]);
    await next.step(wanted({ one: 'c', two: 'b' }), async () => wanted({ one: 'c', two: 'b' }));
    expect(next.upstream().sites).toMatchObject([{ domain: 'shop.example', upstream: { app: 'one' } }]);
  });

  test("a host that holds back one app's manifest gives its domain to no other app", async () => {
    const { step, publishSites, sites, pass, malformed } = node();
    publishSites('two', 'b', 'shop.example');
    await step({ one: 'a', two: 'b' });
    expect(sites()).toEqual({
      'shop.example': 'two waits for the manifest of one, which may name shop.example too',
    });
    publishSites('one', 'a', 'other.example');
    pass(2_000);
    await step({ one: 'a', two: 'b' });
    expect(sites()).toEqual({ 'other.example': 'one', 'shop.example': 'two' });
    // One that is here and is no manifest names nothing: all nodes will find the same.
    malformed.add(digest('d'));
    await step({ zero: 'd', one: 'a', two: 'b' });
    expect(sites()).toEqual({ 'other.example': 'one', 'shop.example': 'two' });
  });

  test("one app's trouble touches no other's site, nor does its absence", async () => {
    const { step, publish, publishSites, sites, archives, upstream, engine } = node();
    publish('greeting', 'a');
    publishSites('one', 'b', 'one.example');
    publishSites('two', 'c', 'two.example');
    archives.delete(digest('b'));
    await step({ greeting: 'a', one: 'b', two: 'c' });
    expect(sites()).toEqual({ 'one.example': 'one: ARCHIVE_MISSING', 'two.example': 'two' });
    expect(engine.listens(upstream())).toBe(true);
    await step({ greeting: 'a', two: 'c' });
    expect(sites()).toEqual({ 'two.example': 'two' });
  });

  test("the network's own name is no app's, and no more domains are given than there is room for", async () => {
    const { step, publishSites, publish2, sites, codes } = node();
    publishSites('one', 'a', 'network.example');
    for (const [index, app] of ['b', 'c', 'd', 'e'].entries()) {
      const domains = Array.from({ length: 8 }, (_, n) => `s${index}-${n}.example`);
      publishSites(app, app, ...domains);
    }
    publish2('last', 'f');
    await step({ one: 'a', b: 'b', c: 'c', d: 'd', e: 'e', last: 'f' });
    expect(codes()).toEqual(['APP_DOMAIN_NETWORK', 'APP_DOMAINS_FULL']);
    expect(Object.keys(sites())).toHaveLength(31);
    expect(sites()).not.toHaveProperty('network.example');
    expect(sites()['s2-7.example']).toBe('d');
  });
});

test('what an image may write to has a limit: its tmpfs and its volumes', async () => {
  const { step, publish2, writable } = node();
  publish2('one', 'a', { update: 'replace', tmpfs: { '/cache': 1 }, volumes: { '/var/lib/db': 8 } });
  await step({ one: 'a' });
  expect(writable.get(digest('a'))).toEqual(expect.arrayContaining(['/cache', '/var/lib/db']));
});

describe('secrets', () => {
  const folders = (engine: MemoryEngine) =>
    [...engine.containers.values()].map(({ spec }) => spec.secrets?.folder);

  test('a new version waits for its secrets, whoever holds them back; the old one serves on', async () => {
    const { step, publish2, publishSecret, engine, envelopes, codes, pass } = node();
    publish2('shop', 'a');
    await step({ shop: 'a' });
    expect(folders(engine)).toEqual([undefined]);
    publishSecret('shop', 'b', 'e');
    await step({ shop: 'b' });
    expect(codes()).toEqual(['SECRET_MISSING']);
    expect(engine.running()).toEqual([digest('a')]);
    envelopes.add(digest('e'));
    pass(60_000);
    await step({ shop: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
    expect(folders(engine)).toEqual([`${digest('b')}/web`]);
  });

  test('stay for as long as their manifest is needed: going back, and a daemon that is started again, ask nobody', async () => {
    const all = node();
    const { step, publishSecret, engine, envelopes, opened } = all;
    publishSecret('shop', 'a', 'e');
    publishSecret('shop', 'b', 'f');
    publishSecret('shop', 'c', '0');
    for (const letter of ['e', 'f', '0']) envelopes.add(digest(letter));
    await step({ shop: 'a' });
    await step({ shop: 'b' });
    envelopes.clear();
    await all.restart();
    expect([...opened]).toEqual([digest('a'), digest('b')]);
    await step({ shop: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    envelopes.add(digest('0'));
    await step({ shop: 'c' });
    expect([...opened].sort()).toEqual([digest('a'), digest('c')]);
    await step({});
    expect([...opened]).toEqual([]);
  });

  test('whenever they are ready, the app is deployed at once: no look at it is lost', async () => {
    for (let turns = 0; turns < 24; turns += 1) {
      const { step, publish2, engine, slow } = node();
      publish2('shop', 'a');
      slow.turns = turns;
      await step({ shop: 'a' });
      expect(engine.running(), `${turns} turns`).toEqual([digest('a')]);
    }
  });

  test('are opened while their manifest is in its delay', async () => {
    const { step, publishSecret, engine, envelopes, opened } = node();
    publishSecret('shop', 'a', 'e');
    envelopes.add(digest('e'));
    await step({}, () => ({}), { shop: 'a' });
    expect([...opened]).toEqual([digest('a')]);
    expect(engine.running()).toEqual([]);
  });
});

test('many apps start side by side: they share readings of the contract, and looks at the images', async () => {
  const { step, engine, publish } = node();
  const hashes = Array.from({ length: 100 }, (_, n) => n.toString(16).padStart(2, '0'));
  const desired = Object.fromEntries(hashes.map((hash) => [`app-${hash}`, hash]));
  for (const [app, hash] of Object.entries(desired)) publish(app, hash);
  let reads = 0;
  await step(desired, () => {
    reads += 1;
    return desired;
  });
  expect(engine.running()).toHaveLength(100);
  expect([reads, engine.prunes].map((count) => count <= 10)).toEqual([true, true]);
  expect(engine.images.size).toBe(100);
});
