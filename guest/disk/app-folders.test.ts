/** On a plain folder as the disk's root; what sets projects and limits is recorded, and run in a VM (test/vm/hostile-app.ts). */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { AppFolders } from './app-folders.ts';

const asked: string[] = [];
vi.mock('./system.ts', () => ({
  run: async (command: string, args: readonly string[]) => void asked.push([command, ...args].join(' ')),
}));

let disk: string;
const modeOf = (path: string) => statSync(path).mode & 0o7777;
const volume = { container: 'db', path: '/var/lib/db', mebibytes: 3 };

beforeEach(() => {
  disk = mkdtempSync(join(tmpdir(), 'dstack-folders-'));
  asked.length = 0;
});
afterEach(() => rmSync(disk, { recursive: true }));

async function folders(limited = true): Promise<AppFolders> {
  const made = new AppFolders(disk, limited);
  await made.prepare();
  return made;
}

test("what a container does to its folder leaves it within one of root's, and is left as it is", async () => {
  const made = await folders();
  const { folder } = await made.folder({ app: 'greeting' });
  expect(folder).toBe(join(disk, 'volumes/greeting/data'));
  expect(modeOf(folder)).toBe(0o777);
  chmodSync(folder, 0o500);
  expect(await made.folder({ app: 'greeting' })).toEqual({ folder });
  expect(modeOf(folder)).toBe(0o500);
  expect(modeOf(join(disk, 'volumes'))).toBe(0o700);
  expect(modeOf(join(disk, 'volumes/greeting'))).toBe(0o700);
});

test('each folder is a project with a limit: what its manifest says, else half of the disk', async () => {
  const made = await folders();
  const own = await made.folder({ app: 'greeting' });
  const { folder } = await made.folder({ app: 'greeting', volume });
  await made.folder({ app: 'greeting', volume: { ...volume, path: '/other' } });
  await made.folder({ app: 'greeting', volume: { ...volume, container: 'web' } });
  expect(folder).toMatch(/\/volumes\/greeting\/db@[0-9a-f]{64}$/);
  const projects = asked.filter((line) => line.startsWith('chattr'));
  expect(new Set(projects).size).toBe(4);
  expect(projects[1]).toBe(`chattr -p ${statSync(folder).ino} +P ${folder}.part`);
  const { blocks, bsize } = statfsSync(disk);
  const limits = asked.filter((line) => line.startsWith('setquota'));
  expect(limits[0]).toContain(
    `setquota -P ${statSync(own.folder).ino} 0 ${Math.floor((blocks * bsize) / 2048)} 0 `,
  );
  expect(limits[1]).toMatch(new RegExp(`^setquota -P ${statSync(folder).ino} 0 3072 0 \\d+ ${disk}$`));
});

test('a limit that changed is set again; the folder is the same', async () => {
  const made = await folders();
  const { folder } = await made.folder({ app: 'greeting', volume });
  writeFileSync(join(folder, 'note'), 'kept');
  const again = await made.folder({ app: 'greeting', volume: { ...volume, mebibytes: 9 } });
  expect(again.folder).toBe(folder);
  expect(readFileSync(join(folder, 'note'), 'utf8')).toBe('kept');
  expect(asked.at(-1)).toContain(' 0 9216 0 ');
  expect(asked.filter((line) => line.startsWith('chattr'))).toHaveLength(1);
});

test("an earlier release's folder is taken over, with whatever modes the app left it; nothing holds it to a size", async () => {
  mkdirSync(join(disk, 'apps/greeting'), { recursive: true });
  writeFileSync(join(disk, 'apps/greeting/note'), 'was here first');
  chmodSync(join(disk, 'apps/greeting'), 0o000);
  const made = await folders(false);
  const { folder } = await made.folder({ app: 'greeting' });
  expect(readFileSync(join(folder, 'note'), 'utf8')).toBe('was here first');
  expect(existsSync(join(disk, 'apps/greeting'))).toBe(false);
  // The app can put nothing there that would be taken over next time.
  mkdirSync(join(disk, 'apps/greeting'));
  await made.folder({ app: 'greeting' });
  expect(readFileSync(join(folder, 'note'), 'utf8')).toBe('was here first');
  expect(asked).toEqual([]);
});

test('a volume on a disk that holds nothing to a size is refused', async () => {
  const made = await folders(false);
  await expect(made.folder({ app: 'greeting', volume })).rejects.toMatchObject({ code: 'DISK_NO_QUOTA' });
  expect(existsSync(join(disk, 'volumes/greeting'))).toBe(false);
});
