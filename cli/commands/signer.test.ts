/** What a new user types wrong: each is a sentence with a code, and nothing is left behind. 2: it was typed wrong; 1: something failed. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { configTemplate } from '../../guest/signer/template.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { freePort } from '../../test/support/free-port.ts';
import { readArguments, UsageError } from '../command.ts';
import { signerCommands } from './signer.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-signer-cli-'));
const before = process.cwd();
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});
let down: string;
beforeEach(async () => {
  process.chdir(mkdtempSync(join(folder, 'run-')));
  down = `http://127.0.0.1:${await freePort()}`;
});
afterEach(() => vi.restoreAllMocks());

const save = (name: string, text: string): void => writeFileSync(name, text, { mode: 0o600 });
const template = (endpoint = down): string =>
  configTemplate({
    chainId: 'testchain-1',
    protocol: 'v0.38',
    address: 'tcp://127.0.0.1:26659',
    endpoint,
    prefix: 'cosmosvalconspub',
  });

/** As `npx dstack` runs it: `EXIT CODE`, and the sentence. */
async function run(line: string): Promise<{ end: string; message: string }> {
  const words = line.split(' ');
  const name = ['signer', ...words].slice(0, words[0] === 'state' ? 3 : 2).join(' ');
  const command = signerCommands.find((known) => known.name === name)!;
  for (const stream of ['stdout', 'stderr'] as const)
    vi.spyOn(process[stream], 'write').mockImplementation(() => true);
  try {
    await command.run(readArguments(command, words.slice(name.split(' ').length - 1)));
    return { end: '0', message: '' };
  } catch (error) {
    const exit = error instanceof UsageError ? 2 : 1;
    const { message, code } = error as DstackError;
    const isTold = error instanceof DstackError || 'syscall' in (error as object);
    return { end: `${exit} ${isTold ? code : `a stack trace of ${error}`}`, message };
  } finally {
    vi.restoreAllMocks();
  }
}

test.each([
  ['init --bogus', '2 USAGE', 'no option --bogus'],
  ['init extra', '2 USAGE', 'no arguments'],
  ['init -p', '2 USAGE', '-p needs a value'],
  [
    'init --chain-id tcp://10.0.0.1:1234 --secret new.secret',
    '2 SIGNER_CONFIG',
    '/chain/0/id must be up to 50',
  ],
  ['init -p hexx', '2 USAGE', 'not hexx'],
  ['init --protocol-version 0.38', '2 SIGNER_CONFIG', 'v0.34 or v0.37'],
  ['init --address 127.0.0.1:26659', '2 SIGNER_CONFIG', 'is no address'],
  ['init --endpoint 127.0.0.1:2379', '2 SIGNER_CONFIG', 'http://host:port'],
  ['init --endpoint http://127.0.0.1', '2 SIGNER_CONFIG', 'http://host:port'],
  ['init -b COSMOS -p bech32 --secret new.secret', '2 SIGNER_CONFIG', 'lower-case ASCII'],
  ['init -c nowhere/signer.toml --secret new.secret', '1 ENOENT', 'nowhere'],
  ['init --secret open.secret', '2 SIGNER_SECRET', 'chmod 600'],
  ['init --secret wrong.secret', '2 SIGNER_SECRET', '64 hex digits'],
  ['init --secret .', '2 FILE_KIND', 'a folder'],
  ['init --secret nowhere/new.secret', '1 ENOENT', 'nowhere'],
])('init: %s', async (line, end, words) => {
  writeFileSync('open.secret', 'ab'.repeat(32), { mode: 0o644 });
  save('wrong.secret', 'AB'.repeat(32));
  const there = readdirSync('.');
  const said = await run(line);
  expect(said).toEqual({ end, message: expect.stringContaining(words) });
  expect(readdirSync('.')).toEqual(there);
});

