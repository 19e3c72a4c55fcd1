/** What `network watch` says: each event once, what was taken back, what comes into force, and nothing that a terminal would obey. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sha256, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import {
  encodeAllowMeasurement,
  encodeRevokeMeasurement,
  encodeRollout,
  type NetworkEvent,
} from '../../lib/protocol/network-contract.ts';
import { dstack, startDstack } from '../../test/support/cli.ts';
import { eventually, startTestNetwork, type TestNetwork } from '../../test/support/network.ts';
import { type Block, Follower, pause, type SeenEvent, type Source } from './follow.ts';
import { PendingEvents } from './pending.ts';
import { lineOf, objectOf } from './words.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const word = (text: string) => parseHex(to0x(sha256(utf8(text))));
const blockOf = (number: number, branch = 'a'): Block => ({
  ...{ number, hash: word(`${branch} ${number}`), timestamp: 1_800_000_000 + 12 * number },
});
const measurement = word('an image');
const allowed: NetworkEvent = { name: 'MeasurementAllowed', measurement, from: 1_800_000_600n };
const revoked: NetworkEvent = { name: 'MeasurementRevoked', measurement };
const seen = (block: number, event: NetworkEvent = allowed, branch = 'a'): SeenEvent => ({
  ...{ block, blockHash: word(`${branch} ${block}`), index: 0, transaction: word('t'), event },
});

/** A chain that a test changes between looks. */
class TestSource implements Source {
  blocks = 0;
  branch = 'a';
  events_: SeenEvent[] = [];
  /** More blocks at once are refused. */
  most = Number.POSITIVE_INFINITY;
  async head(): Promise<Block> {
    return blockOf(this.blocks, this.branch);
  }
  async events(from: number, to: number): Promise<SeenEvent[]> {
    if (to - from >= this.most) throw new Error('too many blocks');
    return this.events_.filter(({ block }) => block >= from && block <= to);
  }
}

describe('an event', () => {
  test('is told once, in order, from the first block that was asked for', async () => {
    const source = new TestSource();
    source.blocks = 5_000;
    source.most = 100;
    source.events_ = [seen(9), seen(10), seen(4_000)];
    const follower = new Follower(source, 10);
    expect((await follower.look()).news.map(({ block }) => block)).toEqual([10, 4_000]);
    source.blocks += 1;
    source.events_.push(seen(5_001));
    expect((await follower.look()).news.map(({ block }) => block)).toEqual([5_001]);
    expect(await follower.look()).toMatchObject({ news: [], gone: [] });
  });

  test('that an endpoint shows later than its block is not lost', async () => {
    const source = new TestSource();
    const follower = new Follower(source, 0);
    source.blocks = 100;
    expect((await follower.look()).news).toEqual([]);
    source.events_ = [seen(98)];
    source.blocks = 101;
    expect((await follower.look()).news).toEqual([seen(98)]);
  });

  test('that a re-organisation took back is gone, and is news where it is now', async () => {
    const source = new TestSource();
    source.blocks = 100;
    source.events_ = [seen(70), seen(99)];
    const follower = new Follower(source, 0);
    await follower.look();
    [source.branch, source.blocks] = ['b', 98];
    // What is above the chain's end may come back.
    expect(await follower.look()).toMatchObject({ news: [], gone: [] });
    [source.blocks, source.events_] = [101, [seen(70), seen(100, allowed, 'b')]];
    expect(await follower.look()).toMatchObject({ news: [seen(100, allowed, 'b')], gone: [seen(99)] });
  });

  test('of blocks that could not be read is told at the next look', async () => {
    const source = new TestSource();
    [source.blocks, source.events_, source.most] = [10, [seen(5)], 0];
    const follower = new Follower(source, 0);
    await expect(follower.look()).rejects.toThrow('too many blocks');
    source.most = 100;
    expect((await follower.look()).news).toEqual([seen(5)]);
  });
});

test('what is pending comes into force once, unless it was revoked or taken back before', () => {
  const pending = new PendingEvents();
  pending.take(seen(1), 1_800_000_000);
  expect(pending.due(1_800_000_599)).toEqual([]);
  expect(pending.due(1_800_000_600)).toEqual([seen(1)]);
  expect(pending.due(1_800_000_600)).toEqual([]);
  pending.take(seen(1), 1_800_000_000);
  pending.take(seen(2, revoked), 1_800_000_000);
  expect(pending.due(1_900_000_000)).toEqual([]);
  const back = seen(1);
  pending.take(back, 1_800_000_000);
  pending.drop(back);
  expect(pending.due(1_900_000_000)).toEqual([]);
});

