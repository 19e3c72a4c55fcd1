/** A store's backup, and what a restore of it takes and refuses. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { backup } from '../../guest/kv/dev/backup.ts';
import { type BackupPart, backupFrames, readBackup, SNAPSHOT } from '../../guest/kv/dev/backup-file.ts';
import { readName, signerOf } from '../../guest/kv/dev/log.ts';
import { restore } from '../../guest/kv/dev/restore.ts';
import { FILES } from '../../guest/kv/ledger/log-files.ts';
import { encodeState, markRestored, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { decrypterWith, encrypterTo } from '../../lib/daemon/age.ts';
import { defaultToolRoot } from '../../lib/daemon/tool-root.ts';
import { fetchHead, requireContinuesFrom } from '../../lib/ledger/audit.ts';
import { receiptInAnswer } from '../../lib/ledger/lskv.ts';
import { type NoteKey, noteSigner } from '../../lib/ledger/note.ts';
import { verifyReceipt } from '../../lib/ledger/receipt.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { freePort } from '../support/free-port.ts';
import { node24 } from '../support/network.ts';

const timeout = 300_000;
const base64 = (text: string) => Buffer.from(text).toString('base64');

let folder: string;
let identity: string;
let recipient: string;
/** The store that backups are of, and one of them. */
let store: Store;
let file: string;
let secret: Uint8Array;
const running: Store[] = [];

interface Store {
  readonly data: string;
  readonly url: string;
  readonly child: ChildProcess;
  readonly key: NoteKey;
}

async function start(data: string): Promise<Store> {
  const address = `127.0.0.1:${await freePort()}`;
  const program = join(import.meta.dirname, '../../guest/kv/dev/main.ts');
  const child = spawn(node24, [program, `--data=${data}`, `--listen=${address}`, '--plain'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.includes('verifier key')) resolve();
      });
    child.once('exit', () => reject(new Error(said)));
  });
  const name = signerOf(fromHex(readFileSync(join(data, 'secret'), 'utf8'), 32), readName(data));
  const one = { data, url: `http://${address}`, child, key: name };
  running.push(one);
  return one;
}

async function stop({ child }: Store): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

async function call<T>({ url }: Store, path: string, request: object): Promise<T> {
  const answer = await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(request) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return JSON.parse(text) as T;
}

const put = (one: Store, key: string, value: string) =>
  call<{ header: { revision: string } }>(one, '/v3/kv/put', { key: base64(key), value: base64(value) });
const get = async (one: Store, key: string, revision = 0) => {
  const request = { key: base64(key), revision: `${revision}` };
  const { kvs = [] } = await call<{ kvs?: { value: string }[] }>(one, '/v3/kv/range', request);
  return kvs.map(({ value }) => Buffer.from(value, 'base64').toString());
};
const receipt = async (one: Store, revision: string) =>
  receiptInAnswer(await call(one, '/v3/receipt/get_receipt', { revision }));
const fetchOf =
  ({ url }: Store) =>
  async (path: string) =>
    new Uint8Array(await (await fetch(`${url}/ledger/${path}`)).arrayBuffer());
/** Once it is over so many leaves. */
async function headOf(one: Store, size = 0) {
  let head = await fetchHead(fetchOf(one), one.key.name, [one.key]);
  await expect
    .poll(async () => {
      head = await fetchHead(fetchOf(one), one.key.name, [one.key]);
      return head.size;
    })
    .toBeGreaterThanOrEqual(size);
  return head;
}

const restored = (data: string, more: Partial<Parameters<typeof restore>[0]> = {}) =>
  restore({ file, data: join(folder, data), identity, secret, ...more });

