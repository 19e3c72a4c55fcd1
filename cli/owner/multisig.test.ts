/** An owner who signs elsewhere, by a multisig, a device or a keystore; who hands the network over; and who only wants to look. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encryptKeystoreJsonSync, getAddress, Wallet } from 'ethers';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { TestNetwork, value } from '../../contracts/fixture.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import {
  decodeMeasurementAllowedFrom,
  decodeNetwork,
  decodeOwner,
  encodeMeasurementAllowedFrom,
  encodeNetwork,
  encodeOwner,
  encodeTransferOwnership,
} from '../../lib/protocol/network-contract.ts';
import { readArguments } from '../command.ts';
import { appCommands } from '../commands/app.ts';
import { networkCommands } from '../commands/network.ts';
import { safeChecksum } from './hand-over.ts';

const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const OWNER = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
const STRANGER_KEY = '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d';
const STRANGER = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
/** An account that nobody has a key of, as a multisig's contract. */
const SAFE = getAddress('0x00000000000000000000000000000000000a11ce');
const NEW = to0x(value('new'));

let anvil: Anvil;
let chain: Chain;
let network: TestNetwork;
let snapshot: string;
const folder = mkdtempSync(join(tmpdir(), 'multisig-test-'));
const path = (name: string) => join(folder, name);
const keyFile = path('owner.key');

beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  network = await TestNetwork.deploy(chain);
  writeFileSync(keyFile, OWNER_KEY, { mode: 0o600 });
  writeFileSync(path('stranger.key'), STRANGER_KEY, { mode: 0o600 });
});
afterAll(async () => {
  await anvil?.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  snapshot = await chain.rpc('evm_snapshot');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await chain.rpc('evm_revert', snapshot);
});

interface Outcome {
  readonly code: string;
  readonly out: string;
  readonly err: string;
}

/** One command in this process. */
async function run(words: readonly string[], ...options: string[]): Promise<Outcome> {
  const line = words.join(' ');
  const command = [...networkCommands, ...appCommands].find(
    ({ name }) => line === name || line.startsWith(`${name} `),
  )!;
  const rest = words.slice(command.name.split(' ').length);
  const all = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address, ...options, ...rest];
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const text = (spy: typeof out) => spy.mock.calls.map(([part]) => String(part)).join('');
  try {
    await command.run(readArguments(command, all));
    return { code: 'done', out: text(out), err: text(err) };
  } catch (error) {
    return { code: codeOf(error) ?? String(error), out: text(out), err: (error as Error).message };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}
const signed = ['--owner-key', keyFile, '--yes'];
const allowedFrom = () =>
  network.read(encodeMeasurementAllowedFrom({ measurement: NEW }), decodeMeasurementAllowedFrom);
const delayNow = async () => (await network.read(encodeNetwork(), decodeNetwork)).delay;
const ownerNow = () => network.read(encodeOwner(), decodeOwner);

/** The network owned by SAFE, which anvil sends for. */
async function ownedBySafe(): Promise<void> {
  await chain.rpc('anvil_impersonateAccount', SAFE);
  await chain.rpc('anvil_setBalance', SAFE, '0xde0b6b3a7640000');
  await network.asOwner(encodeTransferOwnership({ newOwner: SAFE }));
  await chain.rpc('eth_sendTransactionSync', { from: SAFE, to: network.address, data: '0x79ba5097' });
  // Anvil says that it has a transaction, not that it mined it.
  await expect.poll(ownerNow).toBe(SAFE);
}

