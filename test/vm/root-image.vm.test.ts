/**
 * The root image changed by a host: one bit in the data or in the hash tree, or the file truncated. The VM stops before it uses
 * what was changed: dm-verity panics, and a panic ends the machine.
 */
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startVm, type Vm } from '../../host/vm/vm.ts';
import { image } from '../../scripts/demo/network.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';

const BLOCK = 4096;
const directory = mkdtempSync(join(tmpdir(), 'dstack-root-'));
const running: Vm[] = [];
let blocks: number;

beforeAll(() => {
  const { commandLine } = JSON.parse(readFileSync(join(image, 'image.json'), 'utf8')) as {
    commandLine: string;
  };
  blocks = Number(/dstack\.blocks=(\d+)/.exec(commandLine)![1]);
});
afterAll(async () => {
  for (const vm of running) await vm.kill();
  rmSync(directory, { recursive: true, force: true });
});

function flip(file: string, at: number): void {
  const descriptor = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(descriptor, byte, 0, 1, at);
  writeSync(descriptor, Buffer.from([byte[0]! ^ 4]), 0, 1, at);
  closeSync(descriptor);
}

/** Boots the image with a root that `spoil` has changed; resolves with the console's output. */
async function boot(name: string, spoil: (root: string) => void): Promise<string> {
  const folder = join(directory, name);
  mkdirSync(join(folder, 'image'), { recursive: true });
  mkdirSync(join(folder, 'volume'));
  for (const file of ['image.json', 'vmlinuz', 'initramfs.cpio.zst', 'firmware.bin'])
    symlinkSync(join(image, file), join(folder, 'image', file));
  const root = join(folder, 'image/root.img');
  copyFileSync(join(image, 'root.img'), root);
  spoil(root);
  writeFileSync(join(folder, 'volume/network.json'), '{}');
  const vm = await startVm({
    imageFolder: join(folder, 'image'),
    hostVolume: join(folder, 'volume'),
    stateFolder: join(folder, 'vm'),
    platformStateFile: join(directory, 'platform'),
  });
  running.push(vm);
  let over = false;
  void vm.exited.then(() => {
    over = true;
  });
  const text = () => readFileSync(vm.consoleLog, 'utf8');
  await waitFor(
    `the VM with ${name} to end`,
    async () => over || undefined,
    800,
    () => text().slice(-500),
  );
  const shown = text().trim();
  say(`${name}, as the console showed it:\n${shown.split('\n').slice(0, 4).join('\n')}`);
  return shown;
}

// The console is quiet but for a panic, whose trace says which check it was.
const DATA = /Kernel panic - not syncing: dm-verity device corrupted[\s\S]*verity_verify_pending_blocks/;
const HASH_TREE = /Kernel panic - not syncing: dm-verity device corrupted[\s\S]*verity_verify_level/;

/** No daemon has printed anything: the attestor is the first one. */
const silent = (shown: string) => !/"name":"(attestor|replicator)"/.test(shown);

// In parallel: each only reads until it reaches what was changed.
describe.concurrent('a root image that the host changed', () => {
  test.each<[string, (root: string) => void, RegExp]>([
    ['one bit in the first block', (root) => flip(root, 1024), DATA],
    ['one bit at the top of the hash tree', (root) => flip(root, blocks * BLOCK + 100), HASH_TREE],
    [
      'one bit in every hundredth block',
      (root) => {
        for (let block = 57; block < blocks; block += 100) flip(root, block * BLOCK + (block % BLOCK));
      },
      DATA,
    ],
    [
      'cut in the middle',
      (root) => truncateSync(root, Math.floor(statSync(root).size / 2 / BLOCK) * BLOCK),
      /dstack: .*: powering off|Kernel panic/,
    ],
  ])('%s: the machine ends, and nothing of it has run', async (name, spoil, expected) => {
    const shown = await boot(name, spoil);
    expect(shown).toMatch(expected);
    expect(silent(shown)).toBe(true);
  });
});
