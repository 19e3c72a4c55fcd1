/** `image diff`: what differs between two images, down to the line. */
import { type Entry, type ImageContents, withImage } from '../../guest/image/contents.ts';
import { type Change, compareImages, isEmpty, unexplained } from '../../guest/image/difference.ts';
import { MAX_TEXT_BYTES, textDifference } from '../../guest/image/text-difference.ts';
import { answer } from '../answers.ts';
import { type Command, narration, narrationOptions } from '../command.ts';

export const diffCommand: Command = {
  name: 'image diff',
  summary: 'lists what differs between two images: packages, files, lines; exit code 1 when anything does',
  positionals: ['IMAGE', 'OTHER'],
  options: narrationOptions,
  async run(args) {
    const [a, b] = args.positionals as [string, string];
    const difference = await tellImageDifference(a, b, narration(args));
    const identical = isEmpty(difference);
    const { facts, commandLine, parts, packages, root, initramfs } = difference;
    answer(args, 'image diff', {
      identical,
      facts: facts.map(whole),
      commandLine: commandLine.map(whole),
      parts: parts.map(whole),
      packages: packages?.map(whole) ?? null,
      root: root.map(entries),
      initramfs: initramfs.map(entries),
      unexplained: identical ? [] : unexplained(difference),
    });
    if (!identical) process.exitCode = 1;
  },
};

type Say = (...lines: readonly string[]) => void;
type Difference = ReturnType<typeof compareImages>;

/** Says how the images in two folders differ. */
export async function tellImageDifference(a: string, b: string, say: Say): Promise<Difference> {
  return withImage(a, (one) => withImage(b, (other) => report(one, other, say)));
}

async function report(a: ImageContents, b: ImageContents, say: Say): Promise<Difference> {
  const difference = compareImages(a, b);
  if (isEmpty(difference)) {
    say(`no difference: ${a.root.size} files of the root, ${a.initramfs.size} of the initramfs`);
    return difference;
  }
  const { facts, commandLine, parts, packages, root, initramfs } = difference;
  section(say, 'image.json', facts, (value) => value);
  section(say, 'kernel command line', commandLine, (value) => value);
  section(say, 'parts', parts, ({ sha256, size }) => `${sha256}  ${size} bytes`);
  if (packages === undefined) say('', 'packages: one of the images has no packages.lock');
  else section(say, 'packages', packages, ({ version, sha256 }) => `${version}  ${sha256}`);
  await files('root', root, say);
  await files('initramfs', initramfs, say);
  const rest = unexplained(difference);
  if (rest.length > 0) say('', 'not listed above:', ...rest.map((line) => `  ${line}`));
  return difference;
}

function section<Value>(
  say: Say,
  title: string,
  list: readonly Change<Value>[],
  show: (value: Value) => string,
): void {
  if (list.length === 0) return;
  say('', `${title}: ${list.length} of them differ`);
  for (const { name, before, after } of list) {
    if (before !== undefined) say(`- ${name.padEnd(24)} ${show(before)}`);
    if (after !== undefined) say(`+ ${name.padEnd(24)} ${show(after)}`);
  }
}

async function files(title: string, list: readonly Change<Entry>[], say: Say): Promise<void> {
  if (list.length === 0) return;
  say('', `files of the ${title}: ${list.length} of them differ`);
  for (const { name, before, after } of list) {
    const mark = before === undefined ? '+' : after === undefined ? '-' : '~';
    say(
      `${mark} ${name}  ${[before, after]
        .filter((entry) => entry !== undefined)
        .map(describe)
        .join('  ->  ')}`,
    );
    if (before?.kind !== 'file' || after?.kind !== 'file' || before.content === after.content) continue;
    const lines = await textDifference(await before.read(MAX_TEXT_BYTES), await after.read(MAX_TEXT_BYTES));
    for (const line of lines ?? []) say(`    ${line}`);
  }
}

const whole = <Value>({ name, before, after }: Change<Value>) => ({
  name,
  before: before ?? null,
  after: after ?? null,
});

/** An entry as JSON has it: what it is, and not what reads it. */
const entries = ({ name, before, after }: Change<Entry>) =>
  whole({
    name,
    ...(before !== undefined && { before: plain(before) }),
    ...(after !== undefined && { after: plain(after) }),
  });

const plain = ({ kind, mode, owner, attributes, size, content }: Entry) => ({
  ...{ kind, mode: mode.toString(8).padStart(4, '0'), owner },
  ...{ attributes, size, content },
});

function describe({ kind, mode, owner, attributes, size, content }: Entry): string {
  const more = attributes === '' ? '' : ` attributes ${attributes}`;
  const bits = `${mode.toString(8).padStart(4, '0')} ${owner}${more}`;
  if (kind === 'file') return `${bits} ${size} bytes ${content.slice(0, 16)}`;
  return kind === 'link' ? `-> ${content}` : `${kind} ${bits}`;
}