test('the chain is asked by its own pace', () => {
  const now = 1_000 * blockOf(10).timestamp + 500;
  expect(pause(undefined, blockOf(10), now)).toBe(1_000);
  expect(pause(blockOf(9), blockOf(10), now)).toBe(11_500);
  expect(pause(blockOf(9), blockOf(10), now + 60_000)).toBe(1_000);
  const slow = { ...blockOf(10), timestamp: blockOf(9).timestamp + 3_600 };
  expect(pause(blockOf(9), slow, 1_000 * slow.timestamp)).toBe(15_000);
});

describe('in words', () => {
  test('a delay is said with its time and how long it is', () => {
    expect(lineOf('event', seen(1), 1_800_000_000)).toBe(
      `block 1  2027-01-15T08:00:00.000Z  measurement ${measurement} is allowed, from 2027-01-15T08:10:00.000Z on, in 10m`,
    );
    expect(lineOf('in-force', seen(1), 1_800_000_600)).toContain('IN FORCE: measurement');
    expect(lineOf('gone', seen(1), undefined)).toContain('GONE by a re-organisation');
  });

  test('an id that is no name is shown as it is, and numbers without loss', () => {
    const id = parseHex(to0x(new Uint8Array(32).fill(0x1b)));
    const event: NetworkEvent = {
      name: 'RolledOut',
      app: id,
      manifestHash: measurement,
      from: 2n ** 64n - 1n,
    };
    expect(lineOf('event', seen(1, event), 0)).toMatch(/app of id 0x1b1b.* in \d+/);
    expect(objectOf('event', seen(1, event), 0)).toMatchObject({
      fields: { appName: null, app: id, from: '18446744073709551615' },
    });
    const statuses: NetworkEvent = { name: 'AcceptedTcbStatusesSet', statuses: 0xffff, from: 0n };
    expect(lineOf('event', seen(1, statuses), 0)).toContain('(mask 65535)');
  });
});

describe('a network on a chain', () => {
  let network: TestNetwork;
  beforeAll(async () => {
    network = await startTestNetwork({ delay: 0 });
  });
  afterAll(() => network?.stop());
  const watching = (...args: string[]) => [
    ...[
      'network',
      'watch',
      '--rpc',
      network.anvil.url,
      '--chain-id',
      '31337',
      '--contract',
      network.contract,
    ],
    ...args,
  ];

  test('is watched until Ctrl-C, and read from a block on', async () => {
    const watch = startDstack(watching('--json'));
    await eventually(async () => watch.text().includes('watching '), 'the watch to begin');
    const manifestHash = parseHex(`0x${'5a'.repeat(32)}`);
    await network.send(encodeAllowMeasurement({ measurement }));
    await network.send(encodeRevokeMeasurement({ measurement }));
    await network.send(encodeRollout({ app: to0x(appId('greeting')), manifestHash: `0x${'5a'.repeat(32)}` }));
    await eventually(async () => watch.text().includes('RolledOut'), 'the rollout to be told');
    watch.child.kill('SIGINT');
    const { code, stdout } = await watch.ended;
    const objects = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(objects.map(({ kind, event }) => `${kind} ${event}`)).toEqual([
      'event MeasurementAllowed',
      'event MeasurementRevoked',
      'event RolledOut',
    ]);
    expect(objects[2].fields).toMatchObject({ appName: 'greeting', manifestHash });
    expect(code).toBe(0);

    const head = await network.rpc.getBlockNumber();
    const all = await dstack(watching('--from-block', '0', '--to-block', `${head}`));
    expect(all.code).toBe(0);
    expect(all.stdout.split('\n')[0]).toMatch(/^block 1 {2}20.*is the owner; it was 0x0000/);
    expect(all.stdout).toContain(`measurement ${measurement} is REVOKED`);
    expect(all.stdout).toContain(`app greeting runs manifest ${manifestHash}`);
  });

  test('that is none, and a block that is none, are refused', async () => {
    const none = await dstack([...watching().slice(0, -1), parseAddress(`0x${'11'.repeat(20)}`)]);
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('NETWORK_MISSING')]);
    const mistyped = await dstack(watching('--from-block', 'latest'));
    expect([mistyped.code, mistyped.stderr]).toEqual([2, expect.stringContaining('USAGE')]);
  });
});
