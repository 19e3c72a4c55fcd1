/**
 * docs/roles: what an owner with a Safe, an operator, an auditor and an app's author type, all but what boots a VM: on a chain of its own with
 * a network's contract, and a release of a small image.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getAddress } from 'ethers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { makeRelease } from '../cli/release/make.ts';
import { TestNetwork } from '../contracts/fixture.ts';
import { Chain } from '../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../contracts/local-node.ts';
import { formatLock, imageLockHash, type LockedPackage } from '../guest/image/packages.ts';
import { imageOf, layerOf, tar } from '../lib/archives/images.fixture.ts';
import { sha256, toHex } from '../lib/protocol/encoding.ts';
import { encodeTransferOwnership } from '../lib/protocol/network-contract.ts';
import { type Block, blocksOf, type Shell, shell } from './support/page.ts';
import { writeTestImage } from './support/vm-process.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 240_000 });

const root = join(import.meta.dirname, '..');
/** An account that nobody has a key of, as a multisig's contract. */
const SAFE = getAddress('0x00000000000000000000000000000000000a11ce');
const folder = mkdtempSync(join(tmpdir(), 'dstack-roles-'));
const path = (...names: string[]) => join(folder, ...names);
let anvil: Anvil;
let chain: Chain;
let network: TestNetwork;
let here: Shell;
let env: Record<string, string>;

beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  network = await TestNetwork.bootstrapped(chain, { delay: 86_400 });
  await chain.rpc('anvil_impersonateAccount', SAFE);
  await chain.rpc('anvil_setBalance', SAFE, '0xde0b6b3a7640000');
  await network.asOwner(encodeTransferOwnership({ newOwner: SAFE }));
  await chain.rpc('eth_sendTransactionSync', { from: SAFE, to: network.address, data: '0x79ba5097' });
  const release = await makeSmallRelease();
  writeFileSync(path('shop.tar'), await tar(imageOf([layerOf('hello')]).items));
  here = shell(folder);
  for (const name of ['auditing', 'host.env.example'])
    cpSync(join(root, name), path(name), { recursive: true });
  env = {
    ...{ DSTACK_RPC_URL: anvil.url, DSTACK_CHAIN_ID: '31337', DSTACK_CONTRACT: network.address },
    ...{ MEASUREMENT: `0x${'5e'.repeat(32)}`, RELEASE: release, ARCHIVE: path('shop.tar') },
  };
});
afterAll(async () => {
  await anvil?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** As `npm run release` makes one of an image. */
async function makeSmallRelease(): Promise<string> {
  const image = path('image');
  mkdirSync(image);
  writeTestImage(image);
  const locked: LockedPackage[] = [
    {
      ...{ root: 'guest', name: 'libstdc++6', version: '1:14.2.0-19', sha256: 'ab'.repeat(32), size: 1 },
      ...{ archive: 'debian', path: 'pool/main/g/gcc-14/libstdc%2b%2b6_14.2.0-19_amd64.deb' },
    },
  ];
  const manifest = JSON.parse(readFileSync(join(image, 'image.json'), 'utf8'));
  for (const name of Object.keys(manifest.files)) {
    const bytes = readFileSync(join(image, name));
    manifest.files[name] = { sha256: toHex(sha256(bytes)), size: bytes.length };
  }
  Object.assign(manifest, { lockHash: imageLockHash(locked, 'sim'), packages: locked.length });
  writeFileSync(join(image, 'image.json'), JSON.stringify(manifest));
  writeFileSync(join(image, 'packages.lock'), formatLock(locked));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'a test', '-f', path('release')]);
  const release = await makeRelease({ image, out: path('out'), key: path('release'), root });
  return release.folder;
}

/** The Safe does what its owners signed. */
async function executeBatch(): Promise<void> {
  const { transactions } = JSON.parse(readFileSync(path('batch.json'), 'utf8'));
  expect(transactions).toHaveLength(2);
  for (const { to, value, data } of transactions) {
    expect([to, value]).toEqual([network.address, '0']);
    await chain.rpc('eth_sendTransactionSync', { from: SAFE, to, data });
    await chain.rpc('evm_mine');
  }
}

describe.each(['owner-safe', 'operator', 'auditor', 'app-author'])('docs/roles/%s.md', (role) => {
  const blocks = blocksOf(`docs/roles/${role}.md`);
  const runs = blocks.filter(({ needs }) => needs !== 'vm');

  test('has commands to run, and says which need a VM', () => {
    expect(runs.length).toBeGreaterThan(3);
    expect(blocks.length > runs.length).toBe(role === 'operator');
  });

  test.each(runs.map((block): [string, Block] => [block.script.split('\n')[0]!, block]))(
    '%s',
    async (_, block) => {
      if (block.needs === 'signed') await executeBatch();
      await here.run(block, role === 'auditor' ? {} : env);
    },
  );
});
