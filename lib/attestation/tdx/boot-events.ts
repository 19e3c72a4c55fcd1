/**
 * What a TDX firmware and Linux' EFI stub extend into RTMR0 to RTMR2 before the kernel runs, in their order, when QEMU is
 * given the kernel directly (`-kernel`, `-initrd`, `-append`). Written after edk2-stable202608 (Debian's ovmf-inteltdx
 * 2026.08) and QEMU 10.0 and later; older ones measure other things: docs/images.md says which.
 *
 * Each event names the inputs that it depends on, so that it can be said what moves a register.
 */
import { sha384, utf8 } from '../../protocol/encoding.ts';
import { authenticodeHash } from './authenticode.ts';
import { tdHob } from './td-hob.ts';
import { guidBytes, type Section } from './tdvf.ts';
import {
  GLOBAL_VARIABLE,
  IMAGE_SECURITY_DATABASE,
  readVariables,
  secureBootOf,
  variableOf,
} from './variables.ts';

/** What the registers are computed from. `tables` are what QEMU generates: ACPI and SMBIOS. */
export type InputName = 'firmware' | 'memory' | 'tables' | 'kernel' | 'initramfs' | 'command line';

export interface BootEvent {
  readonly register: 'rtmr0' | 'rtmr1' | 'rtmr2';
  readonly name: string;
  /** SHA-384: what extends the register. Absent when it needs tables that were not given. */
  readonly digest?: Uint8Array;
  readonly from: readonly InputName[];
}

/** SHA-384 of the tables that QEMU generates for one machine type, version, device list and shape (machine-tables.ts). */
export interface MachineTables {
  readonly acpiLoader: Uint8Array;
  readonly acpiRsdp: Uint8Array;
  readonly acpiTables: Uint8Array;
  /** Absent as long as no TD of that machine was seen: then there is no RTMR0. */
  readonly smbios?: Uint8Array;
}

const SEPARATOR = new Uint8Array(4);
/** QEMU's fw_cfg item BootMenu, 16 bits: no menu. */
const NO_BOOT_MENU = new Uint8Array(2);
/** QEMU's fw_cfg file bootorder: with -kernel it holds QEMU's own loader, if no device has a bootindex. */
const BOOT_ORDER_FILE = '/rom@genroms/linuxboot_dma.bin\0';

/** The firmware's volume and the two programs in it that it makes boot options of. */
const DXE_VOLUME = '7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1';
const BOOT_MANAGER_MENU = 'eec25bdc-67f2-4d95-b1d5-f81b2039d11d';
const SETUP = '462caa21-7614-4503-836e-8ab6f4662331';
/** LOAD_OPTION_ACTIVE, _HIDDEN, _CATEGORY_APP. */
const ACTIVE_APP = 0x101;
const ACTIVE_HIDDEN_APP = 0x109;

/** RTMR0: the machine and the firmware's configuration. */
export function machineEvents(
  sections: readonly Section[],
  memoryMiB: number,
  tables: MachineTables | undefined,
): BootEvent[] {
  const volume = sections.find(({ kind }) => kind === 'cfv')?.data;
  const variables = volume === undefined ? new Map<string, Uint8Array>() : readVariables(volume);
  const event = (name: string, digest: Uint8Array | undefined, from: readonly InputName[]): BootEvent => ({
    register: 'rtmr0',
    name,
    ...(digest !== undefined && { digest }),
    from,
  });
  const secureBoot = (vendor: string, name: string, value: Uint8Array | undefined) =>
    event(`variable ${name}`, sha384(variableRecord(vendor, name, value)), ['firmware']);
  const stored = (vendor: string, name: string) =>
    secureBoot(vendor, name, variableOf(variables, vendor, name));
  return [
    event('TD HOB', sha384(tdHob(sections, memoryMiB)), ['firmware', 'memory']),
    ...(volume === undefined ? [] : [event('configuration volume', sha384(volume), ['firmware'])]),
    event('fw_cfg BootMenu', sha384(NO_BOOT_MENU), []),
    event('fw_cfg bootorder', sha384(utf8(BOOT_ORDER_FILE)), []),
    secureBoot(GLOBAL_VARIABLE, 'SecureBoot', secureBootOf(variables)),
    stored(GLOBAL_VARIABLE, 'PK'),
    stored(GLOBAL_VARIABLE, 'KEK'),
    stored(IMAGE_SECURITY_DATABASE, 'db'),
    stored(IMAGE_SECURITY_DATABASE, 'dbx'),
    event('separator', sha384(SEPARATOR), []),
    event('ACPI loader', tables?.acpiLoader, ['tables']),
    event('ACPI RSDP', tables?.acpiRsdp, ['tables']),
    event('ACPI tables', tables?.acpiTables, ['tables']),
    event('SMBIOS', tables?.smbios, ['tables']),
    event('variable BootOrder', sha384(bootOrder([0, 1])), []),
    event(
      'variable Boot0000',
      sha384(loadOption(ACTIVE_HIDDEN_APP, 'BootManagerMenuApp', BOOT_MANAGER_MENU)),
      [],
    ),
    event('variable Boot0001', sha384(loadOption(ACTIVE_APP, 'EFI Firmware Setup', SETUP)), []),
  ];
}

