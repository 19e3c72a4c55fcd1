import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { networkInterface } from '../../contracts/interface.ts';
import { signCheckpoint } from '../../lib/ledger/checkpoint.ts';
import { signCurrent } from '../../lib/ledger/current.ts';
import { MemoryLog, origin, put, remove, secret, signer } from '../../lib/ledger/log.fixture.ts';
import { noteSigner, verifierKey } from '../../lib/ledger/note.ts';
import { sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { signLedgerEvidence } from '../../lib/protocol/ledger-evidence.ts';
import { sign } from '../../lib/protocol/secp256k1.ts';
import { statusMask } from '../../lib/protocol/tcb-policy.ts';
import { forgeLogKey, logNetwork } from '../../test/support/forge-log-key.ts';
import { answers } from '../answers.ts';
import { readArguments } from '../command.ts';
import { kvLedgerCommands } from './kv-ledger.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-log-'));
afterAll(() => rmSync(folder, { recursive: true }));
const refusal = (code: string) => expect.objectContaining({ code });
const vkey = verifierKey(signer);
const events = [
  [put('o/greeting', 'hello')],
  [remove('o/greeting')],
  [put('o/a', '1'), put('a/app/b', '2')],
  ...Array.from({ length: 400 }, (_, at) => [put(`o/${at}`, `${at}`)]),
];
const log = new MemoryLog(events);

function save(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function saveLog(name: string, files: ReadonlyMap<string, Buffer>): string {
  for (const [path, bytes] of files) save(join(name, path), bytes);
  return join(folder, name);
}

/** Runs a command in this process; what it printed. */
async function run(name: string, ...argv: string[]): Promise<string> {
  const command = kvLedgerCommands.find((known) => known.name === name)!;
  const printed: string[] = [];
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      if (stream === 'stdout') printed.push(String(chunk));
      return true;
    }),
  );
  try {
    await command.run(readArguments(command, argv));
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return printed.join('');
}

