/** QEMU's command line as a pure function: which devices the VM has, and under which names the guest finds them. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Image, Shape } from './image.ts';

/** TDX for production images; for the others KVM where the processor virtualises, else TCG, where QEMU translates every instruction. */
export type Accelerator = 'tdx' | 'kvm' | 'tcg';

/** Where a TDX host's quote generation service listens: Intel's on vsock, port 4050 of the host, if nothing else is set up. */
export type QuoteGenerationSocket =
  | { readonly type: 'vsock'; readonly cid: string; readonly port: string }
  | { readonly type: 'unix'; readonly path: string };

export const defaultQuoteGeneration: QuoteGenerationSocket = { type: 'vsock', cid: '2', port: '4050' };

/** A guest port and where on the host's loopback it appears. */
export interface PortForward {
  readonly host: number;
  readonly guest: number;
}

export interface QemuOptions {
  readonly image: Image;
  readonly shape: Shape;
  readonly accelerator: Accelerator;
  /** Shown to the guest read-only as /mnt/host_volume. */
  readonly hostVolume: string;
  /** A raw disk image; the guest knows it by its serial number, dstack-data. */
  readonly dataDisk?: string;
  readonly ports: readonly PortForward[];
  /** QEMU has a network namespace of its own (own-network.ts), whose loopback is not up yet when it starts. */
  readonly ownNetwork?: boolean;
  /** On TDX: who turns reports into quotes. Intel's default when absent. */
  readonly quoteGeneration?: QuoteGenerationSocket;
  /** Where the simulated platform listens; without it the guest has none, as on TDX. */
  readonly platformSocket?: string;
  readonly qmpSocket: string;
  readonly consoleLog: string;
  /** A Unix socket with the dev flavour's root shell. */
  readonly shellSocket?: string;
}

/**
 * Arguments of qemu-system-x86_64, except for where its data files are.
 * @throws DstackError PATH_INVALID for a path that cannot be written into an option, PORT_INVALID for a port out of range,
 *   PLATFORM_TWICE for a TD with a simulated platform: a TD's quotes come from the CPU.
 */
export function qemuArguments(options: QemuOptions): string[] {
  const { image, shape } = options;
  if (options.accelerator === 'tdx' && options.platformSocket !== undefined) {
    throw new DstackError(
      'PLATFORM_TWICE',
      'a TD takes its quotes from the CPU, not from a simulated platform',
    );
  }
  return [
    // What a guest makes of the emulator starts no program and gets no right that it had not (seccomp).
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-name', 'dstack', '-nodefaults', '-no-user-config', '-display', 'none'],
    // A reboot would keep the registers of the simulated platform: here a reboot is the end of the machine.
    '-no-reboot',
    ...machine(options),
    ...['-smp', String(shape.cpus), '-m', `${shape.memoryMiB}M`],
    ...['-bios', image.firmware, '-kernel', image.kernel, '-initrd', image.initramfs],
    ...['-append', image.manifest.commandLine],
    ...disk('root', image.root, 'dstack-root', true),
    ...(options.dataDisk === undefined ? [] : disk('data', options.dataDisk, 'dstack-data', false)),
    ...['-fsdev', `local,id=host_volume,path=${escaped(options.hostVolume)},security_model=none,readonly=on`],
    ...['-device', 'virtio-9p-pci,fsdev=host_volume,mount_tag=host_volume'],
    ...['-netdev', ['user', 'id=net', ...options.ports.map((ports) => forward(ports, options))].join(',')],
    ...['-device', 'virtio-net-pci,netdev=net,romfile='],
    ...['-device', 'virtio-rng-pci'],
    ...simulatedPlatform(options.platformSocket),
    ...['-chardev', `file,id=console,path=${escaped(options.consoleLog)}`, '-serial', 'chardev:console'],
    ...shell(options.shellSocket),
    ...['-qmp', `unix:${escaped(options.qmpSocket)},server=on,wait=off`],
  ];
}

const q35 = 'q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off';

/** The firmware of a TD is loaded by -bios too: TDX has no read-only memory for a flash device. */
function machine({ accelerator, quoteGeneration = defaultQuoteGeneration }: QemuOptions): string[] {
  switch (accelerator) {
    case 'tdx': {
      // Verifiers, and Linux, refuse a TD without sept-ve-disable (TD_SEPT_VE); and verifiers one with debugging, which is off.
      const td = {
        'qom-type': 'tdx-guest',
        id: 'tdx0',
        'sept-ve-disable': true,
        'quote-generation-socket': quoteGeneration,
      };
      return [
        ...['-object', JSON.stringify(td)],
        ...['-machine', `${q35},kernel-irqchip=split,confidential-guest-support=tdx0`],
        ...['-accel', 'kvm', '-cpu', 'host'],
      ];
    }
    case 'kvm':
      return ['-machine', q35, '-accel', 'kvm', '-cpu', 'host'];
    case 'tcg':
      return ['-machine', q35, '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max'];
  }
}

function disk(id: string, file: string, serial: string, readOnly: boolean): string[] {
  const cache = readOnly ? 'readonly=on' : 'cache=writeback,discard=unmap';
  return [
    ...['-drive', `file=${escaped(file)},if=none,id=${id},format=raw,${cache}`],
    ...['-device', `virtio-blk-pci,drive=${id},serial=${serial}`],
  ];
}

/** 9P over the guest's first virtio console: a console, because Linux mounts from a terminal and not from a plain port. */
function simulatedPlatform(socket: string | undefined): string[] {
  if (socket === undefined) return [];
  return [
    ...['-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=platform,path=${escaped(socket)},server=off`],
    ...['-device', 'virtconsole,chardev=platform,name=dstack.platform'],
  ];
}

function shell(socket: string | undefined): string[] {
  if (socket === undefined) return [];
  return [
    '-chardev',
    `socket,id=shell,path=${escaped(socket)},server=on,wait=off`,
    '-serial',
    'chardev:shell',
  ];
}

/** Ports are bound to loopback alone, or in a namespace that nobody else is in: what the world should reach is for the operator to forward. */
function forward({ host, guest }: PortForward, { ownNetwork = false }: QemuOptions): string {
  for (const port of [host, guest]) {
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      throw new DstackError('PORT_INVALID', `a port is from 1 to 65535, not ${port}`);
    }
  }
  return `hostfwd=tcp:${ownNetwork ? '0.0.0.0' : '127.0.0.1'}:${host}-:${guest}`;
}

/** QEMU's option parser ends a value at a comma unless it is doubled. */
function escaped(path: string): string {
  if (!path.startsWith('/') || /[\n\0]/.test(path)) {
    throw new DstackError('PATH_INVALID', `QEMU needs an absolute path without line breaks, not "${path}"`);
  }
  return path.replaceAll(',', ',,');
}
