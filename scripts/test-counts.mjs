/** How the runs of one project of vitest.config.ts count for `npm test`. */

/**
 * Tests that start many processes can fail because a machine is busy, so a few files that failed are run once more, by themselves; what
 * only passes then is named as unsteady. An error outside of any test counts in whichever run it was: nobody can say that it was chance.
 *
 * @param first a run of all files: the runner's exit status, what it says of each file, and texts of errors outside of any test
 * @param second a run of files that failed in the first, if there was one
 * @returns counts, and notes of what is to be said at the end
 */
export function tally(project, first, second) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const notes = [];
  const files = first.files.map((file) => second?.files.find(({ name }) => name === file.name) ?? file);
  for (const file of files) {
    counts.passed += file.passed;
    counts.skipped += file.skipped;
    counts.failed += file.failed;
    notes.push(...file.said);
  }
  for (const text of new Set([...first.unhandled, ...(second?.unhandled ?? [])])) {
    counts.failed += 1;
    notes.push(`FAILED ${project}: outside of any test\n${firstLines([text])}`);
  }
  const { status } = second ?? first;
  if (status !== 0 && counts.failed === 0) {
    counts.failed += 1;
    notes.push(`FAILED ${project}: the runner ended with status ${status}`);
  }
  for (const { name, failed, said } of first.files)
    if (failed > 0 && files.find((file) => file.name === name).failed === 0)
      notes.push(...said.map((line) => line.replace(/^FAILED/, 'UNSTEADY, passed when run once more:')));
  return { ...counts, notes };
}

export function firstLines(messages) {
  return messages
    .join('\n')
    .split('\n')
    .slice(0, 6)
    .map((line) => `  ${line.slice(0, 300)}`)
    .join('\n');
}
