import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mutations } from './defences/mutations.ts';
import { points } from './defences/points.ts';

const read = (file: string): string => readFileSync(join(import.meta.dirname, '..', file), 'utf8');

test('each of the thirteen points has a test, and a defence in the table', () => {
  const thirteen = Array.from({ length: 13 }, (_, index) => index + 1);
  expect(points.map(({ number }) => number)).toEqual(thirteen);
  for (const { processes } of points) expect(processes.length).toBeGreaterThan(0);
  expect([...new Set(mutations.map(({ point }) => point))]).toEqual([...thirteen, 'replicator']);
});

test.each(mutations.map((mutation) => [mutation.point, mutation.removes, mutation] as const))(
  '%s: %s: the text to remove is there, once',
  (_, __, { edits, test: { file } }) => {
    for (const edit of edits) expect(read(edit.file).split(edit.find).length - 1, edit.find).toBe(1);
    expect(read(file).length).toBeGreaterThan(0);
  },
);

// What was seen of an older table says nothing of this one.
test('docs/defences.md holds every removal of the table, and no other', () => {
  const page = join(import.meta.dirname, '../docs/defences.md');
  expect(existsSync(page), 'run `npm run defences`').toBe(true);
  const [, removals = ''] = read('docs/defences.md').split('## The removals');
  const rows = [...removals.matchAll(/^\| (\w+) \| (.*?) \| `/gm)].map(
    ([, point, removes]) => `${point} ${removes}`,
  );
  expect(rows).toEqual(mutations.map(({ point, removes }) => `${point} ${removes}`));
});
