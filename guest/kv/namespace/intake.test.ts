import { expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { bytesOf } from '../../../test/support/etcd.ts';
import { Intake } from './intake.ts';
import { Keyspace } from './keyspace.ts';
import type { Done, Need } from './room.ts';
import { refusalOf } from './store.fixture.ts';

const MIB = 1024 * 1024;
const FULL = 'etcdserver: mvcc: database space exceeded';
const greedy = new Keyspace(bytesOf('a/greedy/'));
const other = new Keyspace(bytesOf('a/other/'));

/** One of a database of 16 MiB that has so much on the disk. Further looks end when the test says so. */
async function made(dbSize = 0) {
  const looks: { need: Need | undefined; end: PromiseWithResolvers<Done> }[] = [];
  const room = {
    dbSize,
    look(need?: Need): Promise<Done> {
      const end = Promise.withResolvers<Done>();
      looks.push({ need, end });
      return end.promise;
    },
  };
  const intake = new Intake(room, 16 * MIB);
  const first = intake.look();
  looks.shift()!.end.resolve('nothing');
  await first;
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const write = (space: Keyspace, name: string, bytes: number, signal = new AbortController().signal) =>
    intake.run(
      space,
      bytes,
      () => {
        begun.push(name);
        return new Promise<void>((resolve) => ends.push(resolve));
      },
      { signal },
    );
  const told = (space: Keyspace, bytes: number) =>
    intake.told([
      {
        type: 'put',
        key: space.key(bytesOf('k')),
        value: new Uint8Array(bytes),
        lease: 0n,
        version: 1n,
        createRevision: 2n,
      },
    ]);
  return { intake, room, looks, begun, ends, write, told };
}

/** After all promises that hang on nothing outside. */
const turnOfLoop = () => new Promise<void>((resolve) => setImmediate(resolve));

test('who writes much waits until it was looked, and others find room meanwhile', async () => {
  const { begun, looks, write, ends } = await made();
  const all = Array.from({ length: 16 }, (_, n) => write(greedy, `g${n}`, MIB / 4));
  all.push(write(other, 'o', MIB / 4));
  expect(begun).toHaveLength(16);
  expect(begun.at(-1)).toBe('o');
  await expect.poll(() => looks.length).toBe(1);
  // What is under way may still come to be in the database: a look alone is no room.
  looks[0]!.end.resolve('nothing');
  await turnOfLoop();
  // And looking again and again while it is under way would be no more.
  expect(looks).toHaveLength(1);
  expect(begun).toHaveLength(16);
  for (const end of ends) end();
  await expect.poll(() => looks.length).toBe(2);
  looks[1]!.end.resolve('nothing');
  await expect.poll(() => begun.at(-1)).toBe('g15');
  for (const end of ends) end();
  await Promise.all(all);
});

test('one more that waits is looked for, whenever it comes; and what the look each second finds serves all', async () => {
  const { intake, room, looks, begun, ends, write } = await made(10 * MIB);
  const stuck = write(greedy, 'g1', MIB);
  const second = write(greedy, 'g2', MIB);
  await expect.poll(() => looks.length).toBe(1);
  // While it is being looked: that look does not know of it.
  const large = write(other, 'large', 1.5 * MIB);
  looks[0]!.end.resolve('nothing');
  await expect.poll(() => looks.length).toBe(2);
  expect(looks[1]!.need!.wanted).toBeGreaterThan(looks[0]!.need!.wanted);
  looks[1]!.end.resolve('nothing');
  await turnOfLoop();
  expect(looks).toHaveLength(2);
  room.dbSize = 0;
  const running = intake.look();
  looks[2]!.end.resolve('compacted');
  await running;
  await expect.poll(() => looks.length).toBe(4);
  looks[3]!.end.resolve('nothing');
  await expect.poll(() => begun).toEqual(['g1', 'large', 'g2']);
  for (const end of ends) end();
  await Promise.all([stuck, second, large]);
});

test('what comes in the moment in which nothing waits any more is looked for, too', async () => {
  for (let later = 0; later < 20; later += 1) {
    const { looks, ends, write } = await made();
    const first = write(greedy, 'g1', 3 * MIB);
    const second = write(greedy, 'g2', 3 * MIB);
    await turnOfLoop();
    ends[0]!();
    await first;
    looks[0]!.end.resolve('nothing');
    for (let turns = 0; turns < later; turns += 1) await undefined;
    const third = write(greedy, 'g3', 3 * MIB);
    await turnOfLoop();
    ends.at(-1)!();
    await second;
    await turnOfLoop();
    expect(looks.length, `${later} turns after the look`).toBeGreaterThan(1);
    looks.at(-1)!.end.resolve('nothing');
    await turnOfLoop();
    ends.at(-1)!();
    await third;
  }
});

test('what was written counts until a look that began after it has ended', async () => {
  const { intake, begun, looks, write, told, ends } = await made();
  const running = intake.look();
  told(greedy, 3 * MIB);
  looks[0]!.end.resolve('nothing');
  await running;
  const written = write(greedy, 'g1', MIB);
  expect(begun).toEqual([]);
  await expect.poll(() => looks.length).toBe(2);
  expect(looks.map(({ need }) => need?.written)).toEqual([false, true]);
  looks[1]!.end.resolve('nothing');
  await expect.poll(() => begun).toEqual(['g1']);
  ends[0]!();
  await written;
});

test('all together take no more than there is, and each has its turn', async () => {
  const { begun, looks, write, ends } = await made(4 * MIB);
  const third = new Keyspace(bytesOf('a/third/'));
  const all = ['g1', 'g2', 'g3', 'g4'].map((name) => write(greedy, name, MIB));
  all.push(write(other, 'o1', MIB / 2), write(third, 't1', MIB));
  expect(begun).toEqual(['g1', 'g2', 'o1']);
  await expect.poll(() => looks.length).toBe(1);
  for (const end of ends) end();
  looks[0]!.end.resolve('nothing');
  await expect.poll(() => begun).toEqual(['g1', 'g2', 'o1', 'g3', 't1']);
  await expect.poll(() => looks.length).toBe(2);
  for (const end of ends) end();
  looks[1]!.end.resolve('nothing');
  await expect.poll(() => begun.at(-1)).toBe('g4');
  for (const end of ends) end();
  await Promise.all(all);
});

test('a large write is not passed over for ever by what others write meanwhile', async () => {
  const { looks, begun, ends, write, told } = await made(8 * MIB);
  const many = [0, 1, 2].map((n) => new Keyspace(bytesOf(`a/many${n}/`)));
  const all: Promise<void>[] = [];
  /** Each writes twice, if it finds room, and that is in the database: never so much that it had to wait itself. */
  const fill = async () => {
    for (const space of many)
      for (let n = 0; n < 2; n += 1) {
        const before = ends.length;
        const leaving = new AbortController();
        const written = write(space, 'm', MIB / 4, leaving.signal).catch(() => {});
        await turnOfLoop();
        leaving.abort();
        if (ends.length > before) {
          ends.at(-1)!();
          told(space, MIB / 4);
        }
        await written;
      }
  };
  await fill();
  all.push(write(other, 'large', MIB));
  for (let round = 0; round < 3; round += 1) {
    await expect.poll(() => looks.length).toBe(round + 1);
    await fill();
    looks[round]!.end.resolve('nothing');
    await turnOfLoop();
    if (begun.includes('large')) break;
  }
  expect(begun).toContain('large');
  ends.at(-1)!();
  await Promise.all(all);
});

test('what no room can be made for is refused, and nothing that is smaller', async () => {
  const { begun, looks, write, ends } = await made(15 * MIB);
  const large = refusalOf(write(greedy, 'large', MIB));
  const small = write(greedy, 'small', 1_000);
  await expect.poll(() => looks.length).toBe(1);
  expect(looks[0]!.need?.wanted).toBeGreaterThan(2 * MIB);
  looks[0]!.end.resolve('nothing');
  expect(await large).toBe(FULL);
  await expect.poll(() => begun).toEqual(['small']);
  ends[0]!();
  await small;
});

test("the node's daemons do not wait, who has gone neither, and an etcd that is away is said", async () => {
  const { begun, looks, write, ends } = await made(10 * MIB);
  const first = write(greedy, 'g1', MIB);
  const leaving = new AbortController();
  const gone = refusalOf(write(greedy, 'gone', MIB, leaving.signal));
  const waiting = refusalOf(write(greedy, 'g2', MIB));
  leaving.abort();
  expect(await gone).toBe('context canceled');
  const signer = write(new Keyspace(bytesOf('d/signer/')), 'd1', 8 * MIB);
  expect(begun).toEqual(['g1', 'd1']);
  await expect.poll(() => looks.length).toBe(1);
  looks[0]!.end.reject(etcdError('stopped'));
  expect(await waiting).toBe(etcdError('stopped').message);
  for (const end of ends) end();
  await Promise.all([first, signer]);
  expect(begun).toEqual(['g1', 'd1']);
});
