/** `image reproduce`: two builds in different circumstances, compared bit by bit. */
import { existsSync, readFileSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { sha256File } from '../../guest/image/download.ts';
import { checkMirror, fetchMirror } from '../../guest/image/local-mirror.ts';
import { lockFile } from '../../guest/image/lock.ts';
import { findMirrors } from '../../guest/image/mirrors.ts';
import { parseLock } from '../../guest/image/packages.ts';
import {
  type Built,
  buildAgain,
  buildApart,
  circumstances,
  differences,
  type ReproduceOptions,
} from '../../guest/image/reproduce.ts';
import { parseImageManifest } from '../../lib/protocol/image.ts';
import { type Flavour, flavours } from '../../lib/protocol/network-config.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { flavourOf } from '../flavour.ts';
import { repository } from '../repository.ts';
import { tellImageDifference } from './image-diff.ts';

export const reproduceCommand: Command = {
  name: 'image reproduce',
  summary: 'builds the image twice, in different folders and circumstances, and compares bit by bit',
  options: {
    flavour: { value: 'FLAVOUR', help: flavours.join(', '), default: 'sim' },
    against: { value: 'IMAGE', help: 'an image that the builds must equal too' },
    mirror: { value: 'DIR', help: 'the local mirror', default: join(repository, 'build/mirror') },
    work: {
      value: 'DIR',
      help: 'where to build; emptied first, needs 5 GB',
      default: join(repository, 'build/reproduce'),
    },
    keep: { help: 'leave both builds there' },
    ...narrationOptions,
  },
  async run(args) {
    const flavour = flavourOf(args);
    const against = args.optional('against');
    if (against !== undefined && !existsSync(join(against, 'image.json'))) {
      throw new UsageError(`--against: there is no image in ${against}`);
    }
    const same = await reproduce(
      flavour,
      { mirror: resolve(args.text('mirror')), work: resolve(args.text('work')) },
      against,
      args,
    );
    if (!same) process.exitCode = 1;
  },
};

async function reproduce(
  flavour: Flavour,
  folders: { readonly mirror: string; readonly work: string },
  against: string | undefined,
  args: Arguments,
): Promise<boolean> {
  const say = narration(args);
  const fetched = await ensureMirror(folders.mirror, say);
  await rm(folders.work, { recursive: true, force: true });
  const [one, other] = circumstances;
  const options = (name: string): ReproduceOptions => ({
    repository,
    ...folders,
    flavour,
    progress: (line) => say(`${name} | ${line}`),
  });
  const first = await buildApart(one, options('first, cold '));
  const second = await buildApart(other, options('second, cold'));
  const warm = await buildAgain(one, options('first, warm '));

  say('');
  for (const [name, { size, sha256 }] of first.files) {
    say(`${name.padEnd(20)} ${(size / 1e6).toFixed(1).padStart(7)} MB  ${sha256}`);
  }
  const total = [...first.files.values()].reduce((sum, { size }) => sum + size, 0);
  const manifest = parseImageManifest(readFileSync(join(first.folder, 'image.json'), 'utf8'));
  say(`${'in all'.padEnd(20)} ${(total / 1e6).toFixed(1).padStart(7)} MB`);
  say(`measurement          ${manifest.measurement} (simulated platform, default shape)`);
  say(`fetching             ${fetched}`);
  const builds = [
    ['first, cold', first, one],
    ['second, cold', second, other],
    ['first, warm', warm, one],
  ] as const;
  for (const [what, built, how] of builds) {
    say(
      `${what.padEnd(20)} ${built.seconds.toFixed(1).padStart(6)} s  umask ${how.umask}, ${how.language}, ${how.timeZone}, ${how.offline ? 'network cut off' : 'network there'}`,
    );
  }

  const given = against === undefined ? [] : [['the given image', await asBuilt(against, first)] as const];
  const different: Record<string, readonly string[]> = {};
  for (const [name, built] of [
    ['the second build', second] as const,
    ['the warm build', warm] as const,
    ...given,
  ]) {
    const files = differences(first, built);
    if (files.length === 0) {
      say(`IDENTICAL  the first build and ${name}, ${first.files.size} files`);
      continue;
    }
    different[name] = files;
    say(`DIFFERENT  the first build and ${name}: ${files.join(', ')}`);
    await tellImageDifference(first.folder, built.folder, say);
  }
  const same = Object.keys(different).length === 0;
  if (same && !args.flag('keep')) await rm(folders.work, { recursive: true, force: true });
  else say(`the builds are in ${folders.work}`);
  answer(args, 'image reproduce', {
    flavour,
    identical: same,
    measurement: manifest.measurement,
    files: Object.fromEntries([...first.files].map(([name, { sha256 }]) => [name, sha256])),
    builds: builds.map(([what, { seconds }]) => ({ what, seconds })),
    different,
  });
  return same;
}

/** A mirror that is whole is taken as it is. */
async function ensureMirror(mirror: string, say: (line: string) => void): Promise<string> {
  const lock = parseLock(readFileSync(lockFile, 'utf8'));
  const start = performance.now();
  const there = await checkMirror(lock, mirror).catch(() => undefined);
  if (there !== undefined) return `not needed: ${mirror} is whole`;
  await fetchMirror(lock, findMirrors(), mirror, join(repository, '.cache/debs'), say);
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

/** Another image's files, those that the build has. */
async function asBuilt(folder: string, like: Built): Promise<Built> {
  const files = new Map<string, { sha256: string; size: number }>();
  for (const name of like.files.keys()) {
    const file = join(folder, name);
    if (existsSync(file)) files.set(name, { sha256: await sha256File(file), size: (await stat(file)).size });
  }
  return { folder, seconds: 0, files };
}