test.each([
  ['pubkey', '2 USAGE', '--secret is missing'],
  ['pubkey --secret dev.secret -c none.toml', '2 USAGE', 'none.toml is not there'],
  ['pubkey --secret dev.secret -c .', '2 FILE_KIND', 'a folder'],
  ['pubkey --secret dev.secret -c /dev/zero', '2 FILE_KIND', 'not a file'],
  ['pubkey --secret none.secret', '2 SIGNER_SECRET', 'is not there'],
  ['pubkey --secret dev.secret --chain-id other', '2 USAGE', 'not in the configuration'],
  ['pubkey --secret dev.secret -p bech32 -b Upper', '2 BECH32_PREFIX', 'lower-case'],
  ['start', '2 USAGE', '--dev'],
  ['start --dev --secret dev.secrte', '2 SIGNER_SECRET', 'is not there'],
  ['import', '2 USAGE', 'KEY_FILE'],
  ['import none.json --fresh --secret dev.secret', '2 FILE', 'cannot read none.json: ENOENT'],
  ['import key.b64 --state none.json --secret dev.secret', '2 FILE', 'cannot read none.json: ENOENT'],
  ['import raw.key --fresh --secret dev.secret', '2 KEY_FILE', 'not base64 of 32'],
  ['import bn254.json --fresh --secret dev.secret', '2 KEY_TYPE', 'cometbft/PrivKeyBn254'],
  ['import key.b64 --state empty.json --secret dev.secret', '2 STATE_FILE', 'not JSON'],
  ['import . --fresh --secret dev.secret', '2 FILE_KIND', 'a folder'],
  ['import state.json --fresh --secret dev.secret', '2 KEY_FILE', 'priv_key'],
  ['import key.b64 --secret dev.secret', '2 USAGE', '--fresh'],
  ['import key.b64 --fresh --state state.json --secret dev.secret', '2 USAGE', '--fresh'],
  ['import key.b64 --state key.b64 --secret dev.secret', '2 STATE_FILE', 'not JSON'],
  ['import key.b64 --fresh --secret dev.secret', '1 KEY_NETWORK', 'key = "imported"'],
  ['state show --secret dev.secret', '1 STORE_UNAVAILABLE', 'http://127.0.0.1:'],
  ['state import --secret dev.secret', '2 USAGE', '--state'],
  ['state import --fresh --secret dev.secret', '1 STORE_UNAVAILABLE', 'ECONNREFUSED'],
  ['backup --secret dev.secret --out b.age', '2 BACKUP_RECIPIENT', 'age1'],
  ['backup --secret dev.secret --out b.age --recipient age1nonsense', '2 BACKUP_RECIPIENT', 'no recipient'],
  ['backup --secret dev.secret --out none/b.age', '2 USAGE', 'none, the folder for --out'],
  ['backup --secret dev.secret --out state.json --recipient x', '2 USAGE', 'is there already'],
  ['wrap --secret dev.secret --out b.json', '2 USAGE', '--kms-key is missing'],
  ['wrap --secret dev.secret --out b.json --kms-key my-key', '2 KMS_KEY', 'no ARN'],
  [
    'wrap --secret dev.secret --out b.json --kms-key arn:aws:kms:eu-west-1:111122223333:key/1 --kms-endpoint localhost:80',
    '2 KMS_ENDPOINT',
    'no URL',
  ],
  ['recover', '2 USAGE', 'FILE'],
  ['recover none.age --secret dev.secret', '2 FILE', 'cannot read none.age: ENOENT'],
  ['recover . --secret dev.secret', '2 FILE_KIND', 'a folder'],
  ['recover state.json --secret dev.secret', '2 BACKUP_FILE', 'malformed'],
  ['recover cut.age --secret dev.secret', '2 BACKUP_KEY', '--identity'],
  ['recover cut.age --secret dev.secret --identity none.key', '2 FILE', 'cannot read none.key: ENOENT'],
  ['recover cut.age --secret dev.secret --identity state.json', '2 USAGE', 'AGE-SECRET-KEY'],
  ['status -c none.toml', '2 USAGE', 'not there'],
  ['status', '1 SIGNER_AWAY', 'no signer answers'],
])('%s', async (line, end, words) => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKID');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  save('signer.toml', template().replace('26661', String(await freePort())));
  save('dev.secret', `${'ab'.repeat(32)}\n`);
  save('key.b64', Buffer.alloc(32, 7).toString('base64'));
  save('empty.json', '');
  writeFileSync('raw.key', Buffer.alloc(32, 200), { mode: 0o600 });
  save('bn254.json', '{"priv_key":{"type":"cometbft/PrivKeyBn254","value":"AAAA"}}');
  save('state.json', '{"height":"7","round":0,"step":3}');
  save('cut.age', 'age-encryption.org/v1\n-> X25519 ');
  const there = readdirSync('.');
  expect(await run(line)).toEqual({ end, message: expect.stringContaining(words) });
  expect(readdirSync('.')).toEqual(there);
  vi.unstubAllEnvs();
});

