/**
 * What this machine has of what a VM needs, one thing after the other, with what to do about each that is missing. A production image
 * runs on TDX or not at all; the others run anywhere, faster with KVM.
 *
 * Sources: Linux, Documentation/arch/x86/tdx.rst and Documentation/virt/kvm/x86/intel-tdx.rst (a host from 6.16 on); QEMU,
 * docs/system/i386/tdx.rst (from 10.1 on); Intel's TDX Enabling Guide for the BIOS and the quote generation service.
 */
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { ownNetworkReason } from './own-network.ts';
import { findQemu, kvmReason, parameterReason, type TdxHost, thisHost } from './tdx.ts';

export interface Finding {
  readonly what: string;
  /** `unknown`: not to be seen from here; it is then seen when the VM starts. */
  readonly state: 'ok' | 'missing' | 'unknown';
  /** What was seen, in a few words. */
  readonly seen: string;
  /** What to do about it, or where to look. */
  readonly advice?: string;
}

/** Where to look; the defaults are the real ones. */
export interface HostPlaces extends TdxHost {
  readonly processors: string;
  readonly memory: string;
  /** Of SGX, by which the quote generation service proves itself to Intel. */
  readonly sgx: readonly string[];
  /** By which the TD reaches that service. */
  readonly vsock: string;
  /** Where VMs keep their disks. */
  readonly disks: string;
  /** Why QEMU can't have a network of its own here, if it can't. */
  networkReason(): string | undefined;
  kernel(): string;
}

export const thisMachine: HostPlaces = {
  ...thisHost,
  processors: '/proc/cpuinfo',
  memory: '/proc/meminfo',
  sgx: ['/dev/sgx_enclave', '/dev/sgx_provision'],
  vsock: '/dev/vsock',
  disks: '.',
  networkReason: ownNetworkReason,
  kernel: release,
};

/** Linux starts TDs from this release on: major, minor. */
const TDX_KERNEL = [6, 16] as const;
/** A VM of the default shape with what QEMU takes beside it, and its image with a small data disk. */
const [MEMORY_MIB, DISK_MIB] = [2_304, 2_048];

/** For any image. */
export function checkMachine(places: HostPlaces = thisMachine): Finding[] {
  return [memoryOf(places.memory), diskOf(places.disks), kvmOf(places.kvmDevice), networkOf(places)];
}

/** What a production image needs besides. */
export async function checkTdx(places: HostPlaces = thisMachine): Promise<Finding[]> {
  return [
    processorOf(places.processors),
    kernelOf(places.kernel()),
    parameterOf(places.kvmParameter),
    await qemuOf(places),
    ...places.sgx.map(sgxOf),
    quotingOf(places.vsock),
  ];
}

function memoryOf(file: string): Finding {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync(file, 'latin1'))?.[1];
  const what = 'memory for one VM';
  if (available === undefined) return { what, state: 'unknown', seen: `${file} has no MemAvailable` };
  const mib = Math.floor(Number(available) / 1024);
  const seen = `${mib} MiB available`;
  if (mib >= MEMORY_MIB) return { what, state: 'ok', seen };
  return {
    what,
    state: 'missing',
    seen,
    advice: `free ${MEMORY_MIB - mib} MiB, or set DSTACK_VM_MEMORY_MIB`,
  };
}

function diskOf(folder: string): Finding {
  const { bavail, bsize } = statfsSync(folder);
  const mib = Math.floor((bavail * bsize) / 1024 ** 2);
  const seen = `${mib} MiB free here`;
  if (mib >= DISK_MIB) return { what: 'room for an image and a disk', state: 'ok', seen };
  const advice = `free ${DISK_MIB - mib} MiB; the data disk takes what DSTACK_VM_DATA_DISK_MIB says besides`;
  return { what: 'room for an image and a disk', state: 'missing', seen, advice };
}

