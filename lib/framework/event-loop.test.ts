import { Type } from 'typebox';
import { afterEach, expect, test } from 'vitest';
import { DstackError, Retryable } from '../protocol/errors.ts';
import { parseHex } from '../protocol/hex.ts';
import { EventLoop, type EventLoopOptions } from './event-loop.ts';
import type { LogSource } from './event-reader.ts';
import {
  type ContractLog,
  type EventHandler,
  NotYet,
  type TransactionRequest,
  type Verdict,
} from './handler.ts';
import { openStore, type Store } from './store.ts';

const word = (n: number): string => `0x${n.toString(16).padStart(64, '0')}`;
const TOPIC = word(0xabc);

/** A chain whose blocks can be replaced. */
class TestChain implements LogSource {
  height = 10;
  fork = 0;
  forkedAt = Number.POSITIVE_INFINITY;
  entries: ContractLog[] = [];
  ranges: [number, number][] = [];

  add(block: number, value: number): void {
    const hash = this.hashOf(block);
    this.entries.push({
      blockNumber: block,
      blockHash: parseHex(hash),
      transactionHash: parseHex(word(value)),
      logIndex: 0,
      topics: [parseHex(TOPIC)],
      data: word(value),
    });
  }

  hashOf(block: number): string {
    return word(block * 1000 + (block >= this.forkedAt ? this.fork : 0));
  }

  /** How often the loop has begun a round. */
  rounds = 0;

  async head() {
    this.rounds += 1;
    return { number: this.height, hash: this.hashOf(this.height) };
  }
  async blockHash(block: number): Promise<string | undefined> {
    return block <= this.height ? this.hashOf(block) : undefined;
  }
  async logs(from: number, to: number, topics: readonly string[]): Promise<ContractLog[]> {
    this.ranges.push([from, to]);
    return this.entries.filter(
      ({ blockNumber, blockHash, topics: own }) =>
        blockNumber >= from &&
        blockNumber <= to &&
        blockHash === this.hashOf(blockNumber) &&
        topics.includes(own[0]!),
    );
  }
}

const loops: EventLoop[] = [];
afterEach(async () => {
  await Promise.all(loops.splice(0).map((loop) => loop.stop()));
});

interface World {
  chain: TestChain;
  store: Store;
  asked: string[];
  submitted: TransactionRequest[];
  said: string[];
  handler: EventHandler<string>;
  options: Partial<EventLoopOptions>;
  answer: (body: unknown) => Promise<unknown>;
  submit: (transaction: TransactionRequest) => Promise<void>;
}

/** By default: each event is a request whose response is one transaction. */
function newWorld(): World {
  const world: World = {
    chain: new TestChain(),
    store: openStore(':memory:'),
    asked: [],
    submitted: [],
    said: [],
    handler: {
      name: 'test',
      topic: TOPIC,
      decode: (log) => log.data,
      request: async (event): Promise<Verdict> => ({ kind: 'request', path: '/do', body: event }),
      settle: async (response) => [
        { kind: 'transaction', purpose: `pay:${response}`, to: '0x00', data: '0x' },
      ],
    },
    options: {},
    answer: async (body) => body,
    submit: async (transaction) => void world.submitted.push(transaction),
  };
  return world;
}

function run(world: World): EventLoop {
  const tell = (_fields: object, msg: string) => void world.said.push(msg);
  const loop = new EventLoop({
    store: world.store,
    source: world.chain,
    enclave: {
      request: async (_path, body) => {
        world.asked.push(String(body));
        return world.answer(body);
      },
    },
    host: { submit: (transaction) => world.submit(transaction), publish: async () => {} },
    handlers: [world.handler],
    message: Type.Object({ type: Type.Literal('note') }),
    log: { info: tell, warn: tell },
    startBlock: async () => 1,
    confirmations: 0,
    pollInterval: 5,
    ...world.options,
  });
  loops.push(loop);
  loop.start();
  return loop;
}

