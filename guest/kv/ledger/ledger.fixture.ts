/** An etcd that is a list of revisions, and a disk that loses what was not synced. */
import { revisionAt } from '../../../lib/ledger/leaf.ts';
import { salts, signer } from '../../../lib/ledger/log.fixture.ts';
import type { LedgerEvent } from '../../../lib/ledger/record.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { RevisionSource } from '../types.ts';
import type { Disk } from './disk.ts';
import { KvLedger, type LedgerOptions } from './ledger.ts';

export type Revisions = readonly (readonly LedgerEvent[])[];

export class ListedRevisions implements RevisionSource {
  readonly revisions: (readonly LedgerEvent[])[];
  compacted = 0n;
  /** From which revision on somebody last followed. */
  followedAfter: bigint | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(revisions: Revisions = []) {
    this.revisions = [...revisions];
  }

  get newest(): bigint {
    return revisionAt(this.revisions.length - 1);
  }

  push(...revisions: Revisions): void {
    this.revisions.push(...revisions);
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
  }

  compactRevision(): bigint {
    return this.compacted;
  }

  async follow(
    after: bigint,
    each: Parameters<RevisionSource['follow']>[1],
    signal: AbortSignal,
  ): Promise<never> {
    this.followedAfter = after;
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    aborted.catch(() => {});
    for (let at = Number(after) - 1; ; ) {
      signal.throwIfAborted();
      const woken = this.#wake.promise;
      for (; at < this.revisions.length; at += 1) each(revisionAt(at), this.revisions[at]!);
      await Promise.race([woken, aborted]);
    }
  }
}

interface SimulatedFile {
  durable: Buffer;
  readonly pending: { at: number; bytes: Uint8Array }[];
  content: Buffer;
}

/** Every operation may be the last one: `failAt` says which, and how; `only` that those of the other kind go on. */
export class SimulatedDisk implements Disk {
  readonly #files = new Map<string, SimulatedFile>();
  operations = 0;
  failAt = Number.POSITIVE_INFINITY;
  code = 'EIO';
  failed = false;
  only: 'write' | 'fsync' | undefined;

  async size(file: string): Promise<number> {
    return this.#file(file).content.length;
  }

  async read(file: string, at: number, length: number): Promise<Uint8Array> {
    const { content } = this.#file(file);
    if (at + length > content.length) throw new DstackError('LEDGER_SHORT', `${file} is short`);
    return Buffer.from(content.subarray(at, at + length));
  }

  async write(file: string, at: number, bytes: Uint8Array): Promise<void> {
    await this.#step('write');
    const known = this.#file(file);
    known.pending.push({ at, bytes: Buffer.from(bytes) });
    known.content = written(known.content, at, bytes);
  }

  async cut(file: string, length: number): Promise<void> {
    const known = this.#file(file);
    known.content = known.content.subarray(0, length);
    known.durable = known.durable.subarray(0, length);
    known.pending.length = 0;
  }

  async sync(file: string): Promise<void> {
    await this.#step('fsync');
    const known = this.#file(file);
    known.durable = Buffer.from(known.content);
    known.pending.length = 0;
  }

  async close(): Promise<void> {}

  /** What is there after the power came back: of writes that were not synced, whatever `keep` says, or a part of one. */
  afterPowerLoss(keep: () => number): SimulatedDisk {
    const next = new SimulatedDisk();
    for (const [name, { durable, pending }] of this.#files) {
      const content = pending.reduce(
        (bytes, write) =>
          written(bytes, write.at, write.bytes.subarray(0, Math.floor(keep() * (write.bytes.length + 1)))),
        durable,
      );
      next.#files.set(name, { durable: content, content, pending: [] });
    }
    return next;
  }

  /** Changes one byte of a file. */
  spoil(file: string, at: number): void {
    const known = this.#file(file);
    known.content = Buffer.from(known.content);
    known.content[at]! ^= 1;
    known.durable = known.content;
  }

  async #step(syscall: 'write' | 'fsync'): Promise<void> {
    this.operations += 1;
    if (this.operations >= this.failAt) this.failed = true;
    if (this.failed && (this.only ?? syscall) === syscall)
      throw Object.assign(new Error(this.code), { code: this.code, syscall });
    await new Promise(setImmediate);
  }

  #file(name: string): SimulatedFile {
    const known = this.#files.get(name) ?? {
      durable: Buffer.alloc(0),
      content: Buffer.alloc(0),
      pending: [],
    };
    this.#files.set(name, known);
    return known;
  }
}

function written(content: Buffer, at: number, bytes: Uint8Array): Buffer {
  if (bytes.length === 0) return content;
  const next = Buffer.alloc(Math.max(content.length, at + bytes.length));
  next.set(content);
  next.set(bytes, at);
  return next;
}

export const openOn = (disk: Disk, options: Partial<LedgerOptions> = {}): Promise<KvLedger> =>
  KvLedger.open({ disk, signer, salts, now: () => 1_764_421_380, pauseMs: 1, ...options });

/** The ledger on this disk, at work. */
export async function startOn(
  disk: Disk,
  source: ListedRevisions,
  options: Partial<LedgerOptions> = {},
): Promise<KvLedger> {
  const ledger = await openOn(disk, options);
  await ledger.follow(source, source.newest);
  return ledger;
}
