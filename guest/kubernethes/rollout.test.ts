/** From one version of an app to the next, and what becomes of its containers. */
import { describe, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { digest, type MemoryEngine, node, wanted } from './supervisor.fixture.ts';

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