/** What it is refused with; nothing is left of it. */
async function refusal(data: string, more: Partial<Parameters<typeof restore>[0]>): Promise<string> {
  const code = await restored(data, more).then(() => 'restored', codeOf);
  expect(readdirSync(folder).filter((name) => name.startsWith(data))).toEqual([]);
  return code;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  identity = await generateX25519Identity();
  recipient = await identityToRecipient(identity);
  store = await start(join(folder, 'store'));
  secret = fromHex(readFileSync(join(store.data, 'secret'), 'utf8'), 32);
  for (const [key, value] of [
    ['a', '1'],
    ['b', '1'],
    ['a', '2'],
  ] as const)
    await put(store, key, value);
  file = join(folder, 'backup.age');
  await backup(store.data, file, [recipient]);
}, timeout);

afterAll(async () => {
  for (const one of running) await stop(one);
  rmSync(folder, { recursive: true, force: true });
});

test('what was there is there again; the log goes on under another name, and shows what was lost', {
  timeout,
}, async () => {
  const { revision } = (await put(store, 'c', '1')).header;
  const before = await receipt(store, revision);
  const early = await headOf(store, Number(revision) - 1);
  const mine = join(folder, 'mine.age');
  const last = await backup(store.data, mine, [recipient]);
  expect(Number(last)).toBe(Number(revision));
  expect(statSync(mine).mode & 0o077).toBe(0);
  expect(readFileSync(mine).includes(Buffer.from('"manifest"'))).toBe(false);
  await put(store, 'lost', '1');
  const late = await headOf(store, Number(revision));

  await restored('again', { file: mine });
  const again = await start(join(folder, 'again'));
  expect(await get(again, 'a')).toEqual(['2']);
  expect(await get(again, 'a', Number(revision) - 1)).toEqual(['2']);
  expect(await get(again, 'lost')).toEqual([]);
  expect((await put(again, 'new', '1')).header.revision).toBe(`${Number(revision) + 1}`);

  expect(again.key.name).not.toBe(store.key.name);
  const head = await headOf(again, Number(revision));
  expect(head.continues).toEqual([{ origin: store.key.name, size: early.size, root: early.root }]);
  await requireContinuesFrom(fetchOf(again), early, head);
  await expect(requireContinuesFrom(fetchOf(again), late, head)).rejects.toThrow(/the last 1 are lost/);
  await expect(requireContinuesFrom(fetchOf(again), { ...early, origin: 'x' }, head)).rejects.toThrow(
    'does not continue',
  );

  // A receipt of before stays one, and the new log has one of the same write and of its own.
  verifyReceipt(before, store.key.name, [store.key]);
  for (const which of [revision, `${Number(revision) + 1}`]) {
    const { events } = verifyReceipt(await receipt(again, which), again.key.name, [again.key]);
    expect(events).toHaveLength(1);
  }
  await stop(again);
});

test('a restored store is restored again, and names both logs', { timeout }, async () => {
  await restored('second');
  const again = await start(join(folder, 'second'));
  const twice = join(folder, 'twice.age');
  await backup(again.data, twice, [recipient]);
  await stop(again);
  await restored('third', { file: twice });
  const third = await start(join(folder, 'third'));
  await put(third, 'newer', '1');
  const head = await headOf(third);
  expect(head.continues?.map(({ origin }) => origin)).toEqual([store.key.name, again.key.name]);
  const { revision } = (await put(third, 'a', '3')).header;
  verifyReceipt(await receipt(third, revision), third.key.name, [third.key]);
  await stop(third);
});

test('what signers kept there is locked by the first start of the restored store, and stays as it is said later', {
  timeout,
}, async () => {
  const key = 'signer/state/testchain-1/aa';
  const record = encodeState({ ...NOTHING_SIGNED, height: 5n });
  await put(store, key, record);
  const mine = join(folder, 'signer.age');
  await backup(store.data, mine, [recipient]);
  expect(await get(store, key)).toEqual([record]);
  await restored('signers', { file: mine });
  const first = await start(join(folder, 'signers'));
  expect(await get(first, key)).toEqual([markRestored(record)]);
  await put(first, key, record);
  await stop(first);
  const second = await start(join(folder, 'signers'));
  expect(await get(second, key)).toEqual([record]);
  await stop(second);
});

