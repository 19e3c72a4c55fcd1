/** `image diff`: what differs between two images, down to the line. */
import { type Entry, type ImageContents, withImage } from '../../guest/image/contents.ts';
import { type Change, compareImages, isEmpty, unexplained } from '../../guest/image/difference.ts';
import { MAX_TEXT_BYTES, textDifference } from '../../guest/image/text-difference.ts';
import { print } from '../../lib/daemon/terminal.ts';
import type { Command } from '../command.ts';

export const diffCommand: Command = {
  name: 'image diff',
  summary: 'lists what differs between two images: packages, files, lines; exit code 1 when anything does',
  positionals: ['IMAGE', 'OTHER'],
  options: {},
  async run(args) {
    const [a, b] = args.positionals as [string, string];
    if (!(await printImageDifference(a, b))) process.exitCode = 1;
  },
};

/** Prints how the images in two folders differ; true when they do not. */
export async function printImageDifference(a: string, b: string): Promise<boolean> {
  return withImage(a, (one) => withImage(b, (other) => report(one, other)));
}

async function report(a: ImageContents, b: ImageContents): Promise<boolean> {
  const difference = compareImages(a, b);
  if (isEmpty(difference)) {
    print(`no difference: ${a.root.size} files of the root, ${a.initramfs.size} of the initramfs`);
    return true;
  }
  const { facts, commandLine, parts, packages, root, initramfs } = difference;
  section('image.json', facts, (value) => value);
  section('kernel command line', commandLine, (value) => value);
  section('parts', parts, ({ sha256, size }) => `${sha256}  ${size} bytes`);
  if (packages === undefined) print('', 'packages: one of the images has no packages.lock');
  else section('packages', packages, ({ version, sha256 }) => `${version}  ${sha256}`);
  await files('root', root);
  await files('initramfs', initramfs);
  const rest = unexplained(difference);
  if (rest.length > 0) print('', 'not listed above:', ...rest.map((line) => `  ${line}`));
  return false;
}

function section<Value>(title: string, list: readonly Change<Value>[], show: (value: Value) => string): void {
  if (list.length === 0) return;
  print('', `${title}: ${list.length} of them differ`);
  for (const { name, before, after } of list) {
    if (before !== undefined) print(`- ${name.padEnd(24)} ${show(before)}`);
    if (after !== undefined) print(`+ ${name.padEnd(24)} ${show(after)}`);
  }
}

async function files(title: string, list: readonly Change<Entry>[]): Promise<void> {
  if (list.length === 0) return;
  print('', `files of the ${title}: ${list.length} of them differ`);
  for (const { name, before, after } of list) {
    const mark = before === undefined ? '+' : after === undefined ? '-' : '~';
    print(
      `${mark} ${name}  ${[before, after]
        .filter((entry) => entry !== undefined)
        .map(describe)
        .join('  ->  ')}`,
    );
    if (before?.kind !== 'file' || after?.kind !== 'file' || before.content === after.content) continue;
    const lines = await textDifference(await before.read(MAX_TEXT_BYTES), await after.read(MAX_TEXT_BYTES));
    for (const line of lines ?? []) print(`    ${line}`);
  }
}

function describe({ kind, mode, owner, attributes, size, content }: Entry): string {
  const more = attributes === '' ? '' : ` attributes ${attributes}`;
  const bits = `${mode.toString(8).padStart(4, '0')} ${owner}${more}`;
  if (kind === 'file') return `${bits} ${size} bytes ${content.slice(0, 16)}`;
  return kind === 'link' ? `-> ${content}` : `${kind} ${bits}`;
}