describe('kv receipt verify', () => {
  const receipt = save('receipt', log.receipt(0));
  const verify = (...argv: string[]) => run('kv receipt verify', ...argv);

  test('says what a receipt proves', async () => {
    const text = await verify(receipt, '--vkey', vkey, '--key', 'greeting', '--value', 'hello');
    expect(text).toMatch(/put +"greeting"/);
    expect(text).toMatch(/PROVEN\n$/);
    expect(text).toContain('namespace  o/\n');
    const txn = JSON.parse(await verify(save('txn', log.receipt(2, [0])), '--vkey', vkey, '--json'));
    expect(txn).toMatchObject({
      revision: '4',
      namespace: 'o/',
      basis: 'events',
      eventsInRevision: 2,
      size: 403,
      currentAt: null,
    });
    expect(Object.keys(txn)).toEqual(answers['kv receipt verify']);
    const current = signCurrent(
      { keyHash: sha256(utf8('o/greeting')), revision: 9n, modRevision: 2n },
      signer,
    );
    const read = save('current', log.receipt(0, undefined, { current }));
    expect(JSON.parse(await verify(read, '--vkey', vkey, '--json')).currentAt).toBe('9');
  });

  test('by the key that the network key vouches for', async () => {
    const { privateKey, address } = networkKey(secret, 1);
    const said = {
      chainId: 31337,
      contract: parseAddress(`0x${'ab'.repeat(20)}`),
      networkKey: address,
      epoch: 1,
      log: parseHex('03'.repeat(16)),
    };
    const publicKey = parseHex(toHex(signer.publicKey));
    const evidence = signLedgerEvidence({ ...said, publicKey }, (digest) => sign(digest, privateKey));
    const file = save('evidence.json', JSON.stringify(evidence));
    expect(await verify(receipt, '--evidence', file, '--network-key', address)).toMatch(/PROVEN/);
    const other = networkKey(secret, 2).address;
    await expect(verify(receipt, '--evidence', file, '--network-key', other)).rejects.toThrowError(
      refusal('LEDGER_KEY_UNSIGNED'),
    );
    await expect(verify(receipt, '--evidence', file)).rejects.toThrowError(refusal('USAGE'));
    await expect(verify(receipt)).rejects.toThrowError(refusal('USAGE'));
  });

  test.each([
    ['another key than asked', ['--key', 'other'], 'RECEIPT_OTHER_KEY'],
    ['another value than asked', ['--value', 'hallo'], 'RECEIPT_OTHER_VALUE'],
    ['a value of another key', ['--key', 'greeting', '--value', '1'], 'RECEIPT_OTHER_VALUE'],
  ])('refuses %s', async (_, argv, code) => {
    await expect(verify(receipt, '--vkey', vkey, ...argv)).rejects.toThrowError(refusal(code));
  });

  test.each([
    ['a value in two ways', ['--vkey', vkey, '--value', 'hello', '--value-file', receipt]],
    ['an address beside the key', ['--vkey', vkey, '--network-key', `0x${'ab'.repeat(20)}`]],
  ])('%s is a mistake', async (_, argv) => {
    await expect(verify(receipt, ...argv)).rejects.toThrowError(refusal('USAGE'));
  });

  test.each([
    ['the receipt', () => ['/dev/zero', '--vkey', vkey]],
    ['the value', () => [receipt, '--vkey', vkey, '--value-file', '/dev/zero']],
    ['the evidence', () => [receipt, '--evidence', '/dev/zero', '--network-key', `0x${'ab'.repeat(20)}`]],
    ['a folder as the receipt', () => [folder, '--vkey', vkey]],
  ])('%s that never ends, or is no file, is not read', async (_, argv) => {
    await expect(verify(...argv())).rejects.toThrowError(refusal('FILE_KIND'));
  });

  test('lines that a signer of another log added are left aside', async () => {
    const line = `— example.org/witness ${Buffer.alloc(68).toString('base64')}\n`;
    expect(await verify(save('witnessed', withHead(log.checkpoint() + line)), '--vkey', vkey)).toMatch(
      /PROVEN/,
    );
  });

  test('takes the namespace that it has to be of, and refuses any other', async () => {
    const namespace = Buffer.from('a/app/');
    const apps = save('apps', log.receipt(2, [1], { namespace }));
    const own = ['--vkey', vkey, '--namespace', 'a/app/', '--key', 'b'];
    expect(await verify(apps, ...own)).toContain('namespace  a/app/\n');
    for (const other of ['o/', 'a/ap/', 'd/app/'])
      await expect(verify(apps, '--vkey', vkey, '--namespace', other)).rejects.toThrowError(
        refusal('RECEIPT_OTHER_NAMESPACE'),
      );
    await expect(verify(apps, '--vkey', vkey, '--namespace', 'app')).rejects.toThrowError(refusal('USAGE'));
    const nothing = save('nothing', log.receipt(2, [], { namespace }));
    await expect(verify(nothing, ...own.slice(0, 4))).rejects.toThrowError(
      refusal('RECEIPT_OTHER_NAMESPACE'),
    );
  });

  const elsewhere = noteSigner(origin, new Uint8Array(32));
  const withHead = (note: string) => log.receipt(0, undefined, { checkpoint: note });
  const head = { origin, size: log.size, root: log.root() };
  const other = new MemoryLog(events.with(0, [put('o/greeting', 'hallo')]));
  test.each([
    ['leaf', withHead(log.checkpoint()).replace('index 0', 'index 1'), 'RECEIPT_LEAF'],
    ['leaf of another log', other.receipt(0, undefined, { checkpoint: log.checkpoint() }), 'RECEIPT_PROOF'],
    ['head', withHead(signCheckpoint(head, [elsewhere])), 'NOTE_UNSIGNED'],
    ['head over more', withHead(log.checkpoint().replace('\n403\n', '\n404\n')), 'NOTE_SIGNATURE'],
    ['proof', log.receipt(0, undefined, { proof: Array(9).fill(new Uint8Array(32)) }), 'RECEIPT_PROOF'],
  ])('a forged %s is detected', async (_, forged, code) => {
    await expect(verify(save('forged', forged), '--vkey', vkey)).rejects.toThrowError(refusal(code));
  });
});

