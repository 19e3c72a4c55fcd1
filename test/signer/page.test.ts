import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addressOf, cometJson, ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { freePort } from '../support/free-port.ts';
import { TestEtcd } from './support/etcd.ts';
import { TestNode } from './support/node.ts';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'dstack-signer-page-'));
const page = readFileSync(join(root, 'docs/signer.md'), 'utf8');
const commands = [...page.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block]) =>
  block!.trim().split('\n'),
);
const seed = new Uint8Array(32).fill(42);
const imported = ed25519Key(seed).publicKey;
let etcd: TestEtcd;
let node: TestNode;
let kms: Server;
let statusPort: number;
let kmsPort: number;
let recipient: string;
let running: ChildProcess | undefined;
const output = new Map<string, string>();

beforeAll(async () => {
  etcd = await TestEtcd.start();
  node = await TestNode.listen();
  statusPort = await freePort();
  kms = keyService();
  kms.listen(0, '127.0.0.1');
  await once(kms, 'listening');
  kmsPort = (kms.address() as { port: number }).port;
  const identity = await generateIdentity();
  recipient = await identityToRecipient(identity);
  writeFileSync(join(folder, 'backup.key'), `# created\n${identity}\n`);
  const both = Buffer.concat([seed, imported]).toString('base64');
  const keyFile = {
    address: addressOf(imported),
    pub_key: cometJson(imported),
    priv_key: { type: 'tendermint/PrivKeyEd25519', value: both },
  };
  writeFileSync(join(folder, 'priv_validator_key.json'), JSON.stringify(keyFile));
  writeFileSync(join(folder, 'priv_validator_state.json'), '{"height":"7","round":0,"step":3}');
  mkdirSync(join(folder, 'bin'));
  const shim = join(folder, 'bin/npx');
  writeFileSync(shim, `#!/bin/sh\nshift\nexec "${process.execPath}" "${join(root, 'cli/main.ts')}" "$@"\n`);
  chmodSync(shim, 0o755);
});

afterAll(async () => {
  running?.kill('SIGKILL');
  await node?.close();
  kms?.close();
  await etcd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A key service that keeps what it is given under a mask. */
function keyService(): Server {
  const mask = (text: string): string =>
    Buffer.from(Buffer.from(text, 'base64').map((byte) => byte ^ 0x5a)).toString('base64');
  return createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { Plaintext, CiphertextBlob } = JSON.parse(Buffer.concat(chunks).toString());
      const isSigned = /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/eu-west-1\/kms\/aws4_request/.test(
        String(request.headers.authorization),
      );
      if (!isSigned) response.statusCode = 403;
      response.end(
        JSON.stringify(
          Plaintext === undefined ? { Plaintext: mask(CiphertextBlob) } : { CiphertextBlob: mask(Plaintext) },
        ),
      );
    });
  });
}

const environment = () => ({
  ...process.env,
  PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
  RECIPIENT: recipient,
  AWS_ACCESS_KEY_ID: 'AKID',
  AWS_SECRET_ACCESS_KEY: 'secret',
  DSTACK_SIGNER_KMS_ENDPOINT: `http://127.0.0.1:${kmsPort}/`,
});

/** With this test's ports instead of the page's. */
function here(command: string): string {
  return command
    .replace('tcp://127.0.0.1:26659', node.address)
    .replace('http://127.0.0.1:2379', etcd.endpoints[0]!);
}

async function run(command: string): Promise<string> {
  const { all, exitCode } = await execa('sh', ['-c', here(command)], {
    cwd: folder,
    env: environment(),
    all: true,
    reject: false,
  });
  expect(exitCode, `${command}\n${all}`).toBe(0);
  return all;
}

async function start(command: string): Promise<void> {
  running = spawn('sh', ['-c', `exec ${here(command)}`], {
    cwd: folder,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said: string[] = [];
  for (const stream of [running.stdout!, running.stderr!])
    stream.on('data', (chunk) => said.push(String(chunk)));
  await node.accept(200_000);
  await expect.poll(() => said.join('')).toContain('WARNING: this signer is not in a VM');
  const asked = await node.ask({ pubKey: { chain: 'testchain-1' } });
  expect((asked.pubKey as { error?: unknown }).error).toBeUndefined();
}

async function stop(): Promise<void> {
  const ended = once(running!, 'exit');
  running!.kill('SIGTERM');
  expect((await ended)[0]).toBe(0);
  running = undefined;
}

test('every command of the page does what it says', async () => {
  expect(commands.length).toBeGreaterThan(14);
  for (const command of commands) {
    if (command.startsWith('npx dstack signer start')) {
      // Twice on one machine.
      await run(`sed -i 's/26661/${statusPort}/' signer.toml`);
      await start(command);
    } else {
      output.set(command, await run(command));
    }
    if (command === 'npx dstack signer status') await stop();
  }
  const said = (part: string): string => [...output].find(([command]) => command.includes(part))?.[1] ?? '';
  expect(said('signer init')).toMatch(/cosmosvalconspub1/);
  expect(said('state show')).toMatch(/"height":"?0/);
  expect(said('signer status')).toMatch(/ONE MEMBER[\s\S]*testchain-1 \(v0.38\)[\s\S]*serving/);
  expect(said('signer import')).toContain(cometJson(imported).value);
  expect(said('validator.age --identity')).toContain('height 7, round 0, step 3');
  expect(said('recover -r validator.kms.json')).toContain(cometJson(imported).value);
}, 300_000);

test('what must not be done is refused, with a code', async () => {
  const refused = async (command: string, code: RegExp): Promise<void> => {
    const { all, exitCode } = await execa('sh', ['-c', here(`npx dstack signer ${command}`)], {
      cwd: folder,
      env: environment(),
      all: true,
      reject: false,
    });
    expect(exitCode, command).not.toBe(0);
    expect(all).toMatch(code);
  };
  writeFileSync(join(folder, 'old.json'), '{"height":"6","round":0,"step":3}');
  await Promise.all([
    refused('start', /--dev/),
    refused('init', /is there already/),
    refused('state import --secret dev.secret --fresh', /STATE_NEWER/),
    refused('state import --secret dev.secret --state old.json', /STATE_NEWER/),
    refused('import priv_validator_key.json --secret dev.secret', /--fresh/),
    refused('backup --secret dev.secret --out none.age', /BACKUP_RECIPIENT/),
    refused('backup --secret dev.secret --out validator.age', /is there already/),
  ]);
  // The validator signs on, and the backup is old.
  writeFileSync(join(folder, 'new.json'), '{"height":"9","round":0,"step":1}');
  await run('npx dstack signer state import --secret dev.secret --state new.json');
  await refused('recover -r validator.age --identity backup.key --secret dev.secret', /STATE_NEWER/);
  expect(await run('npx dstack signer state show --secret dev.secret')).toContain('"height":"9"');
  writeFileSync(join(folder, 'backup2.key'), `${await generateIdentity()}\n`);
  await refused('recover validator.age --identity backup2.key --secret dev.secret', /BACKUP_KEY/);
  chmodSync(join(folder, 'dev.secret'), 0o644);
  await refused('pubkey --secret dev.secret', /SIGNER_SECRET.*chmod 600/);
}, 300_000);
