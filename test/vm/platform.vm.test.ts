/**
 * The attestor's device in a VM: Linux mounts the simulated platform by the image's own initramfs, and every refusal in the table comes
 * out of a system call. The image is the built one but for its initramfs's last line, which starts the test instead of systemd.
 */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { cpioArchive } from '../../guest/image/cpio.ts';
import { FaultPlan } from '../../host/vm/simulated-tsm/faults.ts';
import { consoleTail, startVm, type Vm } from '../../host/vm/vm.ts';
import { faultCases } from '../support/platform-faults.ts';

const repository = join(import.meta.dirname, '../..');
const built = join(repository, 'build/image-sim');
const LAST_LINE = 'exec busybox switch_root /root /usr/lib/systemd/systemd';
const faults = new FaultPlan();
let vm: Vm;
let socket: Socket;
let answers: AsyncIterator<string>;

/** The built image, with another end of its initramfs: the kernel unpacks both archives, and the later file counts. */
function testImage(folder: string): string {
  const init = readFileSync(join(repository, 'guest/image/initramfs/init'), 'utf8');
  expect(init.trimEnd().endsWith(LAST_LINE)).toBe(true);
  const terminal = '/root/dev/ttyS1';
  const ours = init.replace(
    LAST_LINE,
    `busybox stty -F ${terminal} raw -echo\n` +
      `exec busybox switch_root /root /usr/bin/node /mnt/host_volume/platform.mjs <${terminal} >${terminal} 2>&1`,
  );
  const first = readFileSync(join(built, 'initramfs.cpio.zst'));
  const padding = Buffer.alloc((4 - (first.length % 4)) % 4);
  const second = cpioArchive([{ path: 'init', kind: 'file', bytes: Buffer.from(ours), executable: true }]);
  mkdirSync(folder);
  for (const name of ['vmlinuz', 'root.img', 'firmware.bin'])
    symlinkSync(join(built, name), join(folder, name));
  writeFileSync(join(folder, 'initramfs.cpio.zst'), Buffer.concat([first, padding, second]));
  // As dev, for its second serial port.
  const manifest = JSON.parse(readFileSync(join(built, 'image.json'), 'utf8'));
  writeFileSync(join(folder, 'image.json'), JSON.stringify({ ...manifest, flavour: 'dev' }));
  return folder;
}

beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-platform-'));
  const hostVolume = join(folder, 'volume');
  mkdirSync(hostVolume);
  await build({
    entryPoints: [join(import.meta.dirname, 'platform.guest.ts')],
    outfile: join(hostVolume, 'platform.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
  });
  vm = await startVm({
    imageFolder: testImage(join(folder, 'image')),
    hostVolume,
    stateFolder: join(folder, 'state'),
    platformStateFile: join(folder, 'platform.json'),
    shape: { cpus: 2, memoryMiB: 1024 },
    faults,
  });
  socket = connect(vm.shellSocket!);
  await once(socket, 'connect');
  answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  await answer('"ready"');
}, 900_000);

afterAll(async () => {
  socket?.destroy();
  await vm?.stop();
});
afterEach(() => faults.clear());

/** The next line that starts like `start`. Whatever else is on the line is the kernel's. */
async function answer(start: string): Promise<string> {
  for (;;) {
    const next = await Promise.race([answers.next(), vm.exited.then(() => sleep(500, undefined))]);
    if (next === undefined || next.done === true)
      throw new Error(`the VM has ended:\n${(await consoleTail(vm)).join('\n')}`);
    if (next.value.startsWith(start)) return next.value;
  }
}

async function perform(act: string, callWithin = 60_000): Promise<unknown> {
  socket.write(`${JSON.stringify({ act, callWithin })}\n`);
  return JSON.parse(await answer('{')).result;
}

test("Linux's system calls on the files say what its documentation says", async () => {
  expect(await perform('abi')).toEqual({
    'mkdir of an entry': 'done',
    'mkdir of it again': 'EEXIST',
    'mkdir beside the registers': 'EPERM',
    'outblob before inblob': 'EINVAL',
    'inblob of 65 bytes': 'EFBIG',
    'inblob opened for reading': 'EACCES',
    'outblob opened for writing': 'EACCES',
    generation: '0\n',
    provider: 'tdx_guest\n',
    'a register, 47 bytes': 'EINVAL',
    'MRTD opened for writing': 'EACCES',
    'a register that is none': 'ENOENT',
    'rmdir of the entry': 'done',
    'rmdir of it again': 'ENOENT',
  });
});

test.each(faultCases.filter(({ unmounted }) => unmounted === undefined))(
  '$act, $name: $code',
  async ({ arm, act, code }) => {
    arm(faults);
    expect(await perform(act, code === 'PLATFORM_SILENT' ? 3_000 : undefined)).toBe(code);
  },
);
