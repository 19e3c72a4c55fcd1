import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { APPS_STATUS_MAX_BYTES, AppsStatusSchema } from '../../lib/protocol/app-status.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import { digest, GRACE, type MemoryEngine, node, START, wanted } from './supervisor.fixture.ts';

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