test("the checksum of a Safe file is the Transaction Builder's own", () => {
  // safe-react-apps, apps/tx-builder/src/lib/checksum.test.js
  const address = '0x49d4450977E2c95362C13D3a31a09311E0Ea26A6';
  const input = (name: string, type: string) => [{ internalType: type, name, type }];
  const method = (name: string, inputs: object[]) => ({ inputs, name, payable: false });
  const batch = {
    version: '1.0',
    chainId: '4',
    createdAt: 1646321521061,
    meta: {
      name: 'Transactions Batch',
      txBuilderVersion: '1.4.0',
      checksum: '',
      createdFromSafeAddress: '0xDF8a1Ce35c9a6ACE153B4e0767942f1E2291a1Aa',
      createdFromOwnerAddress: address,
    },
    transactions: [
      {
        to: address,
        value: '0',
        contractMethod: method('testAddress', input('paramAddress', 'address')),
        contractInputsValues: { paramAddress: address },
      },
      {
        to: address,
        value: '0',
        contractMethod: method('testBool', input('paramBool', 'bool')),
        contractInputsValues: { paramAddress: '', paramBool: 'false' },
      },
      {
        to: address,
        value: '2000000000000000000',
        data: `0x42f45790${'00'.repeat(12)}49d4450977e2c95362c13d3a31a09311e0ea26a6`,
      },
    ],
  };
  expect(safeChecksum(batch)).toBe('0x4ecbfd364aa6759983915644e73f8bd411e85a2dc306f252a387c2728c4db64c');
});

test('a multisig needs no key here: what it has to send is shown, as text and as JSON, and nothing is sent', async () => {
  await ownedBySafe();
  const block = await chain.rpc('eth_blockNumber');
  const text = await run(['network', 'allow', 'measurement', NEW], '--unsigned');
  expect(text.code).toBe('done');
  for (const part of [
    `by ${SAFE}`,
    `to        ${network.address}`,
    'value     0',
    'allowMeasurement(bytes32)',
    `measurement = ${NEW}`,
  ]) {
    expect(text.out).toContain(part);
  }
  const json = await run(['network', 'allow', 'measurement', NEW], '--unsigned', '--json');
  const { from, to, data, decoded } = JSON.parse(json.out);
  expect([from, to, decoded.arguments]).toEqual([
    SAFE,
    network.address,
    [{ name: 'measurement', type: 'bytes32', value: NEW }],
  ]);
  expect(text.out).toContain(`data      ${data}`);
  expect(await chain.rpc('eth_blockNumber')).toBe(block);
  // What the contract would refuse the owner is refused here.
  expect((await run(['network', 'revoke', 'measurement', NEW], '--unsigned')).code).toBe('CONTRACT_REFUSED');
});

test('several commands fill one Safe file, whose transactions do what was shown', async () => {
  await ownedBySafe();
  const file = path('batch.json');
  const safe = ['--format', 'safe', '--out', file];
  for (const words of [
    ['network', 'allow', 'measurement', NEW],
    ['network', 'delay', '3d'],
    ['app', 'rollout', 'web', NEW],
  ]) {
    expect(await run(words, ...safe)).toMatchObject({ code: 'done', out: '' });
  }
  const batch = JSON.parse(readFileSync(file, 'utf8'));
  expect(batch).toMatchObject({ version: '1.0', chainId: '31337', meta: { createdFromSafeAddress: SAFE } });
  const { checksum, ...meta } = batch.meta;
  expect(checksum).toBe(safeChecksum({ ...batch, meta }));
  expect(
    batch.transactions.map(({ contractMethod }: { contractMethod: { name: string } }) => contractMethod.name),
  ).toEqual(['allowMeasurement', 'setDelay', 'rollout']);
  for (const { to, data, value: wei } of batch.transactions) {
    await chain.rpc('eth_sendTransactionSync', { from: SAFE, to, data, value: wei === '0' ? '0x0' : wei });
  }
  expect(await allowedFrom()).toBeGreaterThan(0n);
  expect(await delayNow()).toBe(3 * 86_400);
});

test('what is in the batch already is shown with what joins it; a file that is no batch is kept', async () => {
  const safe = ['--format', 'safe', '--out', path('shown.json')];
  await run(['network', 'delay', '3d'], ...safe);
  const joined = await run(['network', 'allow', 'measurement', NEW], ...safe);
  expect(joined.err).toMatch(/with it +setDelay\(uint32\) 259200, which is in .*shown\.json already/);
  writeFileSync(path('precious'), 'a key');
  for (const format of ['text', 'json']) {
    const over = await run(['network', 'delay', '3d'], '--format', format, '--out', path('precious'));
    expect(over.code).toBe('OUT_EXISTS');
  }
  expect(readFileSync(path('precious'), 'utf8')).toBe('a key');
});