/** RTMR1: what the firmware started. */
export function kernelEvents(kernel: Uint8Array): BootEvent[] {
  const event = (name: string, digest: Uint8Array, from: readonly InputName[] = []): BootEvent => ({
    register: 'rtmr1',
    name,
    digest,
    from,
  });
  const action = (text: string) => event(text, sha384(utf8(text)));
  return [
    event('kernel (Authenticode)', authenticodeHash(kernel), ['kernel']),
    action('Calling EFI Application from Boot Option'),
    event('separator', sha384(SEPARATOR)),
    action('Exit Boot Services Invocation'),
    action('Exit Boot Services Returned with Success'),
  ];
}

/** RTMR2: what the kernel's EFI stub was given. */
export function stubEvents(commandLine: string, initramfs: Uint8Array): BootEvent[] {
  return [
    {
      register: 'rtmr2',
      name: 'command line',
      digest: sha384(loadOptions(commandLine)),
      from: ['command line'],
    },
    { register: 'rtmr2', name: 'initramfs', digest: sha384(initramfs), from: ['initramfs'] },
  ];
}

/** The firmware tells the stub where the initramfs is in front of the given line (edk2, GenericQemuLoadImageLib). */
export function loadOptions(commandLine: string): Uint8Array {
  return utf16(`initrd=initrd ${commandLine}\0`);
}

/** UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, section 10.2.6): how secure boot's variables are hashed. */
function variableRecord(vendor: string, name: string, value: Uint8Array = new Uint8Array(0)): Uint8Array {
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(name.length), 0);
  lengths.writeBigUInt64LE(BigInt(value.length), 8);
  return new Uint8Array(Buffer.concat([guidBytes(vendor), lengths, utf16(name), value]));
}

/** Of boot variables the value alone is hashed. */
function bootOrder(options: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(2 * options.length);
  for (const [index, option] of options.entries()) bytes.writeUInt16LE(option, 2 * index);
  return new Uint8Array(bytes);
}

/** EFI_LOAD_OPTION (UEFI specification, section 3.1.3) of a program in the firmware's own volume. */
function loadOption(attributes: number, description: string, program: string): Uint8Array {
  const path = Buffer.concat([
    pathNode(4, 7, guidBytes(DXE_VOLUME)),
    pathNode(4, 6, guidBytes(program)),
    pathNode(0x7f, 0xff, new Uint8Array(0)),
  ]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(attributes, 0);
  head.writeUInt16LE(path.length, 4);
  return new Uint8Array(Buffer.concat([head, utf16(`${description}\0`), path]));
}

function pathNode(type: number, subtype: number, data: Uint8Array): Buffer {
  const head = Buffer.from([type, subtype, 0, 0]);
  head.writeUInt16LE(4 + data.length, 2);
  return Buffer.concat([head, data]);
}

function utf16(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'utf16le'));
}
