/** `image measure`: the registers of an image from its files, and what each depends on. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FirmwareEvent, parseFirmwareLog } from '../../lib/attestation/registers/firmware-log.ts';
import type { ImageRegisters } from '../../lib/attestation/registers/measurement.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { simulatedRegisters } from '../../lib/attestation/simulated/measurement.ts';
import type { AcpiTable } from '../../lib/attestation/tdx/acpi.ts';
import type { BootEvent } from '../../lib/attestation/tdx/boot-events.ts';
import {
  inputsOf,
  measureTdx,
  type RegisterName,
  type TdxMeasurement,
} from '../../lib/attestation/tdx/tdx-registers.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseImageManifest } from '../../lib/protocol/image.ts';
import { type Arguments, type Command, UsageError } from '../command.ts';
import { readTables } from '../production-measurement.ts';
import { describeReview, imageOptions } from './image-tables.ts';

const registerNames: readonly RegisterName[] = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'];

export const measureCommand: Command = {
  name: 'image measure',
  summary: 'computes MRTD and RTMR0 to RTMR2 from files alone, as TDX would report them',
  options: {
    ...imageOptions,
    firmware: { value: 'FILE', help: "instead of the image's firmware" },
    kernel: { value: 'FILE', help: "instead of the image's kernel" },
    initramfs: { value: 'FILE', help: "instead of the image's initramfs" },
    'command-line': { value: 'TEXT', help: "instead of the image's kernel command line" },
    tables: { value: 'FILE', help: 'tables.json of image tables, beside the ACPI tables that it names' },
    'event-log': {
      value: 'CCEL',
      help: "a TD's event log: compares each event; no digest is taken from it",
    },
    json: { help: 'one JSON object' },
  },
  async run(args) {
    const boot = readBoot(args);
    if (boot.flavour !== 'production' && args.optional('kernel') === undefined) {
      printSimulated(simulatedRegisters({ ...boot, shape: boot.shape }), boot.published, args.flag('json'));
      return;
    }
    const log =
      args.optional('event-log') === undefined
        ? undefined
        : parseFirmwareLog(readFileSync(args.text('event-log')));
    const given = args.optional('tables');
    const { tables, review } = given === undefined ? {} : readTables(given, boot.shape);
    const measured = measureTdx({
      ...boot,
      memoryMiB: boot.shape.memoryMiB,
      ...(tables !== undefined && { tables }),
    });
    if (args.flag('json')) printJson(asJson(measured), 2);
    else report(measured, review ?? []);
    if (log !== undefined && !compareWithLog(measured.events, log)) process.exitCode = 1;
  },
};

function readBoot(args: Arguments) {
  const folder = args.text('image');
  const shape = { cpus: number(args, 'cpus'), memoryMiB: number(args, 'memory') };
  if (!existsSync(join(folder, 'image.json'))) {
    throw new DstackError(
      'IMAGE_MISSING',
      `there is no image in ${folder}: build it with ./build_vm.sh, or name another with --image`,
    );
  }
  const manifest = parseImageManifest(readFileSync(join(folder, 'image.json'), 'utf8'));
  const file = (option: string, name: string) => readFileSync(args.optional(option) ?? join(folder, name));
  return {
    flavour: manifest.flavour,
    published: manifest.measurement,
    firmware: file('firmware', 'firmware.bin'),
    kernel: file('kernel', 'vmlinuz'),
    initramfs: file('initramfs', 'initramfs.cpio.zst'),
    commandLine: args.optional('command-line') ?? manifest.commandLine,
    shape: {
      cpus: shape.cpus ?? manifest.defaultShape.cpus,
      memoryMiB: shape.memoryMiB ?? manifest.defaultShape.memoryMiB,
    },
  };
}

function number(args: Arguments, name: string): number | undefined {
  const text = args.optional(name);
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new UsageError(`--${name} takes a positive whole number, not ${text}`);
  return Number(text);
}

function report(measured: TdxMeasurement, review: readonly AcpiTable[]): void {
  if (review.length > 0) print(...describeReview(review), '');
  for (const { register, name, digest, from } of measured.events) {
    const text = digest === undefined ? `${'needs --tables'.padEnd(96)}` : toHex(digest);
    print(`${register} ${name.padEnd(42)} ${text} ${from.join(', ')}`);
  }
  print();
  for (const name of registerNames) {
    const value = measured[name];
    const inputs = inputsOf(name, measured.events).join(', ');
    print(`${name.toUpperCase().padEnd(12)} ${value === undefined ? 'not computed' : toHex(value)}`);
    print(`${''.padEnd(12)} depends on: ${inputs}`);
  }
  const { rtmr0 } = measured;
  if (rtmr0 === undefined) {
    print(
      '',
      'RTMR0 holds hashes of ACPI and SMBIOS tables, which QEMU generates from its version, its command line, and the number of',
      'processors. No file of the image holds them: image tables generates the ACPI tables as files, and takes the digest of',
      'SMBIOS from the event log of a TD that had these very tables.',
    );
    return;
  }
  print(`measurement  0x${toHex(measurementOf({ ...measured, rtmr0 }))}`);
}

function asJson(measured: TdxMeasurement) {
  const { rtmr0 } = measured;
  const registers = registerNames.map((name) => {
    const value = measured[name];
    return [name, value === undefined ? null : toHex(value)] as const;
  });
  return {
    platform: 'tdx',
    ...Object.fromEntries(registers),
    measurement: rtmr0 === undefined ? null : to0x(measurementOf({ ...measured, rtmr0 })),
    dependsOn: Object.fromEntries(registerNames.map((name) => [name, inputsOf(name, measured.events)])),
    events: measured.events.map(({ digest, ...event }) => ({
      ...event,
      digest: digest === undefined ? null : toHex(digest),
    })),
  };
}

/** The simulated platform has its own rules; its images contain no kernel that a TDX firmware could start. */
function printSimulated(registers: ImageRegisters, published: string, json: boolean): void {
  const measurement = to0x(measurementOf(registers));
  const entries = registerNames.map((name) => [name, toHex(registers[name])] as const);
  if (json) {
    printJson({ platform: 'simulated', ...Object.fromEntries(entries), measurement }, 2);
    return;
  }
  const inputs = {
    mrtd: 'firmware',
    rtmr0: 'processors, memory',
    rtmr1: 'kernel',
    rtmr2: 'initramfs, command line',
  };
  for (const [name, value] of entries) {
    print(`${name.toUpperCase().padEnd(12)} ${value}`, `${''.padEnd(12)} depends on: ${inputs[name]}`);
  }
  print(`measurement  ${measurement}`);
  print(
    `on the simulated platform, which has its own rules (lib/attestation/simulated/measurement.ts); image.json says ${published === measurement ? 'the same' : `${published}, for its default shape`}`,
  );
}

/** Compares what a real TD logged with what was computed; true when all is the same. */
function compareWithLog(events: readonly BootEvent[], log: readonly FirmwareEvent[]): boolean {
  let same = true;
  for (const register of ['rtmr0', 'rtmr1', 'rtmr2'] as const) {
    const computed = events.filter((event) => event.register === register);
    const logged = log.filter((event) => event.register === register);
    for (let at = 0; at < Math.max(computed.length, logged.length); at++) {
      const ours = computed[at]?.digest;
      const theirs = logged[at]?.digest;
      if (ours !== undefined && theirs !== undefined && toHex(ours) === toHex(theirs)) continue;
      same = false;
      if (computed[at] !== undefined && ours === undefined && theirs !== undefined) {
        print(
          `UNSEEN     ${register} event ${at}: ${computed[at]?.name}, logged ${toHex(theirs)}: of which bytes?`,
        );
        continue;
      }
      print(
        `DIFFERENT  ${register} event ${at}: computed ${computed[at]?.name ?? 'none'} ${ours === undefined ? '' : toHex(ours)}, logged ${theirs === undefined ? 'none' : toHex(theirs)}`,
      );
    }
  }
  if (same) print('the event log holds exactly these events');
  return same;
}