async function until(holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 60_000; !holds(); ) {
    if (Date.now() > deadline) throw new Error(`waited 60000 ms in vain for ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
/** Until the loop has made a whole round from now on. */
const round = ({ chain }: World): Promise<void> => {
  const wanted = chain.rounds + 2;
  return until(() => chain.rounds >= wanted);
};
/** Long enough for several polls. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

test('an event becomes a request, its response effects, once; also for a loop that starts anew', async () => {
  const world = newWorld();
  world.chain.add(3, 7);
  const loop = run(world);
  await until(() => loop.cursor() === 10 && loop.open().length === 0);
  expect(world.submitted).toEqual([{ purpose: `pay:${word(7)}`, to: '0x00', data: '0x' }]);
  await loop.stop();

  world.chain.height = 12;
  world.chain.add(12, 8);
  const again = run(world);
  await until(() => again.cursor() === 12 && again.open().length === 0);
  expect(world.asked).toEqual([word(7), word(8)]);
});

test.each([0, 2])(
  'an endpoint whose logs come later than its head loses no event, with %i confirmations',
  async (confirmations) => {
    const world = newWorld();
    world.options = { confirmations };
    world.chain.height = 100;
    for (const block of [98, 100, 103, 110]) world.chain.add(block, block);
    // It answers for blocks that it has not indexed as if nothing were in them.
    const { logs } = world.chain;
    world.chain.logs = (from, to, topics) =>
      logs.call(world.chain, from, Math.min(to, world.chain.height - 8), topics);
    const loop = run(world);
    for (; world.chain.height <= 120; world.chain.height += 1) {
      await until(() => loop.cursor() === world.chain.height - confirmations);
    }
    await until(() => world.asked.length === 4 && loop.open().length === 0);
    await settle();
    expect(world.asked).toEqual([98, 100, 103, 110].map(word));
  },
);

test('an endpoint whose logs come much later than its head loses no event in blocks that say that they have one', async () => {
  const world = newWorld();
  world.chain.height = 100;
  for (const block of [101, 110]) world.chain.add(block, block);
  const { logs } = world.chain;
  world.chain.logs = (from, to, topics) =>
    logs.call(world.chain, from, Math.min(to, world.chain.height - 40), topics);
  // One of them is not ours: it is not looked for for ever.
  Object.assign(world.chain, { isLoud: (block: number) => [101, 105, 110].includes(block) });
  const loop = run(world);
  for (; world.chain.height <= 200; world.chain.height += 1) {
    await until(() => loop.cursor() === world.chain.height);
  }
  await until(() => world.asked.length === 2 && loop.open().length === 0);
  expect(world.asked).toEqual([101, 110].map(word));
  expect(Math.min(...world.chain.ranges.slice(-20).map(([from]) => from))).toBeGreaterThan(160);
});

test.each([100, 2 ** 40])(
  'an endpoint that once shows a head %i blocks too far delays events, and no event is lost',
  async (lie) => {
    const world = newWorld();
    let now = 1_700_000_000_000;
    const parked: Verdict = { kind: 'park', key: parseHex('11'.repeat(32)), until: 160, reason: 'later' };
    const over: string[] = [];
    world.options = { now: () => now, startBlock: async (head) => head - 50 };
    world.handler.request = async (event) =>
      event === word(95) ? parked : { kind: 'request', path: '/do', body: event };
    world.handler.over = (event) => void over.push(event);
    world.chain.height = 100;
    world.chain.add(95, 95);
    const loop = run(world);
    await until(() => loop.count().parked === 1);
    world.chain.height += lie;
    await until(() => loop.cursor() === 100 + lie && loop.count().parked === 0);
    expect(over).toEqual([word(95)]);
    world.chain.height = 101;
    world.chain.add(101, 101);
    // At once, though it is before the cursor.
    await until(() => world.asked.includes(word(101)));
    now += 40_000;
    await until(() => loop.cursor() === 101);
    expect(world.said.join()).toContain('had shown more than there is');
    // What the lie had ended is looked at again.
    await until(() => loop.count().parked === 1);
    world.chain.height = 110;
    world.chain.add(109, 109);
    await until(() => world.asked.includes(word(109)) && loop.cursor() === 110);
  },
);

test('while there is much to do, the rest of the process has its turns', async () => {
  const world = newWorld();
  // Some work for each, so that all of it takes many turns on any machine.
  const work = () => {
    const end = performance.now() + 1;
    while (performance.now() < end);
  };
  world.handler.request = async (event) => {
    work();
    return { kind: 'park', key: parseHex(event.slice(2)), until: 20, reason: 'not there' };
  };
  world.handler.over = work;
  for (let n = 0; n < 300; n += 1) world.chain.add(5, n);
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 1);
  const loop = run(world);
  await until(() => loop.count().parked === 300);
  const before = turns;
  world.chain.height = 100;
  await until(() => loop.count().parked === 0);
  clearInterval(timer);
  // Without them there is at most one at the beginning and one at the end of each.
  expect(before).toBeGreaterThan(3);
  expect(turns - before).toBeGreaterThan(3);
});

test('without new blocks the chain is not read again, and the cursor never goes back', async () => {
  const world = newWorld();
  world.options = { maxRange: 4 };
  world.chain.height = 40;
  const loop = run(world);
  await until(() => loop.cursor() === 40);
  const cursors: (number | undefined)[] = [];
  const { logs } = world.chain;
  world.chain.logs = (from, to, topics) => {
    cursors.push(loop.cursor());
    return logs.call(world.chain, from, to, topics);
  };
  await settle();
  expect(cursors).toEqual([]);
  world.chain.height = 41;
  await until(() => loop.cursor() === 41);
  expect(new Set(cursors)).toEqual(new Set([40]));
});

test('only blocks that are deep enough are looked at, in bounded ranges', async () => {
  const world = newWorld();
  world.options = { confirmations: 3, maxRange: 4 };
  world.chain.add(8, 7);
  const loop = run(world);
  await until(() => loop.cursor() === 7);
  await settle();
  expect(world.chain.ranges).toEqual([
    [1, 4],
    [5, 7],
  ]);
  expect(world.asked).toEqual([]);
  world.chain.height = 11;
  await until(() => world.submitted.length === 1);
});

test('effects that were stored are carried out after a crash, without asking the enclave again', async () => {
  const world = newWorld();
  world.chain.add(3, 7);
  let reached = false;
  // The process "dies" in the middle of the effect: it never returns.
  world.submit = () => {
    reached = true;
    return new Promise(() => {});
  };
  run(world);
  await until(() => reached);
  loops.pop();

  world.submit = async (transaction) => void world.submitted.push(transaction);
  run(world);
  await until(() => world.submitted.length === 1);
  expect(world.asked).toHaveLength(1);
});

test('after a re-org the last blocks are looked at again: what moved is handled again, what stayed is not', async () => {
  const world = newWorld();
  world.chain.add(4, 1);
  world.chain.add(9, 2);
  const loop = run(world);
  await until(() => world.submitted.length === 2);

  world.chain.fork = 1;
  world.chain.forkedAt = 8;
  world.chain.height = 11;
  world.chain.add(10, 2);
  world.chain.add(11, 3);
  await until(() => loop.cursor() === 11 && world.submitted.length === 4);
  await settle();
  expect(world.asked).toEqual([word(1), word(2), word(2), word(3)]);
});

test('what may pass is tried again, a refusal is not, what nobody foresaw is a few times', async () => {
  const world = newWorld();
  let clock = 0;
  world.options = { now: () => (clock += 60_000), maxAttempts: 4 };
  world.chain.add(2, 1);
  world.chain.add(3, 2);
  world.chain.add(4, 3);
  let tries = 0;
  world.answer = async (body) => {
    if (body === word(1)) throw new DstackError('REFUSED', 'no');
    if (body === word(2)) throw new TypeError('a bug');
    tries += 1;
    if (tries < 7) throw new Retryable('BUSY', 'later');
    return body;
  };
  const loop = run(world);
  await until(() => world.submitted.length === 1 && loop.open().length === 0);
  const count = (n: number) => world.asked.filter((body) => body === word(n)).length;
  expect([count(1), count(2), count(3)]).toEqual([1, 4, 7]);
  expect(world.said).toContain('test given up: REFUSED: no');
});

test('a failing retry waits longer each time', async () => {
  const world = newWorld();
  let clock = 0;
  const at: number[] = [];
  world.options = { now: () => clock };
  world.chain.add(2, 1);
  world.answer = async () => {
    at.push(clock);
    throw new Retryable('BUSY', 'later');
  };
  run(world);
  for (; clock < 40_000; clock += 500) await round(world);
  const pauses = at.slice(1).map((time, index) => time - at[index]!);
  expect(pauses.slice(0, 4)).toEqual([1000, 2000, 4000, 8000]);
});

test('a handler may wait, is woken, and may skip', async () => {
  const world = newWorld();
  world.chain.add(2, 1);
  world.chain.add(3, 2);
  let there = false;
  world.options = { pollInterval: 60_000 };
  world.handler.request = async (event): Promise<Verdict> => {
    if (event === word(2)) return { kind: 'skip', reason: 'not ours' };
    return there ? { kind: 'request', path: '/do', body: event } : { kind: 'wait', reason: 'the message' };
  };
  const loop = run(world);
  await until(() => loop.open().length === 1 && loop.open()[0]!.reason === 'the message');
  there = true;
  loop.wake();
  await until(() => world.submitted.length === 1);
  expect(world.asked).toEqual([word(1)]);
});

test('waiting writes nothing, and asks less often the longer it takes', async () => {
  const world = newWorld();
  let clock = 0;
  let looks = 0;
  world.chain.add(2, 1);
  world.options = { now: () => clock };
  world.handler.request = async (): Promise<Verdict> => {
    looks += 1;
    return { kind: 'wait', reason: 'the message' };
  };
  let writes = 0;
  const put = world.store.batch.bind(world.store);
  world.store.batch = (operations) => {
    writes += 1;
    put(operations);
  };
  const loop = run(world);
  await until(() => loop.open()[0]?.reason === 'the message');
  const before = writes;
  for (; clock < 100_000; clock += 1000) await round(world);
  expect(writes).toBe(before);
  // Every second at first, every five in the end.
  expect(looks).toBeGreaterThan(20);
  expect(looks).toBeLessThan(60);
});

test('a refused request is put differently if the handler can', async () => {
  const world = newWorld();
  world.chain.add(2, 1);
  const versions = ['bad', 'good'];
  world.handler.request = async () => ({ kind: 'request', path: '/do', body: versions[0] });
  world.handler.refused = async () => {
    versions.shift();
    return versions.length > 0;
  };
  world.answer = async (body) => {
    if (body === 'bad') throw new DstackError('REFUSED', 'no');
    return body;
  };
  run(world);
  await until(() => world.submitted.length === 1);
  expect(world.asked).toEqual(['bad', 'good']);
});

test('with too many open jobs the cursor stands still, and nothing is lost', async () => {
  const world = newWorld();
  world.options = { maxJobs: 2, maxRange: 1 };
  for (let block = 1; block <= 6; block += 1) world.chain.add(block, block);
  let open = false;
  world.handler.request = async (event): Promise<Verdict> =>
    open ? { kind: 'request', path: '/do', body: event } : { kind: 'wait', reason: 'the gate' };
  const loop = run(world);
  await until(() => loop.open().length === 2);
  await settle();
  expect(loop.open()).toHaveLength(2);
  expect(loop.cursor()).toBe(2);
  open = true;
  loop.wake();
  await until(() => world.submitted.length === 6);
});

test('a chain that fails, and a log that is not the event, stop nothing', async () => {
  const world = newWorld();
  world.chain.add(2, 1);
  world.chain.add(3, 2);
  world.handler.decode = (log) => {
    if (log.data === word(1)) throw new DstackError('EVENT', 'not one');
    return log.data;
  };
  const logs = world.chain.logs.bind(world.chain);
  let failures = 3;
  world.chain.logs = async (...range) => {
    failures -= 1;
    if (failures >= 0) throw new Retryable('RPC_UNREACHABLE', 'gone');
    return logs(...range);
  };
  run(world);
  await until(() => world.submitted.length === 1);
  expect(world.asked).toEqual([word(2)]);
  // Said once, not at every poll.
  expect(world.said.filter((line) => line.includes('RPC_UNREACHABLE'))).toHaveLength(1);
});

test('a cursor far behind goes on with what still matters; one a little behind leaves nothing out', async () => {
  const world = newWorld();
  world.options = { maxRange: 30, startBlock: async (head) => head - 4 };
  world.store.put('loop/cursor', JSON.stringify({ block: 3, hash: world.chain.hashOf(3) }));
  world.chain.height = 20;
  world.chain.add(5, 5);
  const loop = run(world);
  await until(() => loop.cursor() === 20 && world.submitted.length === 1);
  world.chain.height = 1000;
  await until(() => loop.cursor() === 1000);
  expect(world.chain.ranges).toEqual([
    [0, 20],
    [996, 1000],
  ]);
  expect(world.said).toContainEqual(expect.stringContaining('too far behind'));
});

test('after a longer time off, what has expired meanwhile is left out, however many blocks a call may ask for', async () => {
  const world = newWorld();
  world.options = { maxRange: 2000, rewind: 10, startBlock: async (head) => head - 50 };
  world.store.put('loop/cursor', JSON.stringify({ block: 3, hash: world.chain.hashOf(3) }));
  world.chain.height = 500;
  for (const block of [5, 449, 450, 500]) world.chain.add(block, block);
  const loop = run(world);
  await until(() => loop.cursor() === 500 && loop.open().length === 0);
  expect(world.chain.ranges).toEqual([[450, 500]]);
  expect(world.asked.toSorted()).toEqual([450, 500].map(word).toSorted());
});

/** The blocks that say that they have no event, by what is asked of the source. */
function quiet(world: World, isQuiet: (block: number) => boolean): void {
  Object.assign(world.chain, {
    isQuiet: (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, n) => from + n).every(isQuiet),
  });
}

test('blocks that say that they have no event are not read, but for once in so many', async () => {
  const world = newWorld();
  quiet(world, (block) => block !== 30);
  world.chain.add(30, 30);
  const loop = run(world);
  for (; world.chain.height < 80; world.chain.height += 1)
    await until(() => loop.cursor() === world.chain.height);
  expect(world.asked).toEqual([word(30)]);
  // The event's own, and one in sixteen: a block that has shown its events is not read again with each that follows.
  expect(world.chain.ranges.length).toBeLessThan(9);
  const read = world.chain.ranges.flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, n) => from + n),
  );
  for (let block = 1; block <= 64; block += 1) expect(read).toContain(block);
});

test('after a re-org blocks are read again although they have shown events before', async () => {
  const world = newWorld();
  quiet(world, (block) => block !== 20);
  world.chain.height = 18;
  world.chain.add(20, 1);
  const loop = run(world);
  for (; world.chain.height < 24; world.chain.height += 1)
    await until(() => loop.cursor() === world.chain.height);
  expect(world.asked).toEqual([word(1)]);
  Object.assign(world.chain, { fork: 1, forkedAt: 20 });
  world.chain.add(20, 2);
  await until(() => loop.cursor() === 24 && world.asked.length === 2);
  expect(world.asked).toEqual([word(1), word(2)]);
});

test('an endpoint whose blocks are wrong about what is in them delays events, once; then each block is read', async () => {
  const world = newWorld();
  quiet(world, () => true);
  for (const block of [20, 50, 70]) world.chain.add(block, block);
  const loop = run(world);
  const seen: number[] = [];
  for (; world.chain.height < 90; world.chain.height += 1) {
    await until(() => loop.cursor() === world.chain.height && loop.open().length === 0);
    seen.push(world.asked.length);
  }
  expect(world.asked).toEqual([20, 50, 70].map(word));
  const at = (count: number) => seen.indexOf(count) + 10;
  expect([at(1) <= 36, at(2), at(3)]).toEqual([true, 50, 70]);
  expect(world.said.filter((line) => line.includes('say that they have none'))).toHaveLength(1);
});

/** Blocks whose filters say what is in them, and a handler that can wait for it until `patience` says otherwise. */
function patient(world: World, patience: (age: number, block: number) => number): void {
  const has = (block: number) => world.chain.entries.some(({ blockNumber }) => blockNumber === block);
  quiet(world, (block) => !has(block));
  let asked = 0;
  Object.assign(world.chain, {
    isLoud: (block: number) => {
      asked = block;
      return has(block);
    },
    names: (block: number, topic: string, subject: string) =>
      topic === TOPIC && subject === word(block) && has(block),
  });
  world.handler = {
    ...world.handler,
    patience: async ({ age, names }) => (names(word(asked)) ? patience(age, asked) : 0),
  };
}

test('events of which nobody has to know now are read with those of later blocks: all of them, and as old as they are', async () => {
  const world = newWorld();
  const ages: number[] = [];
  const request = world.handler.request;
  patient(world, () => Number.POSITIVE_INFINITY);
  world.handler.request = async (event, context) => {
    ages.push(context.age);
    return request(event, context);
  };
  let now = 1_000_000;
  world.options = { now: () => now };
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  for (const block of [12, 15, 18, 40]) world.chain.add(block, block);
  const reads = () => world.chain.ranges.length;
  const before = reads();
  for (let height = 11; height <= 25; height += 1) {
    [world.chain.height, now] = [height, now + 1000];
    await until(() => loop.cursor() === height);
  }
  expect([reads() - before, world.asked]).toEqual([0, []]);
  // The last block was read sixteen blocks ago.
  world.chain.height = 26;
  await until(() => world.asked.length === 3);
  expect(world.asked).toEqual([12, 15, 18].map(word));
  expect(reads()).toBe(before + 1);
  expect(ages).toEqual([13_000, 10_000, 7_000]);
  for (; world.chain.height < 60; world.chain.height += 1)
    await until(() => loop.cursor() === world.chain.height);
  await until(() => world.asked.length === 4);
});

test('a block is read once one of its events is needed, without another block', async () => {
  const world = newWorld();
  patient(world, (age, block) => (block === 12 ? 3000 - age : Number.POSITIVE_INFINITY));
  let now = 1_000_000;
  world.options = { now: () => now };
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  for (const block of [11, 12]) world.chain.add(block, block);
  world.chain.height = 12;
  await until(() => loop.cursor() === 12);
  const { rounds } = world.chain;
  now += 2999;
  await until(() => world.chain.rounds > rounds + 2);
  expect(world.asked).toEqual([]);
  now += 1;
  await until(() => world.asked.length === 2);
});

test('a block that was read in vain is asked for again, whoever could wait for it', async () => {
  const world = newWorld();
  patient(world, (_age, block) => (block === 12 ? 0 : Number.POSITIVE_INFINITY));
  const logs = world.chain.logs.bind(world.chain);
  let isLate = true;
  world.chain.logs = async (from, to, topics) =>
    isLate ? (await logs(from, to, topics)).slice(0, 0) : logs(from, to, topics);
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  for (const block of [11, 12]) world.chain.add(block, block);
  for (; world.chain.height < 13; world.chain.height += 1)
    await until(() => loop.cursor() === world.chain.height);
  await until(() => loop.cursor() === 13);
  world.handler.patience = async () => Number.POSITIVE_INFINITY;
  isLate = false;
  world.chain.height = 14;
  await until(() => world.asked.length === 2);
});

test('who starts anew reads what was left for later, without another block', async () => {
  const world = newWorld();
  patient(world, () => Number.POSITIVE_INFINITY);
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  for (const block of [11, 12]) world.chain.add(block, block);
  for (; world.chain.height < 12; world.chain.height += 1)
    await until(() => loop.cursor() === world.chain.height);
  await until(() => loop.cursor() === 12);
  await loop.stop();
  expect(world.asked).toEqual([]);
  const again = run(world);
  await round(world);
  await until(() => again.open().length === 0);
  expect(world.asked).toEqual([word(11), word(12)]);
});

test('a handler that can not say whether it can wait does not', async () => {
  const world = newWorld();
  patient(world, () => {
    throw new Error('the endpoint is away');
  });
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  world.chain.add(11, 11);
  world.chain.height = 11;
  await round(world);
  await round(world);
  expect([world.asked, loop.problems()]).toEqual([[word(11)], []]);
});

test('a clock that is set back has no block wait for as long again, nor an event that was seen before', async () => {
  const world = newWorld();
  patient(world, (age) => 3000 - age);
  const ages: number[] = [];
  const request = world.handler.request;
  world.handler.request = async (event, context) => {
    ages.push(context.age);
    return context.age < 2000 ? { kind: 'wait', reason: 'its turn' } : request(event, context);
  };
  let now = 10_000_000;
  world.options = { now: () => now };
  const loop = run(world);
  await until(() => loop.cursor() === 10);
  world.chain.add(11, 11);
  world.chain.height = 11;
  await until(() => loop.cursor() === 11);
  now -= 3_600_000;
  await round(world);
  now += 3000;
  await round(world);
  await round(world);
  expect([ages, world.asked]).toEqual([[3000], [word(11)]]);
  // One that is being waited for.
  world.handler.patience = async () => 0;
  world.chain.add(12, 12);
  world.chain.height = 12;
  await until(() => ages.length === 2);
  now -= 3_600_000;
  await until(() => ages.length === 3);
  now += 2000;
  await until(() => world.asked.length === 2);
  expect(ages).toEqual([3000, 0, 0, 2000]);
});

test('all handlers of one event run, each once', async () => {
  const world = newWorld();
  world.chain.add(3, 7);
  const other = {
    ...world.handler,
    name: 'other',
    request: async () => ({ kind: 'request', path: '/do', body: 'o' }),
  };
  world.options = { handlers: [world.handler, other as typeof world.handler] };
  const loop = run(world);
  await until(() => loop.cursor() === 10 && loop.open().length === 0);
  await settle();
  expect(world.submitted.map(({ purpose }) => purpose).sort()).toEqual([`pay:${word(7)}`, 'pay:o']);
});

test.each([
  [
    'data that is too long',
    { kind: 'transaction', purpose: 'p', to: '0x00', data: `0x${'00'.repeat(40_000)}` },
  ],
  ['of a kind that there is not', { kind: 'self-destruct' }],
  ['not even an object', 5],
  ['a message that is none', { kind: 'gossip', message: { type: 'letter' } }],
])('an effect that is none ends its own job and says so; the others go on: %s', async (_, effect) => {
  const world = newWorld();
  world.chain.add(2, 1);
  world.chain.add(3, 2);
  const settled = world.handler.settle;
  world.handler.settle = async (response, event) =>
    response === word(1) ? ([effect] as never) : settled(response, event);
  const loop = run(world);
  await until(() => world.submitted.length === 1 && loop.open().length === 0);
  expect(world.submitted[0]!.purpose).toBe(`pay:${word(2)}`);
  expect(world.said).toContainEqual(expect.stringContaining('test given up: EFFECT_INVALID'));
});

test("a stored job that can't be read is set aside and said, once; the others go on", async () => {
  const world = newWorld();
  let aside = 0;
  world.options = {
    onSetAside: () => {
      aside += 1;
    },
  };
  world.store.put('loop/job/0000000000000001/spoiled', '{"handler":"test"');
  world.store.put('loop/job/0000000000000002/spoiled', '{"handler":"test","of":"another version"}');
  world.store.put('loop/done/0000000000000001/spoiled', '?');
  world.store.put('loop/cursor', '?');
  world.chain.add(3, 7);
  const loop = run(world);
  expect(loop.open()).toEqual([]);
  await until(() => world.submitted.length === 1 && loop.cursor() === 10);
  await settle();
  expect([aside, loop.setAside()]).toEqual([2, 2]);
  expect(world.said.filter((line) => line.startsWith('a job is set aside'))).toHaveLength(2);
});

/** Waits for what may never come: each event for the key of its own value. */
function parking(world: World, window = 5) {
  const ready = new Set<string>();
  const over: string[] = [];
  world.handler = {
    ...world.handler,
    request: async (event, { log }): Promise<Verdict> =>
      ready.has(event)
        ? { kind: 'request', path: '/do', body: event }
        : {
            kind: 'park',
            key: parseHex(event.slice(2)),
            until: log.blockNumber + window,
            reason: 'nobody said it',
          },
    over: (event) => void over.push(event),
  };
  return { ready, over };
}

test('events that wait for what never comes do not stop the cursor; the one that does come is handled', async () => {
  const world = newWorld();
  const { ready } = parking(world, 1000);
  world.options = { maxJobs: 20, maxRange: 2 };
  world.chain.height = 60;
  for (let n = 1; n <= 50; n += 1) for (let m = 0; m < 10; m += 1) world.chain.add(n, n * 100 + m);
  world.chain.add(55, 7);
  const loop = run(world);
  await expect.poll(() => [loop.cursor(), loop.count().jobs]).toEqual([60, 0]);
  expect(loop.count().parked).toBe(501);
  expect(loop.open()[0]?.reason).toBe('nobody said it');
  expect(world.asked).toEqual([]);

  ready.add(word(7));
  loop.wake(word(7).slice(2));
  await until(() => world.submitted.length === 1);
  expect(world.asked).toEqual([word(7)]);
  expect(loop.count()).toEqual({ jobs: 0, parked: 500 });

  // As it was, for a process that starts anew.
  await loop.stop();
  const again = run(world);
  ready.add(word(100));
  again.wake(word(100).slice(2));
  await until(() => world.submitted.length === 2);
  expect(again.count().parked).toBe(499);
});

test('an endpoint that invents events without end fills no disk: what waits for nothing, and what is remembered of it, is bounded', async () => {
  const world = newWorld();
  const { over } = parking(world, 1_000_000);
  world.options = { maxParked: 30, maxDone: 450 };
  const loop = run(world);
  for (let block = 11; block <= 60; block += 1) {
    for (let n = 0; n < 25; n += 1) world.chain.add(block, 100 * block + n);
    world.chain.height = block;
    await until(() => loop.cursor() === block && loop.count().jobs === 0);
    await round(world);
    expect(loop.count().parked).toBeLessThanOrEqual(30);
    // A page comes on top of it until the next one.
    expect(world.store.count('loop/done/')).toBeLessThanOrEqual(450 + 25 + 25);
  }
  // Who has waited longest gives way, and its handler knows.
  expect(over.slice(0, 3)).toEqual([word(1100), word(1101), word(1102)]);
  expect(over).toHaveLength(50 * 25 - 30);
  expect(loop.open().at(-1)?.block).toBe(60);
});

test("what was parked is over with the block that its own event's time ends at, and not before", async () => {
  const world = newWorld();
  const { over } = parking(world);
  world.store.put('loop/parked/0000000000000001/spoiled', '?');
  world.chain.add(4, 1);
  world.chain.add(8, 2);
  const loop = run(world);
  await until(() => over.length === 1);
  expect(over).toEqual([word(1)]);
  world.chain.height = 13;
  await until(() => loop.cursor() === 13);
  await settle();
  expect(loop.count().parked).toBe(1);
  world.chain.height = 14;
  await until(() => over.length === 2);
  expect(loop.count()).toEqual({ jobs: 0, parked: 0 });
  expect(world.store.count('loop/parked')).toBe(0);
  expect(world.asked).toEqual([]);
});

test('whatever a handler throws, other events are worked on, and what was parked ends', async () => {
  const world = newWorld();
  parking(world);
  const thrown = [undefined, null, Object.create(null)];
  let calls = 0;
  const failing = () => {
    throw thrown[calls++ % thrown.length];
  };
  world.handler.foresee = failing;
  world.handler.over = failing;
  const other: EventHandler<string> = {
    ...world.handler,
    name: 'other',
    request: async () => failing(),
  };
  world.options = { handlers: [world.handler, other], maxAttempts: 1 };
  world.chain.add(4, 1);
  const loop = run(world);
  await until(() => loop.count().parked === 1 && loop.count().jobs === 0);
  world.chain.height = 100;
  await until(() => loop.count().parked === 0);
  await until(() => loop.cursor() === 100);
  expect(loop.problems()).toEqual([]);
});

test('what comes while a job is looked at is not missed by parking it', async () => {
  const world = newWorld();
  const { ready } = parking(world);
  const request = world.handler.request;
  let loop: EventLoop | undefined;
  world.handler.request = async (event, context) => {
    const verdict = await request(event, context);
    if (!ready.has(event)) {
      ready.add(event);
      loop?.wake(event.slice(2));
    }
    return verdict;
  };
  world.chain.add(9, 1);
  loop = run(world);
  await until(() => world.submitted.length === 1);
});

test('after a refusal with another request to try there is no pause, however many there are', async () => {
  const world = newWorld();
  let left = 12;
  world.handler = {
    ...world.handler,
    refused: async () => {
      left -= 1;
      return true;
    },
  };
  world.answer = async (body) => {
    if (left > 0) throw new DstackError('BAD_COPY', 'no');
    return body;
  };
  world.chain.add(3, 7);
  run(world);
  await until(() => world.submitted.length === 1);
  expect(world.asked).toHaveLength(13);
});

test('what the chain has yet to confirm is asked for each round: the pauses do not grow, and one line says so', async () => {
  const world = newWorld();
  world.chain.add(3, 1);
  let left = 12;
  world.answer = async (body) => {
    if (left-- > 0) throw new NotYet('ANSWER_NOT_ON_CHAIN', 'not confirmed');
    return body;
  };
  const started = Date.now();
  run(world);
  await until(() => world.submitted.length === 1);
  // Twelve growing pauses, from half a second on, would take minutes.
  expect(Date.now() - started).toBeLessThan(60_000);
  expect(world.said.filter((line) => line.includes('ANSWER_NOT_ON_CHAIN'))).toHaveLength(1);
});

test('events of one key are worked on in their order; those of another key do not wait', async () => {
  const world = newWorld();
  // The key is the parity; the first of the odd ones fails for now.
  world.handler = { ...world.handler, key: (event) => String(Number(event) % 2) };
  let isBroken = true;
  world.answer = async (body) => {
    if (isBroken && body === word(1)) throw new Retryable('TEST', 'not now');
    return body;
  };
  for (const value of [1, 2, 3, 4, 5]) world.chain.add(3 + value, value);
  const loop = run(world);
  await until(() => world.submitted.length === 2);
  await round(world);
  expect(world.submitted.map(({ purpose }) => purpose)).toEqual([`pay:${word(2)}`, `pay:${word(4)}`]);
  expect(world.asked).not.toContain(word(3));
  isBroken = false;
  await until(() => loop.open().length === 0 && world.submitted.length === 5);
  const odd = world.submitted
    .map(({ purpose }) => Number(purpose.slice(4)))
    .filter((value) => value % 2 === 1);
  expect(odd).toEqual([1, 3, 5]);
});

test('two handlers of one topic both run; of two that are called the same, each has its own topic', async () => {
  const world = newWorld();
  const topic = word(0xdef);
  const named = (name: string, own: string, to: string): EventHandler<string> => ({
    ...{ ...world.handler, name, topic: own },
    settle: async (response) => [
      { kind: 'transaction', purpose: `${to}:${response}`, to: '0x00', data: '0x' },
    ],
  });
  world.options.handlers = [named('one', TOPIC, 'a'), named('two', TOPIC, 'b'), named('one', topic, 'c')];
  world.chain.add(3, 1);
  world.chain.add(4, 2);
  world.chain.entries[1]!.topics = [parseHex(topic)];
  run(world);
  await until(() => world.submitted.length === 3);
  const purposes = world.submitted.map(({ purpose }) => purpose).sort();
  expect(purposes).toEqual([`a:${word(1)}`, `b:${word(1)}`, `c:${word(2)}`]);
  world.options.handlers = [named('one', TOPIC, 'a'), named('one', TOPIC, 'b')];
  expect(() => run(world)).toThrow(/two handlers/);
});

test('an event with more data than can be stored holds up no other', async () => {
  const world = newWorld();
  world.chain.add(3, 1);
  world.chain.entries[0]!.data = `0x${'00'.repeat(40_000)}`;
  world.chain.add(4, 2);
  run(world);
  await until(() => world.submitted.length === 1);
  expect(world.submitted[0]!.purpose).toBe(`pay:${word(2)}`);
});
