/** QEMU's command line as a pure function: which devices the VM has, and under which names the guest finds them. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Image, Shape } from './image.ts';

/** KVM where the processor virtualises; else TCG, QEMU's own translation of every instruction. */
export type Accelerator = 'kvm' | 'tcg';

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
  /** Where the quoting service listens; without it the guest has no such port, as on TDX. */
  readonly quotingSocket?: string;
  readonly qmpSocket: string;
  readonly consoleLog: string;
  /** A Unix socket that the dev flavour's root shell is on. */
  readonly shellSocket?: string;
}

/**
 * Arguments of qemu-system-x86_64, but for where its data files lie.
 * @throws DstackError PATH_INVALID for a path that cannot be written into an option, PORT_INVALID for a port out of range.
 */
export function qemuArguments(options: QemuOptions): string[] {
  const { image, shape } = options;
  return [
    ...['-name', 'dstack', '-nodefaults', '-no-user-config', '-display', 'none'],
    // A reboot would keep the registers of the quoting service: here a reboot is the end of the machine.
    '-no-reboot',
    ...['-machine', 'q35,usb=off,smbus=off,sata=off,vmport=off,hpet=off'],
    ...accelerator(options.accelerator),
    ...['-smp', String(shape.cpus), '-m', `${shape.memoryMiB}M`],
    ...['-bios', image.firmware, '-kernel', image.kernel, '-initrd', image.initramfs],
    ...['-append', image.manifest.commandLine],
    ...disk('root', image.root, 'dstack-root', true),
    ...(options.dataDisk === undefined ? [] : disk('data', options.dataDisk, 'dstack-data', false)),
    ...['-fsdev', `local,id=host_volume,path=${escaped(options.hostVolume)},security_model=none,readonly=on`],
    ...['-device', 'virtio-9p-pci,fsdev=host_volume,mount_tag=host_volume'],
    ...['-netdev', ['user', 'id=net', ...options.ports.map(forward)].join(',')],
    ...['-device', 'virtio-net-pci,netdev=net,romfile='],
    ...['-device', 'virtio-rng-pci'],
    ...quoting(options.quotingSocket),
    ...['-chardev', `file,id=console,path=${escaped(options.consoleLog)}`, '-serial', 'chardev:console'],
    ...shell(options.shellSocket),
    ...['-qmp', `unix:${escaped(options.qmpSocket)},server=on,wait=off`],
  ];
}

function accelerator(which: Accelerator): string[] {
  return which === 'kvm'
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max'];
}

function disk(id: string, file: string, serial: string, readOnly: boolean): string[] {
  const cache = readOnly ? 'readonly=on' : 'cache=writeback,discard=unmap';
  return [
    ...['-drive', `file=${escaped(file)},if=none,id=${id},format=raw,${cache}`],
    ...['-device', `virtio-blk-pci,drive=${id},serial=${serial}`],
  ];
}

/** The guest finds the port by its name, in /sys/class/virtio-ports/<device>/name. */
function quoting(socket: string | undefined): string[] {
  if (socket === undefined) return [];
  return [
    ...['-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=quote,path=${escaped(socket)},server=off`],
    ...['-device', 'virtserialport,chardev=quote,name=dstack.quote'],
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

/** Ports are bound to loopback alone: what the world should reach is for the operator to forward. */
function forward({ host, guest }: PortForward): string {
  for (const port of [host, guest]) {
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      throw new DstackError('PORT_INVALID', `a port is from 1 to 65535, not ${port}`);
    }
  }
  return `hostfwd=tcp:127.0.0.1:${host}-:${guest}`;
}

/** QEMU's option parser takes a comma for the end of a value unless it is doubled. */
function escaped(path: string): string {
  if (!path.startsWith('/') || /[\n\0]/.test(path)) {
    throw new DstackError('PATH_INVALID', `QEMU needs an absolute path without line breaks, not "${path}"`);
  }
  return path.replaceAll(',', ',,');
}
