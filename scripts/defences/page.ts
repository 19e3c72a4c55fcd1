/** Writes docs/defences.md from the results. */
import type { Mutation } from './mutation.ts';
import { points } from './points.ts';
import type { Result } from './results.ts';

/** Of a removal that is in the table: its line. */
export type Line = string;

/**
 * @param lines in the table's order
 * @param whole whether one run saw them all, on the same sources
 */
export function pageOf(lines: readonly Line[], whole: boolean): string {
  const seen = whole
    ? `All ${lines.length} were seen.`
    : `The ${lines.length} rows come from
several runs, point by point; where code has moved since, that its text is there is checked, and the removal has yet to be seen again.`;
  return `# The thirteen defences, removed one by one

Written by \`npm run defences\`, which removes or weakens each line below in a copy of the tree and runs the test that guards
it: with the defence in place the test passes, without it an assertion fails. ${seen} The points are those
under "Trust" in the [threat model](threat-model.md); the removals are in \`scripts/defences/mutations/\`. \`⏎\` is a line's end.

## The points and their tests

| point | what the prototype did | tests in processes | tests in a VM |
|---|---|---|---|
${points
  .map(
    ({ number, wrong, processes, vm }) =>
      `| ${number} | ${wrong} | ${processes.map(code).join('<br>')} | ${vm.map(code).join('<br>') || '–'} |`,
  )
  .join('\n')}

## The removals

| point | defence | file | the text removed | became | test that failed | what it said |
|---|---|---|---|---|---|---|
${lines.join('\n')}
`;
}

export function lineOf(mutation: Mutation, { test: title, said }: Result): Line {
  return `${beginOf(mutation)} ${code(`${mutation.test.file} › ${title}`)} | ${code(said)} |`;
}

/** The line that a page has for it. Undefined: it has none, or one for another text. */
export function findLine(page: string, mutation: Mutation): Line | undefined {
  const begin = beginOf(mutation);
  const guard = `${mutation.test.file} › `;
  return page
    .split('\n')
    .find(
      (line) =>
        line.startsWith(begin) && line.slice(begin.length, begin.length + guard.length + 4).includes(guard),
    );
}

/** All that is known before it was run. */
function beginOf({ point, removes, edits }: Mutation): string {
  const files = [...new Set(edits.map(({ file }) => file))].map(code).join('<br>');
  const texts = edits.map(({ find }) => code(find)).join('<br>');
  const after = edits.map(({ replace }) => (replace === '' ? 'nothing' : code(replace))).join('<br>');
  return `| ${point} | ${plain(removes)} | ${files} | ${texts} | ${after} |`;
}

const plain = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', '⏎').trim();

/** As a code span of a table's cell. */
function code(text: string): string {
  // Backticks cannot be escaped in a code span; a longer run of them around it is the way.
  const shown = plain(text.trim().replace(/\s*\n\s*/g, ' ⏎ '));
  const quote = shown.includes('`') ? '``' : '`';
  return shown.startsWith('`') || shown.endsWith('`') ? `${quote} ${shown} ${quote}` : quote + shown + quote;
}
