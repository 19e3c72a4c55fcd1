/**
 * Point 11: what the host does to the data disk before boot, and that nothing but a blank disk together with an explicit
 * `create` is ever formatted. The disk is a file; device-mapper and mkfs are recorded, not run.
 */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test, vi } from 'vitest';
import { bringUpDisk } from '../../guest/disk/disk.ts';
import { AREA_OFFSET, SUPERBLOCK_BYTES } from '../../guest/disk/superblock.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { diskKey } from '../../lib/protocol/keys.ts';
import type { DiskStatusReply } from '../../lib/protocol/sockets.ts';
import { secretOf } from '../support/forge.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-trust-disk-'));
const disk = join(folder, 'disk');
const SIZE = 33 * 1024 * 1024;
/** What the system was asked to do: programs by name, devices by `map <name>`. */
const asked: string[] = [];

vi.mock('../../guest/disk/system.ts', async (original) => {
  const { statSync, existsSync } = await import('node:fs');
  const actual = await original<typeof import('../../guest/disk/system.ts')>();
  return {
    ...actual,
    findDisk: () => (existsSync(disk) ? { path: disk, bytes: statSync(disk).size } : undefined),
    run: async (command: string) => void asked.push(command),
    attachLoop: async (file: string) => file,
    createDevice: async (name: string) => {
      asked.push(`map ${name}`);
      if (name !== 'dstack-sealed') return;
      // The kernel writes its superblock on the first activation.
      const superblock = new Uint8Array(4096);
      superblock.set(utf8('integrt\0'));
      new DataView(superblock.buffer).setBigUint64(16, 60_000n, true);
      await actual.writeAt(join(folder, 'integrity-superblock'), 0, superblock);
    },
    hasProjectQuotas: async () => true,
    removeDevice: async () => {},
    writeZeros: async () => {},
  };
});

beforeEach(() => {
  asked.length = 0;
  rmSync(disk, { force: true });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Boots the disk as a node of the network with this secret would; the last status. */
async function boot(mayCreate: boolean, secret = secretOf("this network's")): Promise<DiskStatusReply> {
  let status: DiskStatusReply = { state: 'absent' };
  await bringUpDisk({
    owners: {},
    serial: 'dstack-data',
    runDirectory: folder,
    mountPoint: join(folder, 'mnt'),
    mayCreate,
    keyOf: async (diskId, epoch = 1) => ({ epoch, key: diskKey(secret, epoch, diskId) }),
    report: (next) => {
      status = next;
    },
  });
  return status;
}

function blank(): void {
  writeFileSync(disk, '');
  truncateSync(disk, SIZE);
}

/** A disk that this network formatted; its bytes. */
async function formatted(secret?: Uint8Array): Promise<Buffer> {
  blank();
  expect(await boot(true, secret)).toMatchObject({ state: 'ready' });
  expect(asked).toContain('mkfs.ext4');
  asked.length = 0;
  return readFileSync(disk);
}

test('11: a disk without a superblock is an error, and is left as it is', async () => {
  blank();
  expect(await boot(false)).toMatchObject({ state: 'failed', code: 'DISK_NO_SUPERBLOCK' });
  expect(asked).toEqual([]);
  expect(readFileSync(disk).every((byte) => byte === 0)).toBe(true);
});

test("11: `create` formats nothing that is not blank: not garbage, not a stranger's disk, not a bit in the first MiB", async () => {
  for (const [at, what] of [
    [0, 'LUKS\xba\xbe'],
    [1080, '\x53\xef'],
    [AREA_OFFSET - 1, 'x'],
  ] as const) {
    blank();
    const bytes = readFileSync(disk);
    bytes.write(what, at, 'latin1');
    writeFileSync(disk, bytes);
    expect(await boot(true)).toMatchObject({ state: 'failed', code: 'DISK_NO_SUPERBLOCK' });
    expect(asked).toEqual([]);
    expect(readFileSync(disk).equals(bytes)).toBe(true);
  }
});

test('11: a disk of ours is opened again, never formatted, even with `create`; a zeroed header never passes for one', async () => {
  const bytes = await formatted();
  const { diskId } = await boot(true);
  expect(await boot(true)).toMatchObject({ state: 'ready', diskId });
  expect(asked).not.toContain('mkfs.ext4');

  bytes.fill(0, 0, SUPERBLOCK_BYTES);
  writeFileSync(disk, bytes);
  asked.length = 0;
  expect(await boot(false)).toMatchObject({ state: 'failed', code: 'DISK_NO_SUPERBLOCK' });
  expect(asked).toEqual([]);
});

test.each<[string, number]>([
  ['its id', 16],
  ['its epoch', 39],
  ['its length', 47],
  ["dm-integrity's superblock", 4096 + 16],
  ['its MAC', 4095],
])('11: a header with %s changed is refused before anything is mapped', async (_, at) => {
  const bytes = await formatted();
  bytes[at] = bytes[at]! ^ 1;
  writeFileSync(disk, bytes);
  expect(await boot(true)).toMatchObject({ state: 'failed', code: 'DISK_UNAUTHENTIC' });
  expect(asked).toEqual([]);
});

test('11: a disk of another network, and one that was cut short, are refused before anything is mapped', async () => {
  await formatted(secretOf("another network's"));
  expect(await boot(true)).toMatchObject({ state: 'failed', code: 'DISK_UNAUTHENTIC' });
  await formatted();
  truncateSync(disk, SIZE / 2);
  expect(await boot(true)).toMatchObject({ state: 'failed', code: 'DISK_TOO_SMALL' });
  expect(asked).toEqual([]);
});

test("11: another node's disk put in this one's place has another id, which shows", async () => {
  await formatted();
  const first = await boot(false);
  await formatted();
  const second = await boot(false);
  expect([first.state, second.state]).toEqual(['ready', 'ready']);
  expect(second.diskId).not.toBe(first.diskId);
});
