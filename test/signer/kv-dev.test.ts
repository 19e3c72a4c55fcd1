/** `npx dstack signer start --dev` on `npx dstack kv start --dev`, both as people run them, over TLS. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { toHex } from '../../lib/protocol/encoding.ts';
import { freePort } from '../support/free-port.ts';
import { node24 } from '../support/network.ts';
import { TestNode } from './support/node.ts';

// Each start is several processes.
vi.setConfig({ testTimeout: 180_000 });

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'dstack-signer-kv-'));
const data = join(folder, 'kv');
const CHAIN = 'dev-1';
const started: ChildProcess[] = [];
let address: string;
let validator: TestNode;

beforeAll(async () => {
  address = `127.0.0.1:${await freePort()}`;
  validator = await TestNode.listen();
  const cert = (name: string) => JSON.stringify(join(data, 'certs', name));
  const lines = [
    '[store]',
    `endpoints = ["https://${address}"]`,
    `ca = ${cert('authority_cert.pem')}`,
    `certificate = ${cert('user0_cert.pem')}`,
    `key = ${cert('user0_privk.pem')}`,
    'accept_host_rollback = true',
    '[[chain]]',
    `id = "${CHAIN}"`,
    'protocol_version = "v0.38"',
    '[[validator]]',
    `chain_id = "${CHAIN}"`,
    `address = "${validator.address}"`,
  ];
  writeFileSync(join(folder, 'signer.toml'), lines.join('\n'));
});
afterAll(async () => {
  for (const child of started) await stop(child);
  await validator?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** Resolves once it says what is waited for. */
async function start(until: RegExp, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(node24, [join(root, 'cli/dstack.mjs'), ...args], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.push(child);
  let said = '';
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (until.test(said)) resolve();
    });
  child.once('close', () => reject(new Error(`${args.join(' ')} ended: ${said}`)));
  await promise;
  return child;
}

const startKv = () => start(/kv listens at/, 'kv', 'start', '--dev', '--data', data, '--listen', address);
const startSigner = () => start(/signs/, 'signer', 'start', '--dev', '--secret', 'dev.secret');

/** A signature, or why there is none; asked again where the store is away, or the connection new. */
async function prevote(height: number, byte: number): Promise<string> {
  const hash = new Uint8Array(32).fill(byte);
  const vote = {
    ...{ type: 1, height: BigInt(height), round: 0, block: { hash, parts: { total: 1, hash } } },
    ...{ timestamp: { seconds: 1n, nanos: 0 }, address: new Uint8Array(20), index: 0 },
  };
  return vi.waitFor(
    async () => {
      const answer = (await validator.ask({ vote: { vote, chain: CHAIN } }).catch((error: unknown) => {
        validator.drop();
        throw error;
      })) as { vote: { vote?: { signature: Uint8Array }; error?: { description: string } } };
      const { vote: signed, error } = answer.vote;
      if (error?.description.startsWith('STORE_UNAVAILABLE')) throw new Error(error.description);
      return error?.description ?? toHex(signed!.signature);
    },
    { timeout: 90_000, interval: 200 },
  );
}

test('the record of a signer is in a store of ours, and outlives both', async () => {
  const kv = await startKv();
  const cli = (...args: string[]) =>
    execa(node24, [join(root, 'cli/dstack.mjs'), 'signer', ...args, '--secret', 'dev.secret'], {
      cwd: folder,
    });
  writeFileSync(join(folder, 'dev.secret'), 'ab'.repeat(32), { mode: 0o600 });
  await cli('state', 'import', '--fresh');
  const signer = await startSigner();
  const first = await prevote(5, 1);
  expect(first).toMatch(/^[0-9a-f]{128}$/);
  expect((await cli('state', 'show')).stdout).toContain('"height":"5"');
  await stop(signer);
  await stop(kv);
  validator.drop();
  await startKv();
  await startSigner();
  expect(await prevote(5, 2)).toContain('SIGN_CONFLICT');
  expect(await prevote(4, 1)).toContain('SIGN_REGRESSION');
  expect(await prevote(5, 1)).toBe(first);
  expect(await prevote(6, 1)).toMatch(/^[0-9a-f]{128}$/);
});
