/** Writes docs/defences.md from the results. */
import type { Mutation } from './mutation.ts';
import { points } from './points.ts';
import type { Result } from './results.ts';

export function pageOf(rows: readonly { mutation: Mutation; result: Result }[]): string {
  return `# The thirteen defences, removed one by one

Written by \`npm run defences\`, which removes or weakens each line below in a copy of the tree and runs the test that guards
it: with the defence in place the test passes, without it an assertion fails. All ${rows.length} were seen. The points are those
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
${rows.map(({ mutation, result }) => rowOf(mutation, result)).join('\n')}
`;
}

function rowOf({ point, removes, edits, test }: Mutation, { test: title, said }: Result): string {
  const files = [...new Set(edits.map(({ file }) => file))].map(code).join('<br>');
  const texts = edits.map(({ find }) => code(find)).join('<br>');
  const after = edits.map(({ replace }) => (replace === '' ? 'nothing' : code(replace))).join('<br>');
  const failed = code(`${test.file} › ${title}`);
  return `| ${point} | ${plain(removes)} | ${files} | ${texts} | ${after} | ${failed} | ${code(said)} |`;
}

const plain = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', '⏎').trim();

/** As a code span of a table's cell. */
function code(text: string): string {
  // Backticks cannot be escaped in a code span; a longer run of them around it is the way.
  const shown = plain(text.trim().replace(/\s*\n\s*/g, ' ⏎ '));
  const quote = shown.includes('`') ? '``' : '`';
  return shown.startsWith('`') || shown.endsWith('`') ? `${quote} ${shown} ${quote}` : quote + shown + quote;
}
