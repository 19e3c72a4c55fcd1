import type { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import type { Manifest } from '../../lib/protocol/manifest.ts';
import type { Fetcher } from './deployment.ts';
import type { ContainerSpec, Engine, Running } from './engine.ts';
import { Supervisor } from './supervisor.ts';

/** An engine in memory: the same guarantees as podman, with containers that can be made to fail. */
class MemoryEngine implements Engine {
  readonly images = new Set<string>();
  readonly networks = new Map<string, number>();
  readonly containers = new Map<string, { spec: ContainerSpec; running: boolean; address: string }>();
  readonly log: string[] = [];
  /** Images whose containers exit at once, and those that run but do not listen. */
  readonly broken = new Set<string>();
  readonly deaf = new Set<string>();
  failing = '';
  #next = 1;

  async clear() {
    this.containers.clear();
    this.networks.clear();
  }
  async hasImage(digest: string) {
    return this.images.has(digest);
  }
  async loadImage(_archive: Readable) {}
  async pruneImages(keep: ReadonlySet<string>) {
    for (const image of this.images) if (!keep.has(image)) this.images.delete(image);
  }
  async ensureNetwork(app: string) {
    const index = this.networks.get(app) ?? this.#next++;
    this.networks.set(app, index);
    return { name: `dstack-${app}`, gateway: `10.90.${index}.1` };
  }
  async removeNetwork(app: string) {
    this.networks.delete(app);
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
    container.running = !this.broken.has(container.spec.image);
    container.address = `10.90.${this.networks.get(container.spec.app)}.${(this.#next++ % 250) + 2}`;
    return { id, address: container.address };
  }
  async stop(id: string) {
    this.log.push(`stop ${this.#get(id).spec.name}`);
    this.#get(id).running = false;
  }
  async remove(id: string) {
    this.#mayFail('remove');
    this.containers.delete(id);
  }
  async isRunning(id: string) {
    return this.containers.get(id)?.running ?? false;
  }
  running(): string[] {
    return [...this.containers.values()].filter(({ running }) => running).map(({ spec }) => spec.image);
  }
  listens(address: string): boolean {
    const found = [...this.containers.values()].find((container) => container.address === address);
    return found?.running === true && !this.deaf.has(found.spec.image);
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

const digest = (letter: string): string => letter.repeat(64);

const wanted = (desired: Record<string, string>) =>
  new Map(Object.entries(desired).map(([app, hash]) => [app, parseHex(digest(hash))]));

/** A node whose host volume is two maps. Manifest hashes and image digests are one letter repeated. */
function node() {
  const engine = new MemoryEngine();
  const manifests = new Map<string, Manifest>();
  const archives = new Set<string>();
  const messages: { code?: string; msg: string }[] = [];
  let time = 0;
  let disk: string | undefined = '/mnt/encrypted_data/apps';
  let diskCode = '';
  const fetcher: Fetcher = {
    async manifest(_app, hash) {
      const manifest = manifests.get(hash);
      if (manifest === undefined) throw new DstackError('MANIFEST_MISSING', 'no manifest');
      return manifest;
    },
    async image(image) {
      if (engine.images.has(image)) return;
      if (!archives.has(image)) throw new DstackError('ARCHIVE_MISSING', 'no archive');
      engine.images.add(image);
    },
  };
  const record = (fields: object, msg: string) => messages.push({ ...fields, msg });
  const supervisor = new Supervisor({
    engine,
    fetcher,
    dataFolder: async (app) => {
      if (diskCode !== '') throw new DstackError(diskCode, 'disk');
      return disk === undefined ? undefined : `${disk}/${app}`;
    },
    accepts: async (address) => engine.listens(address),
    log: { info: record, warn: record },
    now: () => time,
    pause: async (ms) => {
      time += ms;
    },
  });
  return {
    engine,
    supervisor,
    archives,
    messages,
    /** Puts a manifest with one container of image `image` on the host volume, and the archive. */
    publish(
      app: string,
      hash: string,
      image = hash,
      extra: Partial<Manifest['containers'][number]> = { http: { port: 80 } },
    ) {
      const containers = [{ name: 'web', image: `sha256:${digest(image)}`, ...extra }];
      manifests.set(digest(hash), { version: 1, app, containers });
      archives.add(digest(image));
    },
    unpublish: (hash: string) => manifests.delete(digest(hash)),
    /** @param readAgain what the contract says once the files have been fetched */
    step: (
      desired: Record<string, string>,
      readAgain: () => Record<string, string> | Promise<never> = () => desired,
    ) => supervisor.step(wanted(desired), async () => wanted(await readAgain())),
    pass(ms: number) {
      time += ms;
    },
    setDisk(state: string | undefined, code = '') {
      disk = state;
      diskCode = code;
    },
    codes: () => messages.flatMap(({ code }) => code ?? []),
    upstream(): string {
      try {
        return supervisor.upstream().host;
      } catch (error) {
        return `${codeOf(error)}: ${(error as Error).message}`;
      }
    },
  };
}

describe('supervisor', () => {
  test('starts what the contract names, and says where it listens', async () => {
    const { step, publish, supervisor, engine, upstream } = node();
    expect(upstream()).toBe('NOT_READY: the contract has not been read yet');
    supervisor.hold('too small');
    expect(upstream()).toBe('NOT_READY: too small');
    await step({});
    expect(upstream()).toBe('NOT_READY: the contract names no app');
    publish('greeting', 'a');
    await step({ greeting: 'a' });
    const [only] = supervisor.containers();
    expect(supervisor.upstream()).toEqual({ app: 'greeting', host: only!.address, port: 80 });
    expect(only).toEqual({
      app: 'greeting',
      manifestHash: digest('a'),
      address: only!.address,
      gateway: '10.90.1.1',
    });
    expect([...engine.containers.values()][0]!.spec).toMatchObject({
      app: 'greeting',
      image: digest('a'),
      data: '/mnt/encrypted_data/apps/greeting',
    });
  });

  test('replaces: old down before new up, old gone, old image gone, never two at once', async () => {
    const { step, publish, engine } = node();
    publish('greeting', 'a');
    publish('greeting', 'b');
    await step({ greeting: 'a' });
    await step({ greeting: 'b' });
    const name = (hash: string) => `dstack_greeting_web_${hash.repeat(16)}`;
    expect(engine.log).toEqual([`create ${name('a')}`, `stop ${name('a')}`, `create ${name('b')}`]);
    expect(engine.running()).toEqual([digest('b')]);
    expect([...engine.images]).toEqual([digest('b')]);
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
      await supervisor.keep();
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
      // It has a new address after the restart, and the agent must know it.
      expect(engine.listens(upstream())).toBe(true);
      expect(supervisor.containers().map(({ address }) => address)).toEqual([upstream()]);
    },
  );

  test('an app without a port must only stay up', async () => {
    const { step, publish, engine, upstream, codes } = node();
    publish('worker', 'a', 'a', {});
    engine.deaf.add(digest('a'));
    await step({ worker: 'a' });
    expect(engine.running()).toEqual([digest('a')]);
    expect(upstream()).toBe('NOT_READY: worker has no http port');
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
    expect(upstream()).toBe('NOT_READY: greeting: DISK_NOT_READY');
    setDisk(undefined);
    pass(2000);
    await step({ greeting: 'a' });
    expect([...engine.containers.values()][0]!.spec.data).toBeUndefined();
  });

  test("one app's trouble does not stop another", async () => {
    const { step, publish, engine, upstream, supervisor } = node();
    publish('good', 'b');
    await step({ bad: 'a', good: 'b' });
    expect(engine.running()).toEqual([digest('b')]);
    expect(supervisor.upstream().app).toBe('good');
    expect(engine.listens(upstream())).toBe(true);
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
        hash: fc.constantFrom('create', 'start', 'remove', ''),
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
