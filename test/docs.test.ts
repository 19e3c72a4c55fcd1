/**
 * The pages that say which test shows what, compared with the tree: every file, symbol and test that they name exists. They
 * name a test as `file › its name` (or the beginning of its name), and code as `file` or `file#symbol`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const PATH = /^[\w.@-]+(\/[\w.@-]+)+\/?$/;

/** The code spans of a page, as GFM section 6.3 has them; a table's `\|` is a `|`. */
function spans(page: string): string[] {
  return [...page.matchAll(/(`+)(.+?)\1(?!`)/g)].map(([, , text]) => text!.trim().replaceAll('\\|', '|'));
}

/** The titles of tests and groups of tests. */
function titles(source: string): string[] {
  const opening = /(?:\b(?:test|it|describe)\(|\)\()\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g;
  return [...source.matchAll(opening)].map(([, , text]) => text!.replace(/\\(.)/g, '$1'));
}

/** Whether the file has a test of that name, one whose name begins so, or one that `test.each` makes from its rows. */
function hasTest(file: string, name: string): boolean {
  const source = read(file);
  return titles(source).some((title) => {
    if (title.startsWith(name)) return true;
    // A title that is only its row's first value: the row must be there, after the name of its group if it has one.
    if (/^%\w$/.test(title)) {
      const groups = titles(source).filter((group) => name.startsWith(`${group} `));
      const rows = [name, ...groups.map((group) => name.slice(group.length + 1))];
      return rows.some((row) => source.includes(`'${row}'`) || source.includes(`"${row}"`));
    }
    const parts = title
      .split(/%[sdij]|\$\{\w+\}|\$\w+/)
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    // The names of the groups around it come before.
    return new RegExp(`(^| )${parts.join('.+')}$`).test(name);
  });
}

function problemsOf(page: string): string[] {
  return spans(page).flatMap((span) => {
    const [place = '', name] = span.split(' › ', 2);
    const [path = '', symbol] = place.split('#', 2);
    // Other code: words, messages, what was removed.
    if (!PATH.test(path) || !existsSync(join(root, path.split('/')[0]!))) return [];
    if (!existsSync(join(root, path))) return [`there is no ${path}`];
    if (symbol !== undefined && !new RegExp(`\\b${symbol}\\b`).test(read(path)))
      return [`no ${symbol} in ${path}`];
    if (name !== undefined && !hasTest(path, name)) return [`no test "${name}" in ${path}`];
    return [];
  });
}

test('what is not there is noticed', () => {
  const file = 'test/docs.test.ts';
  expect(
    problemsOf(`\`${file} › what is not there\`, \`${file}#problemsOf\`, \`docs/threat-model.md\``),
  ).toEqual([]);
  expect(problemsOf('`test/nothing.test.ts › some test`')).toEqual(['there is no test/nothing.test.ts']);
  expect(problemsOf(`\`${file} › a test\``)).toEqual([`no test "a test" in ${file}`]);
  expect(problemsOf('`docs/gas.md#problemsOf`')).toEqual(['no problemsOf in docs/gas.md']);
});

/** The cells of the rows of the table under a heading, without its head and without the rows that name a group. */
function rowsUnder(page: string, heading: string): string[][] {
  const section = page.split(`\n${heading}\n`)[1]!.split(/\n#+ /)[0]!;
  const lines = section.split('\n').filter((line) => line.startsWith('| '));
  return lines
    .slice(1)
    .map((line) => line.slice(2, -2).split(' | '))
    .filter(([first]) => !/^\*[^*]+\*$/.test(first!));
}

test('each behaviour of LF has the test that shows it, or the reason why it is not here', () => {
  const rows = rowsUnder(read('docs/records.md'), '### What LF did');
  expect(rows.length).toBeGreaterThan(60);
  for (const [behaviour, here, shown = ''] of rows) {
    if (here!.startsWith('no: ')) expect(here!.length, behaviour).toBeGreaterThan(20);
    else expect(spans(shown).filter((span) => span.includes(' › ')).length, behaviour).toBeGreaterThan(0);
  }
});

test.each([
  ['docs/threat-model.md', 60],
  ['docs/defences.md', 100],
  ['test/trust/README.md', 20],
  ['docs/records.md', 20],
])('every file, symbol and test that %s names is there', (page, atLeast) => {
  const text = read(page);
  expect(problemsOf(text)).toEqual([]);
  expect(spans(text).filter((span) => span.includes(' › ') || span.includes('#')).length).toBeGreaterThan(
    atLeast,
  );
});