describe('kv audit', () => {
  const audit = (...argv: string[]) => run('kv audit', ...argv);

  test('of a folder, offline: every file of it', async () => {
    const text = await audit(saveLog('log', log.files()), '--vkey', vkey);
    expect(text).toMatch(/revisions +403, of which 0 events are readable/);
    expect(text).toMatch(/SOUND\n$/);
  });

  test('from one head to the next', async () => {
    const kept = join(folder, 'head');
    await audit(saveLog('early', log.files(300)), '--vkey', vkey, '--save-head', kept);
    expect(readFileSync(kept, 'utf8')).toBe(log.checkpoint(300));
    const text = await audit(
      saveLog('log', log.files()),
      '--vkey',
      vkey,
      '--head',
      kept,
      '--save-head',
      kept,
    );
    expect(text).toMatch(/continues the earlier head/);
    expect(readFileSync(kept, 'utf8')).toBe(log.checkpoint());
  });

  test.each([
    ['a fork', () => new MemoryLog(events.with(100, [put('o/x', 'y')])).files(), 'LOG_FORKED'],
    ['a log that was rolled back', () => log.files(200), 'LOG_ROLLED_BACK'],
  ])('%s is detected', async (_, files, code) => {
    const [kept, saved] = [save('kept', log.checkpoint(300)), join(folder, 'none')];
    const where = saveLog(`forked-${code}`, files());
    const refused = audit(where, '--vkey', vkey, '--head', kept, '--save-head', saved);
    await expect(refused).rejects.toThrowError(refusal(code));
    expect(() => readFileSync(saved)).toThrow();
  });

  const forged = (path: string, bytes: Buffer) => new Map(log.files()).set(path, bytes);
  const flipped = (path: string) => {
    const bytes = Buffer.from(log.files().get(path)!);
    bytes[20]! ^= 1;
    return forged(path, bytes);
  };
  test.each([
    ['leaf', flipped('tile/entries/000'), 'LOG_ENTRY'],
    ['tile', flipped('tile/0/000'), 'LOG_TILE'],
    ['root', flipped('tile/0/001.p/147'), 'LOG_ROOT'],
    [
      'head',
      forged('checkpoint', Buffer.from(log.checkpoint().replace('\n403\n', '\n402\n'))),
      'NOTE_SIGNATURE',
    ],
  ])('a forged %s is detected', async (name, files, code) => {
    await expect(audit(saveLog(`forged-${name}`, files), '--vkey', vkey)).rejects.toThrowError(refusal(code));
  });

  test('a copy with a head is one that was found sound', async () => {
    const copy = join(folder, 'kept-copy');
    const forked = saveLog('forked-late', flipped('tile/entries/000'));
    await expect(audit(forked, '--vkey', vkey, '--copy', copy)).rejects.toThrowError(refusal('LOG_ENTRY'));
    expect(readdirSync(copy)).not.toContain('checkpoint');
  });

  test('a copy is never overwritten by another history: it is the evidence', async () => {
    const [copy, kept] = [join(folder, 'evidence'), join(folder, 'evidence-head')];
    await audit(saveLog('log', log.files()), '--vkey', vkey, '--copy', copy, '--save-head', kept);
    const before = new Map(
      ['checkpoint', 'tile/0/000', 'tile/entries/000'].map((path) => [path, readFileSync(join(copy, path))]),
    );
    const other = saveLog('history', new MemoryLog(events.with(100, [put('o/x', 'y')])).files());
    const again = () => audit(other, '--vkey', vkey, '--copy', copy, '--save-head', kept);
    await expect(again()).rejects.toThrowError(refusal('LOG_FORKED'));
    expect(readFileSync(join(copy, 'checkpoint'))).toEqual(before.get('checkpoint'));
    // By the tiles alone, if somebody took the head away.
    rmSync(join(copy, 'checkpoint'));
    await expect(again()).rejects.toThrowError(refusal('LOG_COPY'));
    before.delete('checkpoint');
    for (const [path, bytes] of before) expect(readFileSync(join(copy, path)), path).toEqual(bytes);
    expect(readFileSync(kept, 'utf8')).toBe(log.checkpoint());
  });

  test('a copy is of one log: the head of another, whose tiles are beside its own, is not put there', async () => {
    const copy = join(folder, 'one-log');
    await audit(saveLog('early', log.files(300)), '--vkey', vkey, '--copy', copy);
    const another = new MemoryLog(events.with(0, [put('o/other', '1')]));
    const refused = audit(saveLog('another', another.files(200)), '--vkey', vkey, '--copy', copy);
    await expect(refused).rejects.toThrowError(refusal('LOG_ROLLED_BACK'));
    expect(readFileSync(join(copy, 'checkpoint'), 'utf8')).toBe(log.checkpoint(300));
  });

  test('a link to what never ends, in a folder that somebody else made', async () => {
    const where = saveLog('linked', log.files());
    rmSync(join(where, 'tile/0/000'));
    symlinkSync('/dev/zero', join(where, 'tile/0/000'));
    await expect(audit(where, '--vkey', vkey)).rejects.toThrowError(refusal('FILE_KIND'));
  });

  test.each([
    ['a folder that is not there', ['nowhere'], 'LOG_FOLDER'],
    ['an address without a scheme', ['127.0.0.1:2379'], 'LOG_FOLDER'],
    ['another scheme', ['ftp://127.0.0.1/'], 'USAGE'],
    ['a user in the URL', ['https://me:secret@127.0.0.1:2379'], 'USAGE'],
    ['a certificate without its key', ['https://127.0.0.1:2379', '--cert', 'x'], 'USAGE'],
    ['an authority for http', ['http://127.0.0.1:2379', '--cacert', 'x'], 'USAGE'],
    [
      'an authority that is none',
      ['https://127.0.0.1:2379', '--cacert', save('none.pem', 'x')],
      'KV_CERTIFICATE',
    ],
    ['an authority without end', ['https://127.0.0.1:2379', '--cacert', '/dev/zero'], 'FILE_KIND'],
    ['a head in place of a folder', [folder, '--save-head', folder], 'FILE_KIND'],
  ])('%s', async (_, argv, code) => {
    await expect(audit(...argv, '--vkey', vkey)).rejects.toThrowError(refusal(code));
  });

  test('a folder without a file of it, and one that is too large', async () => {
    const where = saveLog('partial', log.files());
    rmSync(join(where, 'tile/0/000'));
    await expect(audit(where, '--vkey', vkey)).rejects.toThrowError(refusal('LOG_FILE_MISSING'));
    save('partial/tile/0/000', Buffer.alloc(8_193));
    await expect(audit(where, '--vkey', vkey)).rejects.toThrowError(refusal('FILE_TOO_LARGE'));
  });
});

