/** What differs between two images, from the outside in: measurement, command line, parts, packages, files. */
import type { Entry, ImageContents } from './contents.ts';
import type { LockedPackage } from './packages.ts';

/** Something that only one image has (`before` or `after` is absent), or that differs. */
export interface Change<Value> {
  readonly name: string;
  readonly before?: Value;
  readonly after?: Value;
}

export interface ImageDifference {
  /** Fields of image.json: flavour, builtAt, kernelRelease, rootHash, measurement and so on. */
  readonly facts: readonly Change<string>[];
  /** Words of the kernel command line. */
  readonly commandLine: readonly Change<string>[];
  readonly parts: readonly Change<{ readonly sha256: string; readonly size: number }>[];
  /** Absent when one of the images came without its package list. */
  readonly packages?: readonly Change<LockedPackage>[];
  readonly root: readonly Change<Entry>[];
  readonly initramfs: readonly Change<Entry>[];
}

export function compareImages(a: ImageContents, b: ImageContents): ImageDifference {
  return {
    facts: changes(factsOf(a), factsOf(b), (x, y) => x === y),
    commandLine: changes(wordsOf(a), wordsOf(b), (x, y) => x === y),
    parts: changes(a.parts, b.parts, (x, y) => x.sha256 === y.sha256),
    ...(a.packages !== undefined &&
      b.packages !== undefined && {
        packages: changes(
          packagesByName(a.packages),
          packagesByName(b.packages),
          (x, y) => x.sha256 === y.sha256,
        ),
      }),
    root: changes(a.root, b.root, sameEntry),
    initramfs: changes(a.initramfs, b.initramfs, sameEntry),
  };
}

export function isEmpty(difference: ImageDifference): boolean {
  return Object.values(difference).every((list: readonly unknown[]) => list.length === 0);
}

/** Parts that differ although their contents do not, and where the difference must then be. */
export function unexplained({ parts, root, initramfs }: ImageDifference): string[] {
  const inside: Readonly<Record<string, readonly unknown[]>> = {
    'root.img': root,
    'initramfs.cpio.zst': initramfs,
  };
  return parts
    .map(({ name }) => name)
    .filter((name) => (inside[name] ?? []).length === 0)
    .map((name) =>
      name in inside
        ? `${name} differs, although no file in it does: the order, compression or times differ, or what lies between or behind the files`
        : `${name} differs; its contents are not compared`,
    );
}

function sameEntry(x: Entry, y: Entry): boolean {
  return (
    x.kind === y.kind &&
    x.mode === y.mode &&
    x.owner === y.owner &&
    x.attributes === y.attributes &&
    x.content === y.content
  );
}

function factsOf({ manifest }: ImageContents): Map<string, string> {
  const { files, commandLine, defaultShape, ...facts } = manifest;
  const shape = `${defaultShape.cpus} processors, ${defaultShape.memoryMiB} MiB`;
  return new Map([
    ...Object.entries(facts).map(([name, value]): [string, string] => [name, String(value)]),
    ['defaultShape', shape],
  ]);
}

/** By the name before `=`; a word that occurs twice counts as two. */
function wordsOf({ manifest }: ImageContents): Map<string, string> {
  const words = new Map<string, string>();
  for (const word of manifest.commandLine.split(' ')) {
    let name = word.split('=')[0]!;
    while (words.has(name)) name += "'";
    words.set(name, word);
  }
  return words;
}

function packagesByName(packages: readonly LockedPackage[]): Map<string, LockedPackage> {
  return new Map(packages.map((locked) => [`${locked.root} ${locked.name}`, locked]));
}

function changes<Value>(
  a: ReadonlyMap<string, Value>,
  b: ReadonlyMap<string, Value>,
  same: (x: Value, y: Value) => boolean,
): Change<Value>[] {
  return [...new Set([...a.keys(), ...b.keys()])].toSorted().flatMap((name): Change<Value>[] => {
    const [before, after] = [a.get(name), b.get(name)];
    if (before !== undefined && after !== undefined && same(before, after)) return [];
    return [{ name, ...(before !== undefined && { before }), ...(after !== undefined && { after }) }];
  });
}