test('what is there is kept', { timeout }, async () => {
  expect(await restored('store').catch(codeOf)).toBe('KV_DATA');
  expect(await restored('backup.age').catch(codeOf)).toBe('KV_DATA');
  expect(existsSync(join(store.data, 'secret'))).toBe(true);
  expect(await backup(store.data, file, [recipient]).catch(codeOf)).toBe('FILE_EXISTS');
  expect(await backup(join(folder, 'none'), join(folder, 'x'), [recipient]).catch(codeOf)).toBe('KV_DATA');
  expect(existsSync(join(folder, 'x'))).toBe(false);
});

/** Tools whose etcdctl does something else first: what happens while a restore is under way. */
function toolsThat(name: string, shell: string): string {
  const tools = join(folder, name);
  mkdirSync(join(tools, 'usr/lib64'), { recursive: true });
  for (const one of ['usr/bin', 'usr/lib']) symlinkSync(join(defaultToolRoot(), one), join(tools, one));
  // As `toolCommand` has it: --library-path PATHS --argv0 NAME.
  const loader = 'usr/lib64/ld-linux-x86-64.so.2';
  const script = `#!/bin/sh\n[ "$4" != etcdctl ] || { ${shell}; }\nexec '${join(defaultToolRoot(), loader)}' "$@"\n`;
  writeFileSync(join(tools, loader), script, { mode: 0o755 });
  return tools;
}

test('what came to be in its place while it was under way is kept, and so is another restore', {
  timeout,
}, async () => {
  const data = join(folder, 'living');
  mkdirSync(data);
  const [began, goOn] = [join(folder, 'began'), join(folder, 'go-on')];
  const tools = toolsThat(
    'tools',
    `touch '${began}'; while [ -e '${began}' ] && [ ! -e '${goOn}' ]; do sleep 0.05; done; echo mine > '${data}/secret'`,
  );
  const first = restored('living', { tools }).catch(codeOf);
  await expect.poll(() => existsSync(began)).toBe(true);
  expect(await restored('living').catch(codeOf)).toBe('KV_DATA');
  expect(existsSync(join(`${data}.restoring`, SNAPSHOT))).toBe(true);
  writeFileSync(goOn, '');
  expect(await first).toBe('KV_DATA');
  expect(readFileSync(join(data, 'secret'), 'utf8')).toBe('mine\n');
  expect(existsSync(`${data}.restoring`)).toBe(false);
});

test('through a link it is made where that leads to', { timeout }, async () => {
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  symlinkSync(disk, join(folder, 'link'));
  symlinkSync(join(folder, 'nowhere'), join(folder, 'dangling'));
  expect(await restored('dangling').catch(codeOf)).toBe('KV_DATA');
  await restored('link');
  expect(lstatSync(join(folder, 'link')).isSymbolicLink()).toBe(true);
  expect(readdirSync(disk)).toContain('secret');
});

test('what is no backup costs no memory, and who gives up is not kept waiting', { timeout }, async () => {
  const endless = join(folder, 'endless.age');
  writeFileSync(endless, `age-encryption.org/v1\n${'-> x y\n\n'.repeat(10_000)}`);
  expect(await refusal('no12', { file: endless })).toBe('BACKUP_HEADER');
  const signal = AbortSignal.abort(new DstackError('KV_RESTORE', 'told to end'));
  const written = new Map([...FILES, SNAPSHOT].map((name) => [name, new Uint8Array(1)]));
  expect(await refusal('no13', { file: await forged('given-up', written), signal })).toBe('KV_RESTORE');
});