/** Without it everything but a production image still runs, so it is said but not required here. */
function kvmOf(device: string): Finding {
  const reason = kvmReason(device);
  if (reason === undefined) return { what: 'KVM', state: 'ok', seen: `${device} opens` };
  const advice =
    'switch virtualisation on in the BIOS and load kvm_intel or kvm_amd; whoever runs the VM has to be in the group kvm. Without it VMs are emulated, some thirty times slower';
  return { what: 'KVM', state: 'missing', seen: reason, advice };
}

/** Without it a VM still runs, in the host's network: so it's said, and no more. */
function networkOf({ networkReason }: HostPlaces): Finding {
  const what = 'a network of its own for QEMU';
  const reason = networkReason();
  if (reason === undefined) return { what, state: 'ok', seen: 'pasta, and a tunnel device that opens' };
  const advice =
    'it is what DSTACK_VM_NETWORK=own takes; with shared, the VM reaches the loopback of this host';
  return { what, state: 'unknown', seen: reason, advice };
}

function processorOf(file: string): Finding {
  const what = 'a processor with TDX, switched on';
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync(file, 'latin1'))?.[1]?.split(/\s+/) ?? [];
  if (flags.includes('tdx_host_platform')) return { what, state: 'ok', seen: 'tdx_host_platform' };
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync(file, 'latin1'))?.[1] ?? 'an unknown processor';
  const advice =
    'a 4th generation Xeon Scalable of a TDX variant, any 5th generation or Xeon 6; in the BIOS: memory encryption (TME, TME-MT), TDX, the SEAM loader, SGX, and key ids for TDX';
  return { what, state: 'missing', seen: `${model}: no flag tdx_host_platform`, advice };
}

function kernelOf(version: string): Finding {
  const what = `Linux ${TDX_KERNEL.join('.')} or later`;
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined) return { what, state: 'unknown', seen: version };
  const isNew =
    Number(major) > TDX_KERNEL[0] || (Number(major) === TDX_KERNEL[0] && Number(minor) >= TDX_KERNEL[1]);
  if (isNew) return { what, state: 'ok', seen: version };
  const advice = "a newer kernel, or a distribution's own with TDX for hosts: then the next lines decide";
  return { what, state: 'unknown', seen: version, advice };
}

function parameterOf(file: string): Finding {
  const what = 'KVM starts TDs';
  const reason = parameterReason(file);
  if (reason === undefined) return { what, state: 'ok', seen: `${file} is on` };
  const advice =
    'boot with nohibernate kvm_intel.tdx=1, and read `dmesg | grep -i tdx` for what the module says';
  return { what, state: 'missing', seen: reason, advice };
}

async function qemuOf(places: HostPlaces): Promise<Finding> {
  const what = 'a QEMU that starts TDs';
  const found = await findQemu(places);
  if (found !== undefined)
    return { what, state: 'ok', seen: found === 'tool root' ? "the tool root's" : found };
  const seen = `neither the tool root's nor ${places.hostQemu} knows tdx-guest`;
  return { what, state: 'missing', seen, advice: `QEMU 10.1 or later as ${places.hostQemu}` };
}

function sgxOf(device: string): Finding {
  if (existsSync(device)) return { what: 'SGX, for quotes', state: 'ok', seen: device };
  const advice = 'switch SGX on in the BIOS; the quoting enclave runs in it';
  return { what: 'SGX, for quotes', state: 'missing', seen: `no ${device}`, advice };
}

/** Whether it answers can only be seen by a TD, or by a program that speaks its protocol. */
function quotingOf(device: string): Finding {
  const what = 'the quote generation service';
  const advice =
    "Intel's qgsd has to listen at vsock port 4050, and the platform to be registered: `systemctl status qgsd`";
  if (existsSync(device))
    return {
      what,
      state: 'unknown',
      seen: `${device} is there; whether anybody answers is not to be seen`,
      advice,
    };
  return { what, state: 'missing', seen: `no ${device}`, advice: `load vhost_vsock; ${advice}` };
}
