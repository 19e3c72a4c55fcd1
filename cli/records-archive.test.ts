/** A relay's archive as programs read it by records: an auditor, and a host that looks for network.json. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { MessageRecords } from '../host/gossip/message-records.ts';
import type { Desk } from '../host/records/wire/asking.ts';
import { keyOf } from '../host/records/wire/sockets.fixture.ts';
import { MemoryStore } from '../host/records/wire/store.fixture.ts';
import { RecordWire } from '../host/records/wire/wire.ts';
import { Archive } from '../host/relay/archive.ts';
import { RelayDesk } from '../host/relay/desk.ts';
import { sha256, to0x, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { parseAddress } from '../lib/protocol/hex.ts';
import { decodeQuestion } from '../lib/protocol/relay-questions.ts';
import { findNetworkFile } from './join/network-file.ts';
import { RecordsArchive, recordsAddressOf } from './records-archive.ts';

const DOMAIN = { chainId: 31337, contract: parseAddress(`0x${'ab'.repeat(20)}`) };
const KEY = toHex(keyOf('relay').publicKey);
const networkJson = utf8(
  JSON.stringify({
    version: 1,
    chainId: 31337,
    contract: DOMAIN.contract,
    confirmation: { depth: 1 },
    endpoints: ['https://one.example'],
    quorum: 1,
  }),
);

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-records-archive-'));
});
afterEach(() => rmSync(root, { recursive: true }));

async function relay(
  archive: Archive,
  desk: Desk = new RelayDesk({ archive, files: undefined }),
): Promise<number> {
  const store = new MemoryStore();
  const wire = new RecordWire({
    store: Object.assign(store, { network: new MessageRecords(DOMAIN).network }),
    staticKey: keyOf('relay'),
    desk,
  });
  onTestFinished(() => wire.stop());
  return await wire.listen('127.0.0.1', 0);
}

async function opened(url: string): Promise<RecordsArchive> {
  const archive = await RecordsArchive.open({
    address: recordsAddressOf(url)!,
    domain: DOMAIN,
    until: AbortSignal.timeout(60_000),
    code: 'TEST',
    maxBytes: 1_000_000,
  });
  onTestFinished(() => archive.close());
  return archive;
}

/** With so many files, whatever is in them: who reads it looks. */
function archiveOf(count: number): Archive {
  const archive = new Archive(join(root, 'archive'));
  for (let n = 0; n < count; n += 1) {
    const name = `answer-${n.toString(16).padStart(64, '0')}-${'0'.repeat(16)}.json`;
    writeFileSync(join(archive.directory, name), `{"n":${n}}`);
  }
  return archive;
}

test('all of an archive, in pages, each file once', async () => {
  const archive = archiveOf(1_050);
  const port = await relay(archive);
  const visitor = await opened(`records://${KEY}@127.0.0.1:${port}`);
  const files = new Map<string, string>();
  let pages = 0;
  for await (const { after, names } of visitor.pages()) {
    pages += 1;
    for await (const { name, bytes } of visitor.bundled(after, names))
      files.set(name, Buffer.from(bytes).toString());
  }
  expect(pages).toBe(2);
  expect([...files.keys()]).toEqual(archive.list('', 2_000));
  for (const [name, text] of files) expect(text).toBe(archive.read(name));
});

test('what the relay names and does not give is told for itself, and all else is read', async () => {
  const archive = archiveOf(12);
  const [withheld] = archive.list() as [string];
  const desk = new RelayDesk({ archive, files: undefined });
  const port = await relay(archive, {
    answer: async (what) => {
      const question = decodeQuestion(what);
      return question.kind === 'archived' && question.name === withheld ? undefined : desk.answer(what);
    },
  });
  const visitor = await opened(`records://127.0.0.1:${port}`);
  const found: string[] = [];
  for await (const { name } of visitor.bundled('', archive.list())) found.push(name);
  expect(found).toEqual(archive.list().slice(1));
  await expect(visitor.file(withheld)).rejects.toMatchObject({ code: 'TEST' });
});

test('another key than was named, nobody there, and an address that is none', async () => {
  const port = await relay(archiveOf(1));
  await expect(opened(`records://${'00'.repeat(32)}@127.0.0.1:${port}`)).rejects.toMatchObject({
    code: 'TEST',
    cause: { code: 'WIRE_KEY' },
  });
  await expect(opened('records://127.0.0.1:1')).rejects.toMatchObject({
    cause: { code: 'WIRE_UNREACHABLE' },
  });
  for (const url of [
    'records://',
    'records://host',
    'records://key@host:1',
    'records://host:0',
    'records://h:70000',
  ])
    expect(() => recordsAddressOf(url)).toThrow(expect.objectContaining({ code: 'WIRE_ADDRESS' }));
  expect(recordsAddressOf('https://host:1')).toBeUndefined();
  expect(recordsAddressOf('records://[::1]:7612')).toEqual({ host: '::1', port: 7612 });
});

test('network.json comes by records, if the contract allows it', async () => {
  const archive = archiveOf(1);
  archive.keepConfig(networkJson);
  archive.keepConfig(utf8('{"not":"one"}'));
  const records = [{ host: '127.0.0.1', port: await relay(archive), key: KEY }];
  const config = to0x(sha256(networkJson));
  const found = (isAllowed: boolean) =>
    findNetworkFile({
      source: undefined,
      volume: join(root, 'volume'),
      peers: [],
      records,
      network: DOMAIN,
      flavour: 'sim',
      isAllowed: async (one) => isAllowed && one === config,
    });
  expect(await found(true)).toMatchObject({ config, bytes: networkJson });
  expect(await found(false)).toMatchObject({ kind: 'network.json' });
});
