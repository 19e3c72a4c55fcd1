/** The end of what the network does not run any more, or of what nobody can say it runs. */
import { describe, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { digest, node, START } from './supervisor.fixture.ts';
import type { Supervisor } from './supervisor.ts';

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
