/**
 * /sys/kernel/config/tsm/report as Linux shows it in a TD: mkdir an entry, write `inblob`, read `outblob`.
 *
 * Sources: Documentation/ABI/testing/configfs-tsm-report; the error numbers and their conditions are those of Linux 7's
 * drivers/virt/coco/guest/report.c, drivers/virt/coco/tdx-guest/tdx-guest.c and fs/configfs/file.c. A TD's entry has these four
 * files only: privilege levels, services, `auxblob` and `manifestblob` are other platforms'.
 */
import type { FaultPlan } from './faults.ts';
import type { Machine } from './machine.ts';
import { Errno, type File, type Folder, fixedFolder, type OpenFile, readOnlyFile } from './tree.ts';

/** TSM_REPORT_INBLOB_MAX, and TDX_REPORTDATA_LEN: the same number. */
const INBLOB_BYTES = 64;
/** More entries than any guest needs; the kernel has no limit but memory. */
const MAX_ENTRIES = 64;

export function reportFolder(machine: Machine, faults: FaultPlan): Folder {
  const entries = new Map<string, { readonly entry: Entry; readonly folder: Folder }>();
  return {
    kind: 'folder',
    mode: 0o755,
    names: () => [...entries.keys()],
    get: (name) => entries.get(name)?.folder,
    makeFolder(name) {
      faults.around('mkdir', () => new Uint8Array(0));
      if (entries.size >= MAX_ENTRIES) throw new Errno('ENOMEM');
      const entry = new Entry(machine, faults);
      const folder = fixedFolder(entry.files());
      entries.set(name, { entry, folder });
      return folder;
    },
    removeFolder(name) {
      const found = entries.get(name);
      if (found === undefined) throw new Errno('EPERM');
      found.entry.dead = true;
      entries.delete(name);
    },
  };
}

/** One entry: `struct tsm_report_state`. */
class Entry {
  /** Removed while a file of it was open. */
  dead = false;
  readonly #machine: Machine;
  readonly #faults: FaultPlan;
  #inblob: Uint8Array = new Uint8Array(0);
  #outblob: Uint8Array | undefined;
  #writeGeneration = 0;
  #readGeneration = 0;

  constructor(machine: Machine, faults: FaultPlan) {
    this.#machine = machine;
    this.#faults = faults;
  }

  files(): Record<string, File> {
    return {
      provider: this.#text('provider', () => 'tdx_guest'),
      generation: this.#text('generation', () => String(this.#writeGeneration)),
      inblob: { kind: 'file', mode: 0o200, size: 0, open: () => this.#openInblob() },
      outblob: readOnlyFile(0o400, () => this.#readReport()),
    };
  }

  #text(name: 'provider' | 'generation', value: () => string): File {
    return readOnlyFile(0o444, () => {
      this.#requireAlive();
      return this.#faults.around(name, () => Buffer.from(`${value()}\n`));
    });
  }

  /** configfs hands over what was written when the file is closed, and then ignores whether it was taken. */
  #openInblob(): OpenFile {
    this.#requireAlive();
    let written: Uint8Array | undefined;
    return {
      read() {
        throw new Errno('EBADF');
      },
      write(offset, bytes) {
        const end = offset + bytes.length;
        if (end > INBLOB_BYTES) throw new Errno('EFBIG');
        const grown = new Uint8Array(Math.max(end, written?.length ?? 0));
        grown.set(written ?? []);
        grown.set(bytes, offset);
        written = grown;
        return bytes.length;
      },
      close: () => {
        if (written !== undefined && !this.dead) this.#setInblob(written);
      },
    };
  }

  #setInblob(bytes: Uint8Array): void {
    // Refused, as when 2^64 writes went by without a read: nobody is told, the generation just does not move.
    if (this.#faults.take('inblob') !== undefined) return;
    this.#inblob = bytes;
    this.#writeGeneration++;
  }

  #readReport(): Uint8Array {
    this.#requireAlive();
    const fault = this.#faults.take('outblob');
    if (fault !== undefined && 'otherWriter' in fault)
      this.#setInblob(new Uint8Array(INBLOB_BYTES).fill(0xee));
    else if (fault !== undefined) return this.#faults.strike(fault, () => this.#report());
    return this.#report();
  }

  /** The report of this generation, made once. */
  #report(): Uint8Array {
    if (this.#inblob.length === 0) throw new Errno('EINVAL');
    if (this.#outblob === undefined || this.#readGeneration !== this.#writeGeneration) {
      this.#outblob = undefined;
      if (this.#inblob.length !== INBLOB_BYTES) throw new Errno('EINVAL');
      this.#outblob = this.#machine.quote(this.#inblob);
      this.#readGeneration = this.#writeGeneration;
    }
    return this.#outblob;
  }

  #requireAlive(): void {
    if (this.dead) throw new Errno('ENOENT');
  }
}
