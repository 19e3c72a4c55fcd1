/**
 * Whether this host can start a TD, and by which QEMU.
 *
 * Sources: QEMU, docs/system/i386/tdx.rst; Linux, Documentation/arch/x86/tdx.rst; the GUID that marks a firmware as a TDVF is
 * edk2's OvmfPkg/ResetVector (the table before the reset vector).
 */
import { execFile } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { defaultToolRoot, toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';

/** What to ask of this host; the defaults are the real ones. */
export interface TdxHost {
  readonly kvmDevice: string;
  /** The parameter in which kvm_intel says whether it can start TDs. */
  readonly kvmParameter: string;
  /** The host's own QEMU, where the tool root's is too old. */
  readonly hostQemu: string;
  /** What `qemu -object help` prints; undefined when there is no such QEMU. */
  readonly objectsOf: (qemu: 'tool root' | string) => Promise<string | undefined>;
}

export const thisHost: TdxHost = {
  kvmDevice: '/dev/kvm',
  kvmParameter: '/sys/module/kvm_intel/parameters/tdx',
  hostQemu: '/usr/bin/qemu-system-x86_64',
  objectsOf,
};

/** The first 16 bytes of {e47a6535-984a-4798-865e-4685a7bf8ec2}, OVMF's table entry for TDX, as they lie in the file. */
const TDX_METADATA_GUID = Buffer.from('35657ae44a989847865e4685a7bf8ec2', 'hex');

/**
 * The QEMU that starts a TD with this firmware here.
 * @throws DstackError TDX_UNAVAILABLE, with every reason why it cannot
 */
export async function findTdx(
  firmware: string,
  host: TdxHost = thisHost,
): Promise<{ readonly qemu: 'tool root' | string }> {
  const qemu = await findQemu(host);
  const reasons = [
    kvmReason(host.kvmDevice),
    parameterReason(host.kvmParameter),
    qemu === undefined
      ? `neither the tool root's QEMU nor ${host.hostQemu} knows the object tdx-guest: QEMU 10.1 or later does`
      : undefined,
    firmwareReason(firmware),
  ].filter((reason) => reason !== undefined);
  if (qemu !== undefined && reasons.length === 0) return { qemu };
  throw new DstackError(
    'TDX_UNAVAILABLE',
    `a production image starts on TDX only, and here it cannot: ${reasons.join('; ')}`,
  );
}

/** The first QEMU that knows TDs; undefined when none does. */
export async function findQemu(host: TdxHost): Promise<'tool root' | string | undefined> {
  for (const qemu of ['tool root', host.hostQemu]) {
    const objects = await host.objectsOf(qemu);
    if (objects !== undefined && /^\s*tdx-guest\s*$/m.test(objects)) return qemu;
  }
  return undefined;
}

/** Why KVM cannot be used; undefined when it can. */
export function kvmReason(device: string): string | undefined {
  try {
    closeSync(openSync(device, 'r+'));
    return undefined;
  } catch (error) {
    return `${device} does not open (${(error as Error).message})`;
  }
}

/** Why KVM starts no TDs; undefined when it does. */
export function parameterReason(file: string): string | undefined {
  const value = existsSync(file) ? readFileSync(file, 'latin1').trim() : 'absent';
  if (value === 'Y' || value === '1') return undefined;
  return `${file} is ${value}: TDX has to be on in the BIOS, and kvm_intel loaded with tdx=1`;
}

function firmwareReason(firmware: string): string | undefined {
  if (readFileSync(firmware).includes(TDX_METADATA_GUID)) return undefined;
  return `${firmware} is not a TDVF: it has no TDX metadata`;
}

async function objectsOf(qemu: 'tool root' | string): Promise<string | undefined> {
  if (qemu === 'tool root' ? !existsSync(defaultToolRoot()) : !existsSync(qemu)) return undefined;
  const args = ['-object', 'help'];
  const tool =
    qemu === 'tool root' ? toolCommand('qemu-system-x86_64', args) : { command: qemu, args, env: {} };
  return await promisify(execFile)(tool.command, [...tool.args], {
    env: { ...process.env, ...tool.env },
    timeout: 10_000,
  }).then(
    ({ stdout }) => stdout,
    () => undefined,
  );
}