test('a Safe file that was changed, or is of another Safe or contract, takes nothing', async () => {
  const file = path('other.json');
  const more = () => run(['network', 'allow', 'measurement', NEW], '--format', 'safe', '--out', file);
  expect((await more()).code).toBe('done');
  const text = readFileSync(file, 'utf8');
  const other = `0x${'ee'.repeat(20)}`;
  for (const changed of [
    text.replaceAll(network.address, other),
    text.replaceAll(OWNER, other),
    text.replace('"31337"', '"1"'),
    text.replace('{', '{"x":1,'),
    'hello',
  ]) {
    writeFileSync(file, changed);
    expect((await more()).code, changed.slice(0, 60)).toBe('SAFE_FILE');
    expect(readFileSync(file, 'utf8')).toBe(changed);
  }
});

test('who is not the owner is told who is, before anything is signed', async () => {
  const nonce = () => chain.rpc('eth_getTransactionCount', STRANGER, 'latest');
  const before = await nonce();
  for (const words of [
    ['network', 'allow', 'measurement', NEW],
    ['network', 'delay', '1h'],
    ['app', 'withdraw', 'web'],
  ]) {
    const { code, err } = await run(words, '--owner-key', path('stranger.key'), '--yes');
    expect(code).toBe('NOT_THE_OWNER');
    for (const part of [OWNER, STRANGER, '--unsigned']) expect(err).toContain(part);
  }
  expect(await nonce()).toBe(before);
});

test('a network changes hands in two steps: who is named has to accept', async () => {
  expect((await run(['network', 'owner', 'accept'], ...signed)).code).toBe('NO_NEXT_OWNER');
  expect((await run(['network', 'owner', 'transfer', OWNER], ...signed)).code).toBe('OWNER_UNCHANGED');
  expect((await run(['network', 'owner', 'transfer', STRANGER], ...signed)).out).toContain(
    `the owner is still ${OWNER}`,
  );
  expect((await run(['network', 'status'])).out).toMatch(new RegExp(`^next owner +${STRANGER}, once`, 'm'));
  expect((await run(['network', 'owner', 'accept'], ...signed)).code).toBe('NOT_THE_OWNER');
  const accepted = await run(['network', 'owner', 'accept'], '--owner-key', path('stranger.key'), '--yes');
  expect(accepted.out).toContain(`${STRANGER} is the owner`);
  expect(await ownerNow()).toBe(STRANGER);
});

test('the delay takes durations, and the same one twice is refused', async () => {
  expect((await run(['network', 'delay', '4d'], ...signed)).out).toContain('the delay is 4d');
  expect(await delayNow()).toBe(345_600);
  expect((await run(['network', 'delay', '96h'], ...signed)).code).toBe('DELAY_UNCHANGED');
  for (const wrong of ['4 days', '-1', '1w', '345600', '366d']) {
    const { code, err } = await run(['network', 'delay', '--', wrong], ...signed);
    expect([code, err]).toEqual(['USAGE', expect.stringContaining('the delay is ')]);
  }
});

test('--dry-run does all but sign, with a key and without one', async () => {
  const block = await chain.rpc('eth_blockNumber');
  for (const key of [[], ['--owner-key', keyFile]]) {
    const { code, out } = await run(['network', 'allow', 'measurement', NEW], '--dry-run', ...key);
    expect(code).toBe('done');
    expect(out).toContain(`${OWNER}, nonce`);
    expect(out).toContain('nothing was signed (--dry-run)');
  }
  expect((await run(['network', 'revoke', 'measurement', NEW], '--dry-run')).code).toBe('CONTRACT_REFUSED');
  expect(await chain.rpc('eth_blockNumber')).toBe(block);
});

test('--json: one object on standard output; --quiet: not a word', async () => {
  const { out, err } = await run(['network', 'allow', 'measurement', NEW], ...signed, '--json');
  const { sent, decoded, from } = JSON.parse(out);
  expect([sent.hash, decoded.function, from]).toEqual([
    expect.stringMatching(/^0x[0-9a-f]{64}$/),
    'allowMeasurement(bytes32)',
    OWNER,
  ]);
  expect(err).toContain('To be signed:');
  expect(await run(['network', 'revoke', 'measurement', NEW], ...signed, '--quiet')).toMatchObject({
    code: 'done',
    out: '',
    err: '',
  });
  const status = JSON.parse((await run(['network', 'status'], '--json')).out);
  expect(status).toMatchObject({
    chainId: 31337,
    contract: network.address,
    owner: OWNER,
    nextOwner: null,
    epoch: 0,
    networkKey: null,
  });
});

