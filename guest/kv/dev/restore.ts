/**
 * `kv restore`: a store from a backup, in a new folder. All of it is checked before the folder is there: that the backup was signed by the
 * key of its log, that the tiles are one tree of what is in them, and that the snapshot's revisions are the leaves. The restored store begins a
 * log of its own that continues the one of the backup (log.ts).
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { decrypterWith, withBoundedHeader } from '../../../lib/daemon/age.ts';
import { readBounded } from '../../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../../lib/daemon/folder.ts';
import { freePort } from '../../../lib/daemon/free-port.ts';
import { print, printError, printFailure, printJson } from '../../../lib/daemon/terminal.ts';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { auditLog } from '../../../lib/ledger/audit.ts';
import { openCheckpoint, signCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { revisionAt } from '../../../lib/ledger/leaf.ts';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { storeShares } from '../../../lib/protocol/store-shares.ts';
import { EtcdClient } from '../engine/client.ts';
import { openDisk } from '../ledger/disk.ts';
import { Batch, FILES, LogFiles } from '../ledger/log-files.ts';
import { logResource } from '../ledger/receipts.ts';
import { openLedger } from '../open-ledger.ts';
import { readBackup, type Sink, SNAPSHOT } from './backup-file.ts';
import { secretIn } from './data-folder.ts';
import { startEtcdProcess } from './etcd-process.ts';
import { earlierLogs, type LogName, ledgerOf, nameAfter, signerOf, writeName } from './log.ts';
import { LONGEST_PATH } from './options.ts';

const MAX_IDENTITY_BYTES = 64 * 1024;

export interface RestoreSettings {
  readonly file: string;
  /** A new folder. */
  readonly data: string;
  /** The text of the file of age's key. */
  readonly identity: string;
  /** Of the store that the backup was made of. */
  readonly secret: Uint8Array;
  /** A root with etcd and etcdctl (`toolCommand`). */
  readonly tools?: string | undefined;
  /** When it is to be given up: then nothing is left of it. */
  readonly signal?: AbortSignal;
}

/** What is in the restored store. */
export interface Restored {
  readonly revision: bigint;
  readonly origin: string;
  readonly continues: string;
}

/** @throws KV_DATA, KV_PATH_TOO_LONG, BACKUP_IDENTITY, BACKUP_KEY, BACKUP_HEADER, KV_BACKUP*, LOG_*, LEDGER_*, KV_RESTORE */
export async function restore(settings: RestoreSettings): Promise<Restored> {
  const { file, data, identity, secret, tools, signal = new AbortController().signal } = settings;
  const decrypter = decrypterWith(identity);
  const { folder, target } = newFolder(data);
  try {
    const name = await unpack(file, decrypter, folder, { secret, signal });
    signal.throwIfAborted();
    await restoreEtcd(folder, tools);
    signal.throwIfAborted();
    const head = await check(folder, secret, name, { tools, signal });
    const next = nameAfter(name, randomBytes(16), head);
    await beginLog(folder, secret, next, head);
    writeName(folder, next);
    writeDurably(join(folder, 'secret'), toHex(secret), 0o600);
    rmSync(join(folder, SNAPSHOT));
    moveInto(folder, target);
    return {
      revision: revisionAt(head.size - 1),
      origin: signerOf(secret, next).name,
      continues: signerOf(secret, name).name,
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Makes where it is put together, beside where it will be. @throws KV_DATA, KV_PATH_TOO_LONG, FOLDER */
function newFolder(data: string): { readonly folder: string; readonly target: string } {
  const isThere = existsSync(data);
  if (!isThere && lstatSync(data, { throwIfNoEntry: false }) !== undefined)
    throw new DstackError('KV_DATA', `${data} is a link that leads nowhere: choose a new folder with --data`);
  if (isThere && !(statSync(data).isDirectory() && readdirSync(data).length === 0))
    throw new DstackError(
      'KV_DATA',
      `${data} is there already, and is kept: choose a new folder with --data`,
    );
  // Where it leads to, if it is a link: to another disk, perhaps.
  const target = isThere ? realpathSync(data) : resolve(data);
  const folder = `${target}.restoring`;
  const socket = join(folder, 'etcd.sock');
  if (Buffer.byteLength(socket) > LONGEST_PATH)
    throw new DstackError('KV_PATH_TOO_LONG', `${socket} is too long for a socket: choose a shorter --data`);
  makeFolder(dirname(folder));
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    // Of another that runs nothing may be touched, least of all removed.
    throw new DstackError(
      'KV_DATA',
      `${folder} is left from a restore that was cut off, or one runs: remove it first`,
    );
  }
  return { folder, target };
}

/** A folder takes the place of an empty one, and of nothing else: what came to be there meanwhile may be a store. @throws KV_DATA */
function moveInto(folder: string, target: string): void {
  try {
    renameSync(folder, target);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const isTaken = code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR';
    const why = isTaken ? 'holds other things by now, which are kept' : `cannot be replaced (${code})`;
    throw new DstackError('KV_DATA', `${target} ${why}: choose a new folder with --data`, { cause });
  }
}

async function unpack(
  file: string,
  decrypter: ReturnType<typeof decrypterWith>,
  folder: string,
  { secret, signal }: { readonly secret: Uint8Array; readonly signal: AbortSignal },
): Promise<LogName> {
  const encrypted = ReadableStream.from(withBoundedHeader(createReadStream(file)));
  const plain = await decrypter.decrypt(encrypted).catch((cause: unknown) => {
    throw unopened(cause);
  });
  mkdirSync(join(folder, 'ledger'), { mode: 0o700 });
  const sinkFor = async (name: string): Promise<Sink> => {
    const path = name === SNAPSHOT ? join(folder, name) : join(folder, 'ledger', name);
    const handle = await open(path, 'wx', 0o600);
    return {
      write: async (bytes) => {
        signal.throwIfAborted();
        await handle.writeFile(bytes);
      },
      close: async () => {
        await handle.sync();
        await handle.close();
      },
    };
  };
  return readBackup(opened(plain), sinkFor, (name) => signerOf(secret, name));
}

/** What decrypting throws later than at the beginning is of a file that was changed, or is cut off. */
async function* opened(plain: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = plain.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      throw unopened(cause);
    });
    if (done) return;
    yield value;
  }
}

