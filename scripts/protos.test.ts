import { expect, test } from 'vitest';
import { generate, stale } from './protos.ts';

test('the generated messages are, byte for byte, what the .proto files give; if not: npm run protos', async () => {
  const files = await generate();
  expect(files.size).toBeGreaterThan(20);
  expect(stale(files)).toEqual([]);
  const [first] = files.keys();
  expect(stale(new Map([...files, [first!, ''], ['more.js', '']]))).toEqual([first, 'more.js'].sort());
});