test('network list: what was allowed, what is pending and when, what was revoked', async () => {
  const other = to0x(value('other'));
  for (const words of [
    ['network', 'allow', 'measurement', NEW],
    ['network', 'allow', 'config', other],
    ['network', 'revoke', 'config', other],
    ['app', 'rollout', 'web', NEW],
  ]) {
    expect((await run(words, ...signed)).code).toBe('done');
  }
  const { out } = await run(['network', 'list']);
  expect(out).toMatch(new RegExp(`^measurement +${NEW} +since \\d{4}-`, 'm'));
  expect(out).toMatch(new RegExp(`^config +${other} +revoked$`, 'm'));
  expect(out).toMatch(new RegExp(`^app web +${NEW}$`, 'm'));
  const { listed } = JSON.parse((await run(['network', 'list'], '--json')).out);
  expect(listed).toContainEqual({
    kind: 'measurement',
    value: NEW,
    state: 'allowed',
    from: Number(await allowedFrom()),
  });
  expect((await run(['app', 'list'])).out).toMatch(new RegExp(`^app web +${NEW}$`, 'm'));
  await run(['app', 'withdraw', 'web'], ...signed);
  expect((await run(['app', 'list'])).out).toContain('no app has a manifest');
});

/** The PBKDF2 vector of the Web3 Secret Storage Definition, with its password. */
const KEYSTORE = {
  crypto: {
    cipher: 'aes-128-ctr',
    cipherparams: { iv: '6087dab2f9fdbbfaddc31a909735c1e6' },
    ciphertext: '5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46',
    kdf: 'pbkdf2',
    kdfparams: {
      c: 262144,
      dklen: 32,
      prf: 'hmac-sha256',
      salt: 'ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd',
    },
    mac: '517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2',
  },
  id: '3198bc9c-6672-5ab3-d995-4942343ae5b6',
  version: 3,
};
const PRIVATE = '0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d';
const KEYSTORE_ACCOUNT = new Wallet(PRIVATE).address;

/** As `cast wallet import` writes it: scrypt with these costs, and no address. */
function castKeystore(password: string): string {
  const account = { privateKey: PRIVATE, address: KEYSTORE_ACCOUNT };
  const made = encryptKeystoreJsonSync(account, password, { scrypt: { N: 8192, r: 8, p: 1 } });
  const { Crypto: crypto, id, version } = JSON.parse(made);
  return JSON.stringify({ crypto, id, version });
}

test("an encrypted keystore signs, by its file or by its name among foundry's; a wrong password is called that", async () => {
  vi.stubEnv('HOME', folder);
  mkdirSync(path('.foundry/keystores'), { recursive: true });
  writeFileSync(path('.foundry/keystores/cold'), castKeystore('testpassword'));
  writeFileSync(path('store.json'), JSON.stringify(KEYSTORE));
  writeFileSync(path('password'), 'testpassword\n', { mode: 0o600 });
  writeFileSync(path('wrong'), 'testpasswort\n', { mode: 0o600 });
  await network.asOwner(encodeTransferOwnership({ newOwner: KEYSTORE_ACCOUNT }));
  await chain.rpc('anvil_setBalance', KEYSTORE_ACCOUNT, '0xde0b6b3a7640000');
  const accept = (...options: string[]) => run(['network', 'owner', 'accept'], '--yes', ...options);
  expect((await accept('--account', 'cold', '--password-file', path('wrong'))).code).toBe('KEY_PASSWORD');
  chmodSync(path('wrong'), 0o640);
  const readable = await accept('--account', 'cold', '--password-file', path('wrong'));
  expect(`${readable.code} ${readable.err}`).toMatch(/^KEY_PASSWORD others may read/);
  expect((await accept('--account', 'cold')).code).toBe('KEY_PASSWORD');
  expect((await accept('--account', '../cold')).code).toBe('USAGE');
  expect((await accept('--account', 'none', '--password-file', path('password'))).code).toBe('KEY_FILE');
  expect((await accept('--account', 'cold', '--password-file', path('password'), '--dry-run')).out).toContain(
    KEYSTORE_ACCOUNT,
  );
  expect((await accept('--owner-key', path('store.json'), '--password-file', path('password'))).code).toBe(
    'done',
  );
  expect(await ownerNow()).toBe(KEYSTORE_ACCOUNT);
});