const unopened = (cause: unknown) =>
  (cause as NodeJS.ErrnoException).syscall === undefined && !(cause instanceof DstackError)
    ? new DstackError('BACKUP_KEY', 'this key does not open the backup, or the file was changed', { cause })
    : cause;

/** By etcd's own tool, which compares the snapshot with the sum at its end. @throws KV_RESTORE */
async function restoreEtcd(folder: string, tools: string | undefined): Promise<void> {
  const peers = 'http://127.0.0.1:2380';
  const { command, args, env } = toolCommand(
    'etcdctl',
    [
      'snapshot',
      'restore',
      join(folder, SNAPSHOT),
      `--data-dir=${join(folder, 'etcd')}`,
      '--name=kv',
      `--initial-cluster=kv=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
    ],
    tools,
  );
  try {
    await promisify(execFile)(command, [...args], {
      env: { PATH: process.env.PATH, ...env, ETCDCTL_API: '3' },
    });
  } catch (cause) {
    const { stderr = '' } = cause as { stderr?: string };
    throw new DstackError('KV_RESTORE', 'etcd does not take the snapshot; the last that it said:', {
      cause,
      details: stderr
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(-3),
    });
  }
}

/** All of the log, and that the snapshot is what it is of; leaves that are missing at its end are made. Returns where the log is then. */
async function check(
  folder: string,
  secret: Uint8Array,
  name: LogName,
  { tools, signal }: { tools: string | undefined; signal: AbortSignal },
) {
  const socket = join(folder, 'etcd.sock');
  const settings = { data: folder, socket, peerPort: await freePort(), quota: storeShares().database };
  const etcd = startEtcdProcess(settings, (args) => toolCommand('etcd', args, tools));
  const upstream = new EtcdClient(socket);
  const givenUp = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  const ended = etcd.ended.then((said) => {
    throw new DstackError('KV_RESTORE', 'etcd has ended; the last that it said, if anything:', {
      details: said
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(-3),
    });
  });
  try {
    return await Promise.race([checked(folder, secret, name, upstream), givenUp, ended]);
  } finally {
    ended.catch(() => {});
    upstream.close();
    await etcd.stop();
  }
}

async function checked(folder: string, secret: Uint8Array, name: LogName, upstream: EtcdClient) {
  let why: DstackError | undefined;
  const ledger = await openLedger(
    {
      ...ledgerOf(folder, secret, name),
      compared: Number.POSITIVE_INFINITY,
      onStop: (error) => {
        why = error;
      },
    },
    upstream,
  );
  try {
    const { tree } = ledger.sizes;
    if (tree > 0) await ledger.onDisk(revisionAt(tree - 1));
    if (why !== undefined) throw why;
    const { name: origin } = signerOf(secret, name);
    const head = openCheckpoint(ledger.head(), origin, [signerOf(secret, name)]);
    if (head.size > 0) await auditLog(async (path) => (await logResource(ledger, path))!.bytes, head);
    return head;
  } finally {
    await ledger.close();
  }
}

/** Signs where the log of the backup ends, as the beginning of the new one: in both slots, so that no earlier head is taken up. */
async function beginLog(
  folder: string,
  secret: Uint8Array,
  name: LogName,
  { size, root }: { size: number; root: Uint8Array },
): Promise<void> {
  if (size === 0) return;
  const signer = signerOf(secret, name);
  const files = await LogFiles.open(await openDisk(join(folder, 'ledger'), FILES));
  const continues = earlierLogs(secret, name);
  const time = Math.floor(Date.now() / 1000);
  const head = signCheckpoint({ origin: signer.name, size, root, time, continues }, [signer]);
  const { policy } = files.state;
  for (let slot = 0; slot < 2; slot += 1)
    await files.write(new Batch(), { head, ...(policy === undefined ? {} : { policy }) });
  await files.close();
}

const TYPED = new Set(['KV_DATA', 'KV_PATH_TOO_LONG', 'FOLDER', 'BACKUP_IDENTITY', 'KV_SECRET']);

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      file: { type: 'string', default: '' },
      data: { type: 'string', default: '' },
      identity: { type: 'string', default: '' },
      secret: { type: 'string', default: '' },
      tools: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const told = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () =>
      told.abort(new DstackError('KV_RESTORE', 'it was told to end, and nothing is left of it')),
    );
  try {
    const { file, data, tools } = values;
    const { revision, origin, continues } = await restore({
      file,
      data,
      identity: readBounded(values.identity, { maxBytes: MAX_IDENTITY_BYTES, pipes: true }).toString(),
      secret: secretIn(values.secret),
      tools,
      signal: told.signal,
    });
    const say = values.json ? printError : print;
    say(
      `restored   up to revision ${revision}, in ${data}`,
      `log        ${origin}`,
      `continues  ${continues}`,
    );
    if (values.json) printJson({ data, revision: String(revision), log: origin, continues });
    printError(
      'What was written after the backup is gone, and the log says so. A signer that kept its records there signs nothing until it was told what it signed since.',
    );
  } catch (error) {
    printFailure('kv restore', error);
    process.exitCode = error instanceof DstackError && TYPED.has(error.code) ? 2 : 1;
  }
  // What was given up may still be under way.
  process.exit();
}
