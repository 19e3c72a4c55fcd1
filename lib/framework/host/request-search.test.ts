/** A request that is looked for while the endpoint is not what it should be. */
import { expect, test } from 'vitest';
import { parseHex } from '../../protocol/hex.ts';
import { RequestSearch } from './request-search.ts';

test('a head far beyond the chain, shown once, does not hold up the search', async () => {
  let head = 1e15;
  const asked: [number, number][] = [];
  const search = new RequestSearch(
    {
      head: async () => ({ number: head, hash: '' }),
      logs: async (from, to) => {
        asked.push([from, to]);
        return [];
      },
    },
    async () => 100,
  );
  const hash = parseHex(`0x${'11'.repeat(32)}`);
  await search.find(hash);
  head = 200;
  asked.length = 0;
  await search.find(hash);
  expect(asked).toEqual([[100, 200]]);
});
