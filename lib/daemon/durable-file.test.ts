import { spawnSync } from 'node:child_process';
import fs, {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { dropDrafts, fillDurably, writeDurably } from './durable-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-durable-'));
  path = join(folder, 'file.json');
});
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  rmSync(folder, { recursive: true, force: true });
});

test('a file is made, and replaced; nothing else stays in the folder', async () => {
  writeDurably(path, 'one');
  expect(readFileSync(path, 'utf8')).toBe('one');
  writeDurably(path, new Uint8Array([1, 2]));
  expect([...readFileSync(path)]).toEqual([1, 2]);
  await fillDurably(path, async (draft) => writeFileSync(draft, 'three'));
  expect(readFileSync(path, 'utf8')).toBe('three');
  expect(readdirSync(folder)).toEqual(['file.json']);
});

test('its mode is the one that was asked for, whatever the umask or the file before it; a copy keeps its own', async () => {
  const umask = process.umask(0o077);
  try {
    writeDurably(path, '', 0o644);
    expect(statSync(path).mode & 0o777).toBe(0o644);
    writeDurably(path, '', 0o600);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    writeFileSync(join(folder, 'source'), '', { mode: 0o400 });
    await fillDurably(path, async (draft) => copyFileSync(join(folder, 'source'), draft));
    expect(statSync(path).mode & 0o777).toBe(0o400);
  } finally {
    process.umask(umask);
  }
});

/** The calls that decide what a power cut leaves, with the name of the file each is about. */
function recorded(): string[] {
  const calls: string[] = [];
  const names = new Map<number, string>();
  const say = (name: string, file: string) =>
    calls.push(`${name} ${file === folder ? 'folder' : file === path ? 'file' : 'draft'}`);
  const { openSync, fsyncSync, renameSync, writeFileSync: write } = fs;
  vi.spyOn(fs, 'openSync').mockImplementation((file, ...rest) => {
    const descriptor = openSync(file, ...rest);
    names.set(descriptor, String(file));
    return descriptor;
  });
  vi.spyOn(fs, 'writeFileSync').mockImplementation((file, ...rest) => {
    say('write', String(file));
    write(file, ...rest);
  });
  vi.spyOn(fs, 'fsyncSync').mockImplementation((descriptor) => {
    say('fsync', names.get(descriptor)!);
    fsyncSync(descriptor);
  });
  vi.spyOn(fs, 'renameSync').mockImplementation((from, to) => {
    say('rename', String(to));
    renameSync(from, to);
  });
  syncBuiltinESMExports();
  return calls;
}

test('the bytes reach the disk before the name does, and the name before it returns', async () => {
  const calls = recorded();
  const all = ['write draft', 'fsync draft', 'rename file', 'fsync folder'];
  writeDurably(path, 'one');
  expect(calls.splice(0)).toEqual(all);
  await fillDurably(path, async (draft) => fs.writeFileSync(draft, 'two'));
  expect(calls).toEqual(all);
});

test.each(['writeFileSync', 'fsyncSync', 'renameSync'] as const)(
  'when %s fails, the file is what it was and no draft stays',
  (name) => {
    writeDurably(path, 'one');
    vi.spyOn(fs, name).mockImplementation(() => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    });
    syncBuiltinESMExports();
    expect(() => writeDurably(path, 'two')).toThrowError(expect.objectContaining({ code: 'ENOSPC' }));
    expect(readdirSync(folder)).toEqual(['file.json']);
    expect(readFileSync(path, 'utf8')).toBe('one');
  },
);

test('a copy that fails leaves the file as it was and no draft', async () => {
  writeDurably(path, 'one');
  const fill = async (draft: string) => {
    writeFileSync(draft, 'half');
    throw new Error('the disk is full');
  };
  await expect(fillDurably(path, fill)).rejects.toThrow('the disk is full');
  expect(readdirSync(folder)).toEqual(['file.json']);
  expect(readFileSync(path, 'utf8')).toBe('one');
});

/** A process that is killed at the n-th of the calls above, and whether it was. */
function killedAt(point: number): boolean {
  const script = `import ${JSON.stringify(new URL('../../test/torture/kill-point.ts', import.meta.url).href)};
    const { writeDurably } = await import(${JSON.stringify(new URL('durable-file.ts', import.meta.url).href)});
    writeDurably(process.argv[1], 'two');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script, path], {
    env: { ...process.env, TORTURE_KILL_AT: String(point) },
  });
  return signal === 'SIGKILL';
}

test('killed at any point, a writer leaves the old file or the new one; its draft goes in time', () => {
  const left = new Set<string>();
  let point = 1;
  for (; ; point += 1) {
    writeDurably(path, 'one');
    if (!killedAt(point)) break;
    left.add(readFileSync(path, 'utf8'));
    const drafts = readdirSync(folder).filter((name) => name !== 'file.json');
    dropDrafts(folder);
    expect(readdirSync(folder)).toEqual(['file.json', ...drafts].sort());
    dropDrafts(folder, Date.now() + 120_000);
    expect(readdirSync(folder)).toEqual(['file.json']);
  }
  expect(point).toBeGreaterThan(8);
  expect([...left].sort()).toEqual(['one', 'two']);
}, 300_000);

test('only drafts are dropped, and only old ones', () => {
  const old = ['file.json.17.draft', 'file.json', 'file.draft', 'file.json.17.new', '17.draft.json'];
  for (const name of [...old, 'file.json.18.draft']) writeFileSync(join(folder, name), '');
  const hourAgo = Date.now() / 1000 - 3600;
  for (const name of old) utimesSync(join(folder, name), hourAgo, hourAgo);
  dropDrafts(folder);
  expect(readdirSync(folder).sort()).toEqual(
    ['17.draft.json', 'file.draft', 'file.json', 'file.json.17.new', 'file.json.18.draft'].sort(),
  );
});

test('the draft of an earlier process with the same id is no obstacle, and no link is followed', () => {
  const target = join(folder, 'elsewhere');
  writeFileSync(target, 'untouched');
  fs.symlinkSync(target, `${path}.${process.pid}.draft`);
  writeDurably(path, 'one');
  expect(readFileSync(target, 'utf8')).toBe('untouched');
  expect(readFileSync(path, 'utf8')).toBe('one');
  expect(existsSync(`${path}.${process.pid}.draft`)).toBe(false);
});

test('a folder that is not there is an error of the file system', () => {
  expect(() => writeDurably(join(folder, 'none/file'), '')).toThrowError(
    expect.objectContaining({ code: 'ENOENT' }),
  );
});
