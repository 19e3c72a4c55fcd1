import { expect, test } from 'vitest';
import { DstackError, Retryable } from '../protocol/errors.ts';
import { RpcRateLimited, RpcRefusal } from './json-rpc.ts';
import { LogReader } from './log-reader.ts';

const tooMuch = () => new RpcRefusal('x', 'query returned more than 10000 results', undefined, 'too-much');

/** Reads all of 0 to `last`; which ranges were asked for, and which of them were given. */
async function readAll(
  last: number,
  refuse: (from: number, to: number) => Error | undefined,
  options: { first?: number; longest?: number } = {},
) {
  const asked: number[] = [];
  const given: [number, number][] = [];
  const reader = new LogReader({
    first: 10_000,
    longest: 100_000,
    ...options,
    read: async (from, to) => {
      asked.push(to - from + 1);
      const error = refuse(from, to);
      if (error !== undefined) throw error;
      return [from, to] as [number, number];
    },
  });
  for (let from = 0; from <= last; ) {
    const { to, page } = await reader.next(from, last);
    expect(page).toEqual([from, to]);
    given.push(page);
    from = to + 1;
  }
  return { asked, given };
}

test.each([1, 2, 10, 99, 500, 1024, 10_000])(
  'a limit of %i blocks is found, and rarely run into',
  async (limit) => {
    const pages = 400;
    const last = limit * pages - 1;
    const { asked, given } = await readAll(last, (from, to) =>
      to - from + 1 > limit ? tooMuch() : undefined,
    );
    expect(given.at(-1)![1]).toBe(last);
    // At worst half of what is allowed at once.
    expect(given.length).toBeLessThanOrEqual(2 * pages + 20);
    expect(asked.length - given.length).toBeLessThan(40);
  },
);

test('a dense place is read in small pieces, and after it the pieces grow again', async () => {
  const dense = (from: number, to: number) => from <= 50_100 && to >= 50_000 && to - from >= 4;
  const { given } = await readAll(1_000_000, (from, to) => (dense(from, to) ? tooMuch() : undefined));
  expect(given.length).toBeLessThan(100);
  expect(given.some(([from, to]) => from > 60_000 && to - from + 1 === 100_000)).toBe(true);
});

test.each([
  ['more bytes than are read', new Retryable('RPC_TOO_LARGE', 'x')],
  ['words that nobody knows', new RpcRefusal('x', 'zu viel', undefined, 'unknown')],
])('it asks for less also at %s', async (_, error) => {
  const reading = readAll(5_000, (from, to) => (to - from + 1 > 100 ? error : undefined));
  const last = reading.then(({ given }) => given.at(-1)![1]);
  expect(await last.catch((thrown) => thrown)).toBe(5_000);
});

test('a single block that is refused is an error, which says what the endpoint said', async () => {
  const error = await readAll(100, () => tooMuch()).catch((thrown) => thrown);
  expect(error.message).toContain('query returned more than 10000 results');
});

test.each([
  ['a rate limit', new RpcRateLimited('slow down')],
  ['a lie that another endpoint shows', new DstackError('CHAIN_DISAGREES', 'x')],
  ['a state that is not there yet', new RpcRefusal('x', 'header not found', undefined, 'behind')],
])('%s is no reason to ask for less, nor to ask again at once', async (_, error) => {
  let calls = 0;
  await expect(
    readAll(100, () => {
      calls += 1;
      return error;
    }),
  ).rejects.toBe(error);
  expect(calls).toBe(1);
});

test('after no answer less is asked for, but later: somebody may not be there at all', async () => {
  const asked: number[] = [];
  const reader = new LogReader({
    first: 1000,
    longest: 1000,
    read: async (from, to) => {
      asked.push(to - from + 1);
      if (to - from + 1 > 300) throw new Retryable('RPC_UNREACHABLE', 'timed out');
      return to;
    },
  });
  await expect(reader.next(0, 5000)).rejects.toMatchObject({ code: 'RPC_UNREACHABLE' });
  await expect(reader.next(0, 5000)).rejects.toMatchObject({ code: 'RPC_UNREACHABLE' });
  expect((await reader.next(0, 5000)).to).toBe(249);
  expect(asked).toEqual([1000, 500, 250]);
});