describe('kv audit by a network', () => {
  const key = networkKey(secret, 1);
  const world = { networkKey: key.address as string, allowed: true };
  const now = () => Math.floor(Date.now() / 1000);
  const views: Record<string, () => unknown[]> = {
    eip712Domain: () => [
      '0x0f',
      'Dstack',
      '1',
      logNetwork.chainId,
      logNetwork.contract,
      `0x${'00'.repeat(32)}`,
      [],
    ],
    network: () => [[world.networkKey, 1, true, 0, 256, false]],
    tcbPolicy: () => [0, statusMask(['UpToDate']), 0],
    fmspcDenied: () => [false],
    isAllowed: () => [world.allowed, true, true],
  };
  const rpcAnswers: Record<string, (params: { data: string }[]) => unknown> = {
    eth_chainId: () => '0x7a69',
    eth_getCode: () => '0x60',
    eth_getBlockByNumber: () => ({
      number: '0x64',
      hash: to0x(sha256(utf8('block'))),
      timestamp: `0x${now().toString(16)}`,
    }),
    eth_call: (params) => {
      const { name } = networkInterface.getFunction(params[0]!.data.slice(0, 10))!;
      return networkInterface.encodeFunctionResult(name, views[name]!());
    },
  };
  const rpc = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { id, method, params } = JSON.parse(body);
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: rpcAnswers[method]!(params) }));
  });
  let chain: string[] = [];
  beforeAll(async () => {
    await new Promise<void>((resolve) => rpc.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(rpc.address() as AddressInfo).port}`;
    chain = ['--network', logNetwork.contract, '--rpc', url, '--chain-id', '31337', '--flavour', 'sim'];
  });
  afterAll(() => rpc.close());
  beforeEach(() => Object.assign(world, { networkKey: key.address, allowed: true }));
  const where = (name: string, evidence: object = forgeLogKey()) => {
    const files = log.files().set('evidence.json', Buffer.from(JSON.stringify(evidence)));
    return saveLog(name, files);
  };
  const audit = (...argv: string[]) => run('kv audit', ...argv);

  test('whose key it is, and on which machine, is the contract’s and the quote’s word', async () => {
    const [copy, served] = [join(folder, 'of-network'), where('served')];
    const text = await audit(served, ...chain, '--copy', copy);
    expect(text).toContain(`network    ${logNetwork.contract}, by the word of 1 of 127.0.0.1`);
    expect(text).toMatch(/passed +report-data/);
    expect(text).toMatch(/key +of a machine with measurement [0-9a-f]{64}/);
    expect(text).not.toContain('unchecked');
    expect(text).toMatch(/SOUND\n$/);
    const found = JSON.parse(await audit(copy, ...chain, '--vkey', vkey, '--json'));
    expect(found).toMatchObject({
      revisions: 403,
      notChecked: [],
      network: { epoch: 1, status: 'UpToDate' },
    });
  });

  test('what nobody looked at is said', async () => {
    const served = where('served');
    const file = join(served, 'evidence.json');
    for (const argv of [
      ['--vkey', vkey],
      ['--evidence', file, '--network-key', key.address],
    ]) {
      expect(await audit(served, ...argv)).toMatch(
        /\nunchecked +whether .* and the quote that binds .*: give --network/,
      );
      const found = JSON.parse(await audit(served, ...argv, '--json'));
      expect(found).toMatchObject({
        network: null,
        notChecked: [expect.stringContaining('the quote')],
      });
      expect(Object.keys(found)).toEqual(answers['kv audit']);
    }
  });

  test.each([
    [
      'a key that another network key signed',
      {},
      { networkKey: networkKey(secret, 2).address },
      'LEDGER_KEY_UNSIGNED',
    ],
    ['a measurement that is not allowed', {}, { allowed: false }, 'MEASUREMENT_NOT_ALLOWED'],
    ['a quote that is for something else', { reportData: new Uint8Array(64) }, {}, 'REPORT_DATA_MISMATCH'],
    ['no quote', { unquoted: true }, {}, 'LEDGER_UNQUOTED'],
  ])('%s is refused, and nothing is kept', async (_, lies, changes, code) => {
    Object.assign(world, changes);
    const copy = join(folder, `refused-${code}`);
    const refused = audit(where(`lie-${code}`, forgeLogKey(lies)), ...chain, '--copy', copy);
    await expect(refused).rejects.toThrowError(refusal(code));
    expect(() => readFileSync(join(copy, 'checkpoint'))).toThrow();
  });

  test('a head that the attested key did not sign', async () => {
    const another = noteSigner(origin, new Uint8Array(32).fill(9));
    const forged = signCheckpoint({ origin, size: log.size, root: log.root() }, [another]);
    const served = where('other-head');
    save('other-head/checkpoint', forged);
    await expect(audit(served, ...chain)).rejects.toThrowError(refusal('NOTE_UNSIGNED'));
    await expect(audit(where('served'), ...chain, '--vkey', verifierKey(another))).rejects.toThrowError(
      refusal('LEDGER_OTHER_KEY'),
    );
  });

  test('collateral that never ends is not read', async () => {
    const refused = audit(where('served'), ...chain, '--collateral', '/dev/zero');
    await expect(refused).rejects.toThrowError(refusal('FILE_KIND'));
  });

  test('a folder without evidence, and calls that contradict themselves', async () => {
    const bare = saveLog('bare', log.files());
    await expect(audit(bare, ...chain)).rejects.toThrowError(refusal('LEDGER_EVIDENCE_MISSING'));
    for (const argv of [
      [...chain, '--network-key', key.address],
      ['--vkey', vkey, '--collateral', 'x'],
      ['--vkey', vkey, '--rpc', 'http://127.0.0.1:1'],
      // What was typed wrong is said before what is not beside the log.
      ['--network', '0x12', ...chain.slice(2)],
      ['--network', logNetwork.contract],
      ['--network', logNetwork.contract, '--rpc', 'http://127.0.0.1:1', '--chain-id', 'one'],
    ])
      await expect(audit(bare, ...argv)).rejects.toThrowError(refusal('USAGE'));
  });
});

describe('over HTTP', () => {
  const files = log.files();
  const answers = new Map([...files].map(([path, bytes]) => [`/ledger/${path}`, bytes]));
  const asked: string[] = [];
  const server = createServer((request, response) => {
    request.on('data', (chunk) => asked.push(String(chunk)));
    request.on('end', () => {
      const receipt = { txReceipt: { leafComponents: { commitEvidence: log.receipt(2, [0]) } } };
      const body = request.method === 'POST' ? JSON.stringify({ receipt }) : answers.get(request.url!);
      response.writeHead(body === undefined ? 404 : 200).end(body);
    });
  });
  let url = '';
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  test('a store is audited, and copied for an audit without it', async () => {
    const copy = join(folder, 'copy');
    expect(await run('kv audit', url, '--vkey', vkey, '--copy', copy)).toMatch(/SOUND/);
    expect(await run('kv audit', `${url}/ledger`, '--vkey', vkey)).toMatch(/SOUND/);
    expect(await run('kv audit', copy, '--vkey', vkey)).toMatch(/SOUND/);
    answers.delete('/ledger/tile/1/000.p/1');
    await expect(run('kv audit', url, '--vkey', vkey)).rejects.toThrowError(refusal('KV_REFUSED'));
    await expect(run('kv audit', 'http://127.0.0.1:1', '--vkey', vkey)).rejects.toThrowError(
      refusal('KV_UNREACHABLE'),
    );
  });

  test('a receipt is got by revision, or by key', async () => {
    const out = join(folder, 'got');
    await run('kv receipt get', url, '--revision', '4', '--out', out);
    expect(readFileSync(out, 'utf8')).toBe(log.receipt(2, [0]));
    expect(await run('kv receipt get', url, '--key', 'a')).toContain('c2sp.org/tlog-proof@v1');
    expect(asked.map((body) => JSON.parse(body))).toEqual([{ revision: '4' }, { key: 'YQ==' }]);
    for (const argv of [
      [],
      ['--revision', '1', '--key', 'a'],
      ['--revision', '-1'],
      ['--revision', `${2n ** 63n}`],
    ])
      await expect(run('kv receipt get', url, ...argv)).rejects.toThrowError(refusal('USAGE'));
    await expect(run('kv receipt get', 'ftp://x', '--revision', '4')).rejects.toThrowError(refusal('USAGE'));
  });
});
