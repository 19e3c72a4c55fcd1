/** The table of tasks in CONTRIBUTING.md, compared with the tree's own imports. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const product = globSync('{lib,guest,host,cli}/**/*.ts', { cwd: root }).filter(
  (file) => !/\.(test|fixture)\.ts$/.test(file),
);

const [, table = ''] = read('CONTRIBUTING.md').split('## The ten tasks');
const tasks = [...table.matchAll(/^\| (an? .*?) \|(.*?)\|(.*)\|$/gm)].map(([, task, model, change]) => ({
  task: task!,
  model: filesIn(model!),
  change: filesIn(change!),
}));

/** The code spans that are paths. */
function filesIn(cell: string): string[] {
  return [...cell.matchAll(/`([\w.-]+(?:\/[\w.-]+)+)`/g)].map(([, file]) => file!);
}

/** The product's files that import a file. */
function importersOf(file: string): string[] {
  return product.filter((importer) =>
    [...read(importer).matchAll(/from '(\.[^']+)'/g)].some(
      ([, path]) => relative(root, resolve(root, dirname(importer), path!)) === file,
    ),
  );
}

test('the table has ten tasks, nine of which touch at most three files', () => {
  expect(tasks).toHaveLength(10);
  for (const { task, model, change } of tasks) {
    expect(model.length + change.length, task).toBeLessThanOrEqual(task === 'a key purpose' ? 5 : 3);
  }
});

test.each(tasks)('$task: every file is there, and who imports the model is named', ({ model, change }) => {
  for (const file of [...model, ...change]) expect(existsSync(join(root, file)), file).toBe(true);
  for (const file of model) expect(change).toEqual(expect.arrayContaining(importersOf(file)));
});

test('an importer is found', () => {
  expect(importersOf('host/gossip/http-carrier.ts')).toEqual(['host/gossip/carriers.ts']);
});
