/** What is new in a release, out of CHANGELOG.md: the section of its version, or what has none yet. */
import { DstackError } from '../../lib/protocol/errors.ts';

/** @throws RELEASE_NOTES when there is neither section */
export function notesOf(changelog: string, version: string): string {
  const sections = changelog.split(/^## /m).slice(1);
  const titled = (title: string) =>
    sections.find((section) => section.split('\n')[0]!.split(' ')[0] === title);
  const found = titled(version) ?? titled('Unreleased');
  if (found === undefined)
    throw new DstackError(
      'RELEASE_NOTES',
      `CHANGELOG.md has no section "## ${version}", nor "## Unreleased"`,
    );
  const [, ...lines] = found.split('\n');
  return `# Dstack ${version}\n\n${lines.join('\n').trim()}\n`;
}
