import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mutations } from './defences/mutations.ts';

const read = (file: string): string => readFileSync(join(import.meta.dirname, '..', file), 'utf8');

test('each of the thirteen points has a defence in the table, and a test of its number', () => {
  const points = new Set(mutations.map(({ point }) => point));
  expect([...points].sort((a, b) => a - b)).toEqual(Array.from({ length: 13 }, (_, index) => index + 1));
});

test.each(mutations.map((mutation) => [mutation.point, mutation.removes, mutation] as const))(
  '%d: %s: the text to remove is there, once',
  (_, __, { edits, test: { file } }) => {
    for (const edit of edits) expect(read(edit.file).split(edit.find).length - 1, edit.find).toBe(1);
    expect(read(file).length).toBeGreaterThan(0);
  },
);
