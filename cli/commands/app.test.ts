import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { appId, Chain, TestNetwork, value } from '../../contracts/fixture.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { encodeRollback, encodeRollout } from '../../lib/protocol/network-contract.ts';
import { type Anvil, startAnvil } from '../../test/support/anvil.ts';
import { readArguments } from '../command.ts';
import { appCommands } from './app.ts';

const DELAY = 1_000;
/** Anvil's first account, from its published mnemonic. */
const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const FIRST = to0x(value('manifest 1'));
const SECOND = to0x(value('manifest 2'));

let anvil: Anvil;
let chain: Chain;
let folder: string;
let network: TestNetwork;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  folder = await mkdtemp(join(tmpdir(), 'dstack-app-'));
  await writeFile(join(folder, 'owner.key'), OWNER_KEY, { mode: 0o600 });
});
afterAll(async () => {
  await rm(folder, { recursive: true });
  await anvil.stop();
});
beforeEach(async () => {
  network = await TestNetwork.bootstrapped(chain, { delay: DELAY });
  await network.asOwner(encodeRollout({ app: appId('web'), manifestHash: FIRST }));
});

async function rollout(manifest: string): Promise<void> {
  const command = appCommands.find(({ name }) => name === 'app rollout')!;
  const options = [
    '--rpc',
    anvil.url,
    '--chain-id',
    '31337',
    '--yes',
    '--contract',
    network.address,
    '--owner-key',
    join(folder, 'owner.key'),
  ];
  await command.run(readArguments(command, [...options, 'web', manifest]));
}

/** What `app pack` says of an archive of these bytes; nothing of it may have come into the volume. */
async function packing(bytes: Uint8Array, name = 'app.tar.gz'): Promise<{ code: string; message: string }> {
  const archive = join(folder, name);
  await writeFile(archive, bytes);
  const volume = join(folder, 'volume');
  const command = appCommands.find((it) => it.name === 'app pack')!;
  const failure = await command.run(readArguments(command, ['web', archive, '--out', volume])).then(
    () => ({ code: 'done', message: '' }),
    ({ code, message }) => ({ code, message }),
  );
  expect(existsSync(volume)).toBe(false);
  return failure;
}

async function tarOf(entries: Record<string, Uint8Array | string>): Promise<Buffer> {
  const archive = pack();
  for (const [name, content] of Object.entries(entries)) archive.entry({ name }, Buffer.from(content));
  archive.finalize();
  return Buffer.concat((await Array.fromAsync(archive)) as Buffer[]);
}

test.each<[string, string, string, (bytes: Buffer) => Buffer]>([
  ['gzip', 'app.tar.gz', 'gunzip -c FOLDER/app.tar.gz > app.tar', gzipSync],
  ['gzip', 'app.tgz', 'gunzip -c FOLDER/app.tgz > app.tar', gzipSync],
  ['zstd', 'app-1.2.tar.zst', 'unzstd -c FOLDER/app-1.2.tar.zst > app-1.2.tar', zstdCompressSync],
])(
  'an archive compressed with %s, %s, is called so, with the command that makes a plain one',
  async (format, name, how, by) => {
    const { code, message } = await packing(by(await tarOf({ 'manifest.json': '[]' })), name);
    expect(code).toBe('ARCHIVE_COMPRESSED');
    expect(message).toContain(`is compressed with ${format}`);
    expect(message).toContain(`\`${how.replace('FOLDER', folder)}\``);
  },
);

test('a compressed layer in a plain archive, which no node would take, is named', async () => {
  const index = JSON.stringify([{ Config: 'config.json', Layers: ['a.tar', 'b.tar'] }]);
  const layers = { 'a.tar': await tarOf({}), 'b.tar': gzipSync(randomBytes(2 * 1024 * 1024)) };
  const { code, message } = await packing(
    await tarOf({ ...layers, 'manifest.json': index, 'config.json': '{}' }),
    'app.tar',
  );
  expect([code, message]).toEqual(['ARCHIVE_COMPRESSED', expect.stringContaining('layer 1 in ')]);
});

test('a rollout of the manifest in force is refused before anything is sent', async () => {
  await chain.pass(DELAY);
  await expect(rollout(FIRST)).rejects.toMatchObject({
    code: 'ALREADY_ROLLED_OUT',
    message: `web runs ${FIRST} already`,
  });
  await rollout(SECOND);
  expect(await network.app('web')).toMatchObject({ manifestHash: FIRST, latest: SECOND });
  await expect(rollout(FIRST)).rejects.toMatchObject({
    code: 'ALREADY_ROLLED_OUT',
    message: expect.stringContaining('app rollback web'),
  });
});

test('a rollout that is pending keeps its time', async () => {
  const before = await network.app('web');
  await chain.pass(10);
  await expect(rollout(FIRST)).rejects.toMatchObject({
    code: 'ALREADY_ROLLED_OUT',
    message: expect.stringContaining(new Date(Number(before.from) * 1_000).toISOString()),
  });
  expect(await network.app('web')).toEqual(before);
  await rollout(SECOND);
  expect(await network.app('web')).toMatchObject({ latest: SECOND });
});

test('a rollout that was sent by a command that died is waited for, not sent a second time', async () => {
  await chain.pass(DELAY);
  await chain.rpc('evm_setAutomine', false);
  try {
    const wanted = { app: appId('web'), manifestHash: SECOND };
    const data = encodeRollout(wanted);
    await chain.rpc('eth_sendTransaction', { from: network.owner, to: network.address, data });
    const again = rollout(SECOND).catch((error) => error);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await chain.mine(1);
    expect(await again).toMatchObject({ code: 'ALREADY_ROLLED_OUT' });
    await chain.mine(1);
    await chain.pass(DELAY);
    // The one before is still there to go back to.
    await chain.rpc('evm_setAutomine', true);
    await network.asOwner(encodeRollback({ app: appId('web') }));
    expect((await network.app('web')).manifestHash).toBe(FIRST);
  } finally {
    await chain.rpc('evm_setAutomine', true);
  }
});
