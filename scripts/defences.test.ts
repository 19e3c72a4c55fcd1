import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Locator } from './defences/locate.ts';
import { allMutations, mutations } from './defences/mutations.ts';
import { points } from './defences/points.ts';

const root = join(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const locator = new Locator(root);

test('each of the thirteen points has a test, and a defence in the table', () => {
  const thirteen = Array.from({ length: 13 }, (_, index) => index + 1);
  expect(points.map(({ number }) => number)).toEqual(thirteen);
  for (const { processes } of points) expect(processes.length).toBeGreaterThan(0);
  expect([...new Set(mutations.map(({ point }) => point))]).toEqual([
    ...thirteen,
    ...[
      'replicator',
      'image',
      'audit',
      'owner',
      'relay',
      'site',
      'front',
      'apps',
      'agent',
      'framework',
      'store',
      'signer',
      'records',
    ],
  ]);
});

test.each(allMutations.map((mutation) => [mutation.point, mutation.removes, mutation] as const))(
  '%s: %s: the text to remove is there, once',
  (_, __, mutation) => {
    expect(locator.locate(mutation).edits).toHaveLength(mutation.edits.length);
    expect(read(mutation.test.file).length).toBeGreaterThan(0);
  },
);

test('a text is found where its file went, and refused where it is not, or more than once', () => {
  const [mutation] = mutations;
  const moved = {
    ...mutation!,
    edits: mutation!.edits.map((edit) => ({ ...edit, file: 'lib/elsewhere.ts' })),
  };
  expect(locator.locate(moved)).toEqual(locator.locate(mutation!));
  const nowhere = { file: 'lib/elsewhere.ts', find: 'no file holds this text', replace: '' };
  expect(() => locator.locate({ ...mutation!, edits: [nowhere] })).toThrowError(/in no file/);
  const everywhere = { ...nowhere, find: 'import ' };
  expect(() => locator.locate({ ...mutation!, edits: [everywhere] })).toThrowError(/not exactly once/);
});

// Results of an older table say nothing about this one.
test('docs/defences.md holds every removal of the table, and no other', () => {
  const page = join(import.meta.dirname, '../docs/defences.md');
  expect(existsSync(page), 'run `npm run defences`').toBe(true);
  const [, removals = ''] = read('docs/defences.md').split('## The removals');
  const rows = [...removals.matchAll(/^\| (\w+) \| (.*?) \| `/gm)].map(
    ([, point, removes]) => `${point} ${removes}`,
  );
  expect(rows).toEqual(mutations.map(({ point, removes }) => `${point} ${removes}`));
});