test('another key of age, another secret, and a file that was changed or cut off are refused', {
  timeout,
}, async () => {
  expect(await refusal('no1', { identity: await generateX25519Identity() })).toBe('BACKUP_KEY');
  expect(await refusal('no2', { identity: 'nothing' })).toBe('BACKUP_IDENTITY');
  expect(await refusal('no3', { secret: new Uint8Array(32) })).toBe('KV_BACKUP_OTHER');
  const bytes = readFileSync(file);
  const changed = join(folder, 'changed.age');
  writeFileSync(changed, bytes.subarray(0, bytes.length - 100));
  expect(await refusal('no4', { file: changed })).toBe('BACKUP_KEY');
  writeFileSync(
    changed,
    bytes.map((byte, at) => (at === bytes.length - 10_000 ? byte ^ 1 : byte)),
  );
  expect(await refusal('no5', { file: changed })).toBe('BACKUP_KEY');
});

/** The files of a backup, by anyone who can encrypt to its owner. */
async function forged(
  name: string,
  parts: ReadonlyMap<string, Uint8Array>,
  signer = signerOf(secret, readName(store.data)),
): Promise<string> {
  async function* all(): AsyncGenerator<BackupPart> {
    for (const [file, bytes] of parts)
      yield {
        name: file,
        chunks: (async function* () {
          yield bytes;
        })(),
      };
  }
  const plain = ReadableStream.from(backupFrames(readName(store.data), all(), signer));
  const encrypted = await encrypterTo([recipient]).encrypt(plain as ReadableStream<Uint8Array>);
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat(await Array.fromAsync(encrypted)));
  return path;
}

test('one that somebody else made, or whose parts are not of one time, is refused', { timeout }, async () => {
  const nothing = new Map([...FILES, SNAPSHOT].map((name) => [name, new Uint8Array()]));
  const { name } = signerOf(secret, readName(store.data));
  const stranger = noteSigner(name, new Uint8Array(32).fill(9));
  expect(await refusal('no6', { file: await forged('stranger', nothing, stranger) })).toBe('KV_BACKUP_OTHER');
  expect(
    await refusal('no7', { file: await forged('more', new Map([...nothing, ['../x', new Uint8Array()]])) }),
  ).toBe('KV_BACKUP');
  expect(await refusal('no8', { file: await forged('less', new Map([...nothing].slice(1))) })).toBe(
    'KV_BACKUP',
  );
  expect(await refusal('no9', { file: await forged('empty', nothing) })).toBe('KV_RESTORE');
  // The ledger of now, and the snapshot of before: etcd is behind what was signed.
  const first = await partsOf(file);
  const size = Number((await put(store, 'after', '1')).header.revision) - 1;
  await headOf(store, size);
  const later = join(folder, 'later.age');
  await backup(store.data, later, [recipient]);
  const mixed = new Map([...(await partsOf(later)), [SNAPSHOT, first.get(SNAPSHOT)!]]);
  expect(await refusal('no10', { file: await forged('mixed', mixed) })).toBe('LEDGER_MISMATCH');
  // The other way round is what a backup is: the leaves that are missing are made.
  const behind = new Map([...first, [SNAPSHOT, (await partsOf(later)).get(SNAPSHOT)!]]);
  expect((await restored('tail', { file: await forged('behind', behind) })).revision).toBe(BigInt(size + 1));
  // Of the later one, whose leaves are on the disk: its head was signed before.
  const whole = await partsOf(later);
  const entries = Buffer.from(whole.get('entries')!);
  expect(entries.length).toBeGreaterThan(60);
  entries[60]! ^= 1;
  const changed = await forged('changed', new Map([...whole, ['entries', entries]]));
  expect(await refusal('no11', { file: changed })).toBe('LEDGER_MISMATCH');
});

/** What is in a backup. */
async function partsOf(path: string): Promise<Map<string, Uint8Array>> {
  const parts = new Map<string, Uint8Array>();
  const plain = await decrypterWith(identity).decrypt(new Uint8Array(readFileSync(path)));
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield plain;
  }
  const sinkFor = async (name: string) => {
    parts.set(name, new Uint8Array());
    return {
      write: async (bytes: Uint8Array) => {
        parts.set(name, Buffer.concat([parts.get(name)!, bytes]));
      },
      close: async () => {},
    };
  };
  await readBackup(chunks(), sinkFor, (name) => signerOf(secret, name));
  return parts;
}