test('another signs: an endpoint, or a program; what was not shown is not sent', async () => {
  const allow = (...options: string[]) => run(['network', 'allow', 'measurement', NEW], '--yes', ...options);
  expect((await allow('--signer', anvil.url)).err).toContain('name one by --from');
  expect((await allow('--signer', anvil.url, '--from', OWNER)).code).toBe('done');
  expect(await allowedFrom()).toBeGreaterThan(0n);

  const program = (name: string, change: string) => {
    const ethers = JSON.stringify(join(import.meta.dirname, '../../node_modules/ethers/lib.esm/index.js'));
    const text = `import { Transaction, Wallet } from ${ethers};
      let text = ''; for await (const part of process.stdin) text += part;
      const { from, gas, ...rest } = JSON.parse(text);
      const signed = { ...rest, gasLimit: gas, nonce: Number(rest.nonce), type: 2 };
      ${change}
      console.log(await new Wallet('0x${OWNER_KEY}').signTransaction(signed));`;
    writeFileSync(path(`${name}.mjs`), text);
    return ['--signer', `${process.execPath} ${path(`${name}.mjs`)}`, '--from', OWNER];
  };
  const revoke = (...options: string[]) =>
    run(['network', 'revoke', 'measurement', NEW], '--yes', ...options);
  const block = await chain.rpc('eth_blockNumber');
  expect((await revoke(...program('other', "signed.value = '0x1';"))).code).toBe('SIGNER_OTHER');
  expect(await revoke(...program('silent', "throw new Error('declined');"))).toMatchObject({
    code: 'SIGNER',
    err: expect.stringContaining('declined'),
  });
  expect((await revoke('--signer', '/none', '--from', OWNER)).code).toBe('SIGNER');
  expect((await revoke('--signer', '/none')).code).toBe('USAGE');
  expect(await chain.rpc('eth_blockNumber')).toBe(block);
  expect((await revoke(...program('good', ''))).code).toBe('done');
  expect(await allowedFrom()).toBe(0n);
});

test('a key from the environment is the last that counts, and is spoken of', async () => {
  expect(await run(['network', 'delay', '4d'], '--yes')).toMatchObject({
    code: 'USAGE',
    err: expect.stringContaining('--owner-key is missing'),
  });
  vi.stubEnv('DSTACK_OWNER_PRIVATE_KEY', OWNER_KEY);
  const { code, err } = await run(['network', 'delay', '4d'], '--yes');
  expect([code, err]).toEqual(['done', expect.stringContaining('a keystore')]);
  vi.stubEnv('DSTACK_OWNER_PRIVATE_KEY', 'zz');
  expect((await run(['network', 'delay', '5d'], '--yes')).code).toBe('KEY_FILE');
});

test('the source as explorers take it is complete, under the settings of this release', async () => {
  const file = path('source.json');
  const source = networkCommands.find(({ name }) => name === 'network source')!;
  const said = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  await source.run(readArguments(source, ['--out', file]));
  expect(String(said.mock.calls[0]![0])).toContain('contract Network.sol:Network, solc 0.8.');
  said.mockRestore();
  const { settings, ...input } = JSON.parse(readFileSync(file, 'utf8'));
  expect(settings).toMatchObject({ viaIR: true, evmVersion: 'cancun', metadata: { appendCBOR: false } });
  // solc reads all and follows each import; the bytes are compared in contracts/build.test.ts, by the same settings.
  const { createRequire } = await import('node:module');
  const solc = createRequire(import.meta.url)('solc') as { compile(input: string): string };
  const parsing = { stopAfter: 'parsing', outputSelection: { '*': { '': ['ast'] } } };
  const { sources, errors } = JSON.parse(solc.compile(JSON.stringify({ ...input, settings: parsing })));
  expect(errors).toBeUndefined();
  expect(Object.keys(sources).sort()).toEqual(Object.keys(input.sources).sort());
});
