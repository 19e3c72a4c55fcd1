/** `image tables`: the ACPI tables of an image's machine as files, taken apart for review. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { openImage } from '../../host/vm/image.ts';
import { generateTables } from '../../host/vm/machine-tables.ts';
import { findTdx } from '../../host/vm/tdx.ts';
import { parseFirmwareLog } from '../../lib/attestation/registers/firmware-log.ts';
import { type AcpiFiles, type AcpiTable, reviewAcpi } from '../../lib/attestation/tdx/acpi.ts';
import { smbiosFromEventLog, type TablesFile } from '../../lib/attestation/tdx/machine-tables.ts';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { repository } from '../repository.ts';

/** The firmware needs some seconds, under emulation on a loaded machine many. */
const TIMEOUT_MS = 180_000;

/** An image, and the shape of the VM that it is looked at for. */
export const imageOptions = {
  image: { value: 'DIR', help: 'an image', default: join(repository, 'build/image-production') },
  cpus: { value: 'NUMBER', help: "the VM's processors; the image's default shape if absent" },
  memory: { value: 'MIB', help: "the VM's memory; the image's default shape if absent" },
};

export const tablesCommand: Command = {
  name: 'image tables',
  summary: "generates the ACPI tables of an image's machine, for review and for image measure",
  options: {
    ...imageOptions,
    out: { value: 'DIR', help: 'where to write tables.json, what it names, and each table by itself' },
    'without-data-disk': { help: 'a machine without a data disk' },
    qemu: { value: 'FILE', help: 'the QEMU that the hosts run; the locked one if absent' },
    tdx: { help: 'in a TD, on a host that starts them; without, its machine and firmware are emulated' },
    ...narrationOptions,
    'event-log': {
      value: 'CCEL',
      help: "a TD's event log: its ACPI digests must be these tables', and SMBIOS' digest is taken from it",
    },
  },
  async run(args) {
    const out = args.optional('out');
    if (out === undefined) throw new UsageError('--out says where the tables go');
    const [cpus, memory] = [positive(args, 'cpus'), positive(args, 'memory')];
    const image = await openImage(resolve(args.text('image')));
    const { defaultShape } = image.manifest;
    const shape = { cpus: cpus ?? defaultShape.cpus, memoryMiB: memory ?? defaultShape.memoryMiB };
    const qemu = args.flag('tdx')
      ? (await findTdx(image.firmware)).qemu
      : (args.optional('qemu') ?? 'tool root');
    const files = await generateTables({
      image,
      shape,
      accelerator: args.flag('tdx') ? 'tdx' : 'tcg',
      qemu,
      dataDisk: !args.flag('without-data-disk'),
      timeoutMs: TIMEOUT_MS,
    });
    const review = reviewAcpi(files);
    const log = args.optional('event-log');
    const smbios =
      log === undefined ? undefined : smbiosFromEventLog(parseFirmwareLog(readFileSync(log)), files);
    write(out, files, review, {
      version: 2,
      machine: `${await versionOf(qemu)}, ${args.flag('tdx') ? 'a TD' : 'emulated: no TD'}`,
      ...shape,
      ...names,
      ...(smbios !== undefined && { smbios }),
    });
    const say = narration(args);
    say(...describeReview(review), '');
    if (smbios === undefined) {
      say(
        'SMBIOS is not in it: its digest is taken from the event log of a TD of this machine (--event-log)',
      );
    }
    say(
      `${join(out, 'tables.json')}: for image measure --tables`,
      `each table is a file there: iasl -d ${join(out, 'DSDT.aml')} shows its code`,
    );
    answer(args, 'image tables', {
      file: join(out, 'tables.json'),
      tables: review.map(({ signature, bytes, code }) => ({
        signature,
        code,
        bytes: bytes.length,
        sha256: toHex(sha256(bytes)),
      })),
      smbios: smbios ?? null,
    });
  },
};

const names = { acpiLoader: 'acpi-loader.bin', acpiRsdp: 'acpi-rsdp.bin', acpiTables: 'acpi-tables.bin' };

function write(out: string, files: AcpiFiles, review: readonly AcpiTable[], file: TablesFile): void {
  if (existsSync(join(out, 'tables.json'))) {
    throw new DstackError('TABLES_EXIST', `${out} holds tables already: name another folder with --out`);
  }
  mkdirSync(out, { recursive: true });
  for (const [name, to] of Object.entries(names))
    writeFileSync(join(out, to), files[name as keyof AcpiFiles]);
  for (const [index, { signature, bytes, code }] of review.entries()) {
    const before = review.slice(0, index).filter((other) => other.signature === signature).length;
    writeFileSync(join(out, `${signature}${before === 0 ? '' : before}.${code ? 'aml' : 'bin'}`), bytes);
  }
  writeFileSync(join(out, 'tables.json'), `${JSON.stringify(file, null, 2)}\n`);
}

/** A line for each table: what it is, how much of it is code, and its hash. */
export function describeReview(review: readonly AcpiTable[]): string[] {
  return review.map(({ signature, bytes, code }) => {
    const size = `${bytes.length} bytes${code ? `, ${bytes.length - 36} of them AML` : ''}`;
    return `${code ? 'CODE' : 'data'}  ${signature}  ${size.padEnd(34)} sha256 ${toHex(sha256(bytes))}`;
  });
}

async function versionOf(qemu: string): Promise<string> {
  const tool =
    qemu === 'tool root'
      ? toolCommand('qemu-system-x86_64', ['-version'])
      : { command: qemu, args: ['-version'], env: {} };
  const { stdout } = await promisify(execFile)(tool.command, [...tool.args], {
    env: { ...process.env, ...tool.env },
    timeout: 10_000,
  });
  return /version ([^\n]{1,80})/.exec(stdout)?.[1] ?? `an unknown QEMU (${basename(qemu)})`;
}

function positive(args: Arguments, name: string): number | undefined {
  const text = args.optional(name);
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new UsageError(`--${name} takes a positive whole number, not ${text}`);
  return Number(text);
}
