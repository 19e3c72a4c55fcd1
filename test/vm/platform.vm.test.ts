/**
 * The attestor's device in a VM: Linux mounts the simulated platform by the image's own initramfs, and every refusal in the table comes
 * out of a system call. The image is the built one but for its initramfs's last line, which starts the test instead of systemd.
 */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { cpioArchive } from '../../guest/image/cpio.ts';
import { ownNetworkReason } from '../../host/vm/own-network.ts';
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
/** Why QEMU shares this machine's network, if it has to. */
const networkReason = ownNetworkReason();
const services: Server[] = [];
/** On this machine's loopback; the port. */
async function serve(word: string): Promise<number> {
  const service = createServer((_, reply) => reply.end(word)).listen(0, '127.0.0.1');
  await once(service, 'listening');
  services.push(service);
  return portOf(service);
}
const portOf = (service: Server) => (service.address() as AddressInfo).port;

/** The built image, with another end of its initramfs: the kernel unpacks both archives, and the later file counts. */
function testImage(folder: string): string {
  const init = readFileSync(join(repository, 'guest/image/initramfs/init'), 'utf8');
  expect(init.trimEnd().endsWith(LAST_LINE)).toBe(true);
  const terminal = '/root/dev/ttyS1';
  const ours = init.replace(
    LAST_LINE,
    `busybox stty -F ${terminal} raw -echo\n` +
      // As QEMU's user network has it; systemd, which is not here, learns it by DHCP.
      'busybox ip link set eth0 up\nbusybox ip addr add 10.0.2.15/24 dev eth0\n' +
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
    ...(networkReason === undefined && { ownNetwork: { loopbackPorts: [await serve('named')] } }),
  });
  socket = connect(vm.shellSocket!);
  await once(socket, 'connect');
  answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  await answer('"ready"');
}, 900_000);

afterAll(async () => {
  socket?.destroy();
  await vm?.stop();
  for (const service of services) service.close();
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

async function perform(act: string, callWithin = 60_000, ports: readonly number[] = []): Promise<unknown> {
  socket.write(`${JSON.stringify({ act, callWithin, ports })}\n`);
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

test.skipIf(networkReason !== undefined)(
  `in a network of its own the VM reaches of the host's loopback the port that is named${networkReason ? ` (not here: ${networkReason})` : ''}`,
  async () => {
    const other = await serve('other');
    expect(await perform('loopback', undefined, [portOf(services[0]!), other])).toEqual([
      'named',
      'ECONNREFUSED',
    ]);
    expect(readlinkSync(`/proc/${vm.pid}/ns/net`)).not.toBe(readlinkSync('/proc/self/ns/net'));
  },
);