test.each([
  ['adress = ', 'address = ', 'adress'],
  ['[[validators]]', '[[validator]]', 'validator'],
  ['accept_host_rollback = "yes"', 'accept_host_rollback = false', 'accept_host_rollback'],
  ['endpoints = []', /endpoints = .*/, 'endpoints'],
  ['endpoints = ["http://[::1:2379"]', /endpoints = .*/, 'store.endpoints'],
  ['ca = "ca.pem"', '# ca = "/etc/dstack/store-ca.pem"', 'are for https'],
  ['certificate = "c.pem"', '# certificate = "/etc/dstack/store.pem"', 'go together'],
  ['listen = "tcp://0.0.0.0:1"', /listen = .*/, 'status.listen'],
  ['listen = "tcp://127.0.0.1:0"', /listen = .*/, 'status.listen'],
  ['bech32_prefix = "Cosmos"', /bech32_prefix = .*/, 'bech32_prefix'],
  ['id = testchain-1', 'id = "testchain-1"', 'no TOML: line '],
])('signer.toml with %s', async (typo, text, words) => {
  save('signer.toml', template().replace(text, typo));
  save('dev.secret', 'ab'.repeat(32));
  const { end, message } = await run('pubkey --secret dev.secret');
  expect([end, message]).toEqual(['2 SIGNER_CONFIG', expect.stringContaining(words)]);
});

test('two validators at one address are a mistake: a node would leave the second one waiting', async () => {
  const validator = template().slice(template().indexOf('[[validator]]'), template().indexOf('[status]'));
  save('signer.toml', template().replace('[status]', `${validator}[status]`));
  save('dev.secret', 'ab'.repeat(32));
  expect((await run('pubkey --secret dev.secret')).message).toContain('serves one connection');
});

test('a status that cannot be served keeps the signer from starting, and no file of others is removed', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const at = `tcp://127.0.0.1:${(taken.address() as AddressInfo).port}`;
  save('dev.secret', 'ab'.repeat(32));
  save('signer.toml', template().replace('tcp://127.0.0.1:26661', at));
  expect(await run('start --dev --secret dev.secret')).toEqual({
    end: '1 SIGNER_STATUS',
    message: expect.stringContaining('EADDRINUSE'),
  });
  taken.close();
  save('precious', 'kept');
  const path = join(process.cwd(), 'precious');
  save('signer.toml', template().replace('tcp://127.0.0.1:26661', `unix://${path}`));
  expect((await run('start --dev --secret dev.secret')).message).toContain('is no socket');
  expect(existsSync('precious')).toBe(true);
  const served = createServer().listen(join(process.cwd(), 's.sock'));
  await once(served, 'listening');
  save('signer.toml', template().replace('tcp://127.0.0.1:26661', `unix://${process.cwd()}/s.sock`));
  expect((await run('start --dev --secret dev.secret')).message).toContain('another signer');
  expect(existsSync('s.sock')).toBe(true);
  served.close();
});

test('what answers the status and is no signer is said to be none', async () => {
  let says = '<html>';
  const server = createHttp((_, response) => response.end(says)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
  save('signer.toml', template().replace('tcp://127.0.0.1:26661', at));
  for (says of ['<html>', '{}', 'null', '{"dials":true}', '[]']) {
    expect(await run('status')).toMatchObject({
      end: '1 SIGNER_AWAY',
      message: expect.stringContaining('should be'),
    });
  }
  server.close();
});

test('a file that is a pipe is read, as of a shell', async () => {
  mkdirSync('pipes');
  execFileSync('mkfifo', ['pipes/secret']);
  save('signer.toml', template());
  const write = execFileSync.bind(undefined, 'sh', [
    '-c',
    `(printf '%064d' 0 > pipes/secret) >/dev/null 2>&1 &`,
  ]);
  write();
  expect((await run('state show --secret pipes/secret')).end).toBe('1 STORE_UNAVAILABLE');
});
