/**
 * Which accelerator works; for KVM, by booting.
 *
 * A /dev/kvm that opens, and even one that runs a few instructions, does not always boot a kernel: on some clouds it
 * emulates, and meets an instruction that it does not know. So the probe boots the image's own kernel and initramfs with a
 * command line that names no root; the initramfs says so and powers off, which takes a second or two under KVM.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { qemuDataArguments, toolCommand } from '../../lib/daemon/tool-root.ts';
import type { Image } from './image.ts';
import type { Accelerator } from './qemu.ts';
import { findTdx } from './tdx.ts';

/** What was chosen, and a sentence for the log that says why. */
export interface Probe {
  readonly accelerator: Accelerator;
  readonly why: string;
  /** The QEMU that has it. */
  readonly qemu: 'tool root' | string;
}

/**
 * What `image` runs under here. A production image runs on TDX or not at all: anywhere else its attestor would find no
 * hardware and power off. @throws DstackError TDX_UNAVAILABLE
 */
export async function probeAccelerator(image: Image): Promise<Probe> {
  if (image.manifest.flavour !== 'production') return await probeKvm(image);
  const { qemu } = await findTdx(image.firmware);
  return { accelerator: 'tdx', why: `a production image, on a host that starts TDs by ${qemu}`, qemu };
}

const tcg = { accelerator: 'tcg', qemu: 'tool root' } as const;
const timeoutMs = 15_000;

/** What the initramfs prints once it looks for its root. */
const reachedInitramfs = 'no dstack.roothash on the command line';

/** Boots `image`'s kernel under KVM; falls back to TCG when that fails. Never throws for lack of KVM. */
export async function probeKvm(image: Image, device = '/dev/kvm'): Promise<Probe> {
  try {
    closeSync(openSync(device, 'r+'));
  } catch (error) {
    return { ...tcg, why: `${device} does not open (${(error as Error).message})` };
  }
  const outcome = await bootProbe(image);
  return outcome === undefined
    ? { accelerator: 'kvm', why: 'a kernel booted under KVM', qemu: 'tool root' }
    : { ...tcg, why: `${device} opens, but a kernel does not boot under KVM: ${outcome}` };
}

/** Undefined when the kernel booted; else what went wrong. */
function bootProbe(image: Image): Promise<string | undefined> {
  const tool = toolCommand('qemu-system-x86_64', [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...[
      '-machine',
      'q35,usb=off,smbus=off,sata=off',
      '-accel',
      'kvm',
      '-cpu',
      'host',
      '-smp',
      '1',
      '-m',
      '512M',
    ],
    ...qemuDataArguments(),
    ...['-bios', image.firmware, '-kernel', image.kernel, '-initrd', image.initramfs],
    ...['-append', 'console=ttyS0 quiet panic=-1', '-serial', 'stdio'],
  ]);
  return new Promise((resolve) => {
    const qemu = spawn(tool.command, tool.args, {
      env: { ...process.env, ...tool.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    const finish = (outcome: string | undefined) => {
      clearTimeout(timer);
      qemu.kill('SIGKILL');
      resolve(outcome);
    };
    const timer = setTimeout(() => finish(`it said nothing for ${timeoutMs / 1000} seconds`), timeoutMs);
    const listen = (chunk: Buffer) => {
      said = (said + chunk.toString('latin1')).slice(-16_384);
      const failure = verdict(said);
      if (failure !== 'undecided') finish(failure);
    };
    qemu.stdout.on('data', listen);
    qemu.stderr.on('data', listen);
    qemu.on('error', (error) => finish(error.message));
    qemu.on('exit', () => finish(verdict(said) === undefined ? undefined : lastLine(said)));
  });
}

/** Judges what QEMU and the guest have said so far: undefined is success, a sentence is a failure. */
export function verdict(said: string): string | undefined | 'undecided' {
  if (said.includes(reachedInitramfs)) return undefined;
  const failure = /KVM internal error[^\r\n]*|Kernel panic[^\r\n]*|failed to initialize kvm[^\r\n]*/i.exec(
    said,
  );
  return failure?.[0] ?? 'undecided';
}

function lastLine(said: string): string {
  return said.trim().split('\n').at(-1)?.trim() || 'QEMU ended without a word';
}
