/**
 * The ACPI tables that QEMU generates for an image's machine, as its firmware got them. QEMU rebuilds them when the firmware
 * first reads them, from the addresses that the firmware gave to devices. So the firmware runs until it has read them (the
 * console is silent before that); then the machine is stopped, and fw_cfg is read through QEMU's test port.
 *
 * Sources: QEMU, docs/specs/fw_cfg.rst (selector 0x510, data 0x511, the directory), docs/devel/testing/qtest.rst.
 */
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AcpiFiles, MAX_ACPI_FILE_BYTES } from '../../lib/attestation/tdx/acpi.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Image, Shape } from './image.ts';
import { type Accelerator, qemuArguments } from './qemu.ts';
import { qmpCommand } from './qmp.ts';
import { emptyDisk, spawnQemu, started } from './vm.ts';

export interface TablesRequest {
  readonly image: Image;
  readonly shape: Shape;
  /** Under `tcg` the firmware runs as it would in a TD, on a machine that is not one. */
  readonly accelerator: Accelerator;
  readonly qemu: 'tool root' | string;
  /** Whether the machine has a data disk, which is one device more. */
  readonly dataDisk: boolean;
  /** How long the firmware may take, in milliseconds. */
  readonly timeoutMs: number;
}

/** @throws DstackError VM_START, TABLES_TIMEOUT, FW_CFG */
export async function generateTables(request: TablesRequest): Promise<AcpiFiles> {
  const scratch = await mkdtemp(join(tmpdir(), 'dstack-tables-'));
  const [qmpSocket, qtestSocket, consoleLog] = ['qmp', 'qtest', 'console'].map((name) => join(scratch, name));
  const dataDisk = join(scratch, 'data.img');
  if (request.dataDisk) await emptyDisk(dataDisk, 1);
  const qemu = spawnQemu(request.qemu, [
    ...qemuArguments({
      image: request.image,
      shape: request.shape,
      accelerator: request.accelerator,
      hostVolume: scratch,
      ...(request.dataDisk && { dataDisk }),
      ports: [],
      qmpSocket: qmpSocket!,
      consoleLog: consoleLog!,
    }),
    ...['-qtest', `unix:${qtestSocket},server=on,wait=off`, '-qtest-log', '/dev/null'],
  ]);
  const ended = new Promise<void>((resolve) => qemu.once('close', () => resolve()));
  try {
    await started(qemu, qmpSocket!, ended);
    await spoken(consoleLog!, request.timeoutMs, () => qemu.exitCode !== null);
    // A running machine would read fw_cfg too, and each reader would get half of it.
    await qmpCommand(qmpSocket!, 'stop');
    return await readAcpi(qtestSocket!);
  } finally {
    qemu.kill('SIGKILL');
    await ended;
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Waits until there is any output on the console. */
async function spoken(consoleLog: string, timeoutMs: number, over: () => boolean): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!existsSync(consoleLog) || statSync(consoleLog).size === 0) {
    if (over()) throw new DstackError('VM_START', 'QEMU ended before its firmware said anything');
    if (performance.now() > deadline) {
      throw new DstackError('TABLES_TIMEOUT', `the firmware said nothing within ${timeoutMs / 1000} s`);
    }
    await new Promise((done) => setTimeout(done, 100));
  }
}

async function readAcpi(socketPath: string): Promise<AcpiFiles> {
  const port = new TestPort(socketPath);
  try {
    const directory = await port.directory();
    const file = async (name: string) => {
      const entry = directory.get(name);
      if (entry === undefined) throw new DstackError('FW_CFG', `QEMU's fw_cfg has no ${name}`);
      return await port.item(entry.selector, entry.size);
    };
    return {
      acpiLoader: await file('etc/table-loader'),
      acpiRsdp: await file('etc/acpi/rsdp'),
      acpiTables: await file('etc/acpi/tables'),
    };
  } finally {
    port.close();
  }
}

const SELECTOR_PORT = 0x510;
const DATA_PORT = 0x511;
const DIRECTORY = 0x19;
const DIRECTORY_ENTRY_BYTES = 64;
const MAX_ENTRIES = 1024;
/** Commands in flight at once: QEMU answers one by one, and stops reading while its answers are not read. */
const BATCH = 256;
const SILENCE_MS = 30_000;

/** fw_cfg, byte by byte over QEMU's test port. */
class TestPort {
  readonly #socket: Socket;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  #text = '';
  #failure: Error | undefined;

  constructor(path: string) {
    this.#socket = connect(path);
    this.#socket.setTimeout(SILENCE_MS, () => this.#fail('no answer'));
    this.#socket.on('error', (error) => this.#fail(error.message));
    this.#socket.on('close', () => this.#fail('QEMU hung up'));
    this.#socket.on('data', (chunk) => this.#take(chunk.toString('latin1')));
  }

  close(): void {
    this.#socket.destroy();
  }

  /** The files by name. */
  async directory(): Promise<Map<string, { selector: number; size: number }>> {
    const count = Buffer.from(await this.item(DIRECTORY, 4)).readUInt32BE(0);
    if (count > MAX_ENTRIES) throw new DstackError('FW_CFG', `QEMU's fw_cfg has ${count} files`);
    const bytes = Buffer.from(await this.item(DIRECTORY, 4 + DIRECTORY_ENTRY_BYTES * count));
    return new Map(
      Array.from({ length: count }, (_, index) => {
        const entry = bytes.subarray(4 + DIRECTORY_ENTRY_BYTES * index).subarray(0, DIRECTORY_ENTRY_BYTES);
        const name = entry.toString('latin1', 8).replace(/\0.*$/s, '');
        return [name, { size: entry.readUInt32BE(0), selector: entry.readUInt16BE(4) }] as const;
      }),
    );
  }

  async item(selector: number, size: number): Promise<Uint8Array> {
    if (size > MAX_ACPI_FILE_BYTES) throw new DstackError('FW_CFG', `a file of fw_cfg has ${size} bytes`);
    await this.#ask(`outw ${SELECTOR_PORT} ${selector}`);
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += BATCH) {
      const length = Math.min(BATCH, size - at);
      const replies = await Promise.all(Array.from({ length }, () => this.#ask(`inb ${DATA_PORT}`)));
      for (const [index, reply] of replies.entries()) {
        const value = /^OK (0x[0-9a-f]+)$/.exec(reply)?.[1];
        if (value === undefined || Number(value) > 0xff)
          throw new DstackError('FW_CFG', `QEMU said ${reply}`);
        bytes[at + index] = Number(value);
      }
    }
    return bytes;
  }

  #ask(command: string): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`${command}\n`);
    });
  }

  #take(chunk: string): void {
    const lines = (this.#text + chunk).split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) if (!line.startsWith('IRQ ')) this.#waiting.shift()?.resolve(line.trim());
  }

  #fail(why: string): void {
    this.#failure ??= new DstackError('FW_CFG', `QEMU's test port: ${why}`);
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
    this.#socket.destroy();
  }
}
