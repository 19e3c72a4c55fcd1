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
  return { intake, looks, begun, ends, write, told };
}

test('who writes much waits until it was looked, and others find room meanwhile', async () => {
  const { begun, looks, write, ends } = await made();
  const all = Array.from({ length: 16 }, (_, n) => write(greedy, `g${n}`, MIB / 4));
  all.push(write(other, 'o', MIB / 4));
  expect(begun).toHaveLength(16);
  expect(begun.at(-1)).toBe('o');
  await expect.poll(() => looks.length).toBe(1);
  // What is under way may still come to be in the database: a look alone is no room.
  looks[0]!.end.resolve('nothing');
  await expect.poll(() => looks.length).toBe(2);
  expect(begun).toHaveLength(16);
  for (const end of ends) end();
  looks[1]!.end.resolve('nothing');
  await expect.poll(() => begun.at(-1)).toBe('g15');
  for (const end of ends) end();
  await Promise.all(all);
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
