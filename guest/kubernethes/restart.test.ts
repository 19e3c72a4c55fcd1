/** What a daemon that is started again takes over, and what becomes of it when that cannot be written down. */
import { describe, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { digest, GRACE, type MemoryEngine, node, START, wanted } from './supervisor.fixture.ts';

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
