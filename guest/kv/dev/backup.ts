/**
 * `kv backup`: the store of a folder, which goes on meanwhile, into one file that only the holders of some keys of age can open.
 *
 * The ledger comes first, up to the newest head on the disk, and etcd's snapshot after it: so the snapshot has all revisions of the ledger, and a
 * restore makes the leaves that are missing from it. What lies between may not have been compacted.
 */
import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { encrypterTo } from '../../../lib/daemon/age.ts';
import { printError, printFailure, printJson } from '../../../lib/daemon/terminal.ts';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { revisionAt } from '../../../lib/ledger/leaf.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { EtcdClient } from '../engine/client.ts';
import { EtcdRevisions } from '../engine/follow.ts';
import { lengthsOf, readState } from '../ledger/log-files.ts';
import type { Upstream } from '../types.ts';
import { type BackupPart, backupFrames, SNAPSHOT } from './backup-file.ts';
import { existingSecret } from './data-folder.ts';
import { readName, signerOf } from './log.ts';

const CHUNK = 256 * 1024;

/** @returns the newest revision that is in the ledger's part. @throws KV_DATA, KV_NOT_RUNNING, KV_BACKUP_COMPACTED, BACKUP_RECIPIENT, FILE_EXISTS */
export async function backup(
  data: string,
  out: string,
  recipients: readonly string[],
  signal = new AbortController().signal,
): Promise<bigint> {
  const encrypter = encrypterTo(recipients);
  const secret = existingSecret(data);
  const name = readName(data);
  const etcd = new EtcdClient(join(data, 'etcd.sock'));
  try {
    await requireRunning(data, etcd);
    let last = 0n;
    const parts = partsOf(data, etcd, (revision) => {
      last = revision;
    });
    const plain = ReadableStream.from(backupFrames(name, parts, signerOf(secret, name)));
    await writeNew(out, await encrypter.encrypt(plain as ReadableStream<Uint8Array>), signal);
    return last;
  } finally {
    etcd.close();
  }
}

async function requireRunning(data: string, etcd: Upstream): Promise<void> {
  try {
    await etcd.unary(Maintenance.method.status, {});
  } catch (cause) {
    if (!(cause instanceof RpcError && cause.status === status.unavailable)) throw cause;
    throw new DstackError('KV_NOT_RUNNING', `no store runs on ${data}: start it first, as always`, { cause });
  }
}

async function* partsOf(
  data: string,
  etcd: Upstream,
  onLedger: (revision: bigint) => void,
): AsyncGenerator<BackupPart> {
  const folder = join(data, 'ledger');
  const heads = await wholeFile(join(folder, 'heads'));
  // The state is read from the very bytes that are kept.
  const state = await readState({
    size: async () => heads.length,
    read: async (_file, at, length) => heads.subarray(at, at + length),
  });
  for (const [file, length] of lengthsOf(state))
    yield { name: file, chunks: firstBytes(join(folder, file), length) };
  yield { name: 'heads', chunks: chunksOf(heads) };
  yield { name: SNAPSHOT, chunks: snapshotOf(etcd) };
  const last = revisionAt(state.size - 1);
  const compacted = (await EtcdRevisions.open(etcd)).compactRevision();
  if (compacted > last)
    throw new DstackError(
      'KV_BACKUP_COMPACTED',
      'the history between the ledger and the snapshot was compacted meanwhile: run it again',
    );
  onLedger(last);
}

async function* snapshotOf(etcd: Upstream): AsyncGenerator<Uint8Array> {
  const stream = etcd.stream(Maintenance.method.snapshot);
  stream.send({});
  stream.end();
  for await (const { blob } of stream) yield blob;
}

async function wholeFile(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Of a file that grows meanwhile. */
async function* firstBytes(path: string, length: number): AsyncGenerator<Uint8Array> {
  const file = await open(path);
  try {
    for (let at = 0; at < length; ) {
      const bytes = Buffer.allocUnsafe(Math.min(CHUNK, length - at));
      const { bytesRead } = await file.read(bytes, 0, bytes.length, at);
      if (bytesRead === 0) throw new DstackError('LEDGER_SHORT', `${path} ends before byte ${length}`);
      yield bytes.subarray(0, bytesRead);
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** Durably, or not at all. @throws FILE_EXISTS */
async function writeNew(path: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      throw new DstackError('FILE_EXISTS', `${path} is there already, and is kept`);
    },
  );
  try {
    for await (const chunk of bytes) {
      signal.throwIfAborted();
      await file.writeFile(chunk);
    }
    await file.sync();
  } catch (error) {
    await unlink(path);
    throw error;
  } finally {
    await file.close();
  }
}

const TYPED = new Set(['KV_DATA', 'BACKUP_RECIPIENT', 'FILE_EXISTS', 'KV_SECRET']);

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      data: { type: 'string', default: '' },
      out: { type: 'string', default: '' },
      recipient: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
    },
  });
  const told = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () =>
      told.abort(new DstackError('KV_BACKUP', 'it was told to end, and nothing is left of it')),
    );
  try {
    const last = await backup(values.data, values.out, values.recipient, told.signal);
    if (values.json) printJson({ file: values.out, data: values.data, revision: String(last) });
    printError(
      `${values.out} holds the store up to revision ${last} or later; the secret is not in it: keep ${join(values.data, 'secret')} too`,
    );
  } catch (error) {
    printFailure('kv backup', error);
    process.exitCode = error instanceof DstackError && TYPED.has(error.code) ? 2 : 1;
  }
}
