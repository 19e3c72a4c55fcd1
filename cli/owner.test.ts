/** What a network's owner does, as processes against a real chain and a real first node. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack as tarPack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Anvil, startAnvil } from '../contracts/local-node.ts';
import type { Vm } from '../host/vm/vm.ts';
import { imageOf, layerOf } from '../lib/archives/images.fixture.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import { sha256, toHex } from '../lib/protocol/encoding.ts';
import { type BootstrapPackage, nodePaths } from '../lib/protocol/onboarding-messages.ts';
import { dstack, dstackOk, type Outcome } from '../test/support/cli.ts';
import { changeHeader, startLyingRpc } from '../test/support/lying-rpc.ts';
import { eventually } from '../test/support/network.ts';
import { startDaemonVm, writeTestImage } from '../test/support/vm-process.ts';
import { writeHints } from './host-hints.ts';
import { hostFacts } from './join/host.ts';

/** anvil's first two accounts: the owner, and a stranger who has money too. */
const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const STRANGER_KEY = '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d';
const OWNER = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
const WORD = `0x${'5e'.repeat(32)}`;

// Each step is a process that loads a compiler's worth of code: on a busy machine a few seconds.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const scratch = mkdtempSync(join(tmpdir(), 'owner-test-'));
const path = (name: string) => join(scratch, name);
let anvil: Anvil;
let env: Record<string, string>;
let facts: { measurement: string; platform: string };
let vm: Vm | undefined;

beforeAll(async () => {
  anvil = await startAnvil({ args: ['--slots-in-an-epoch', '1'] });
  for (const [name, key] of Object.entries({
    owner: OWNER_KEY,
    stranger: STRANGER_KEY,
    poor: '42'.repeat(32),
  })) {
    writeFileSync(path(`${name}.key`), key, { mode: 0o600 });
  }
  env = { DSTACK_RPC_URL: anvil.url, DSTACK_OWNER_KEY_FILE: path('owner.key'), DSTACK_CHAIN_ID: '31337' };
});
afterAll(async () => {
  await vm?.stop();
  await anvil?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const stranger = () => ({ ...env, DSTACK_OWNER_KEY_FILE: path('stranger.key') });
const status = () => dstackOk(['network', 'status'], env);
function refused({ code, stderr }: Outcome, reason: string): void {
  expect(stderr).toContain(reason);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(code).toBe(1);
}

describe('deploy', () => {
  test('an account without money is told so', async () => {
    const poor = { ...env, DSTACK_OWNER_KEY_FILE: path('poor.key') };
    refused(await dstack(['network', 'deploy'], poor), 'BALANCE_TOO_LOW');
  });

  test('values that the contract refuses come back as its own errors', async () => {
    refused(
      await dstack(['network', 'deploy', '--request-window', '0'], env),
      'CONTRACT_REFUSED: ZeroRequestWindow',
    );
    refused(
      await dstack(['network', 'deploy', '--delay', '4000000000'], env),
      'CONTRACT_REFUSED: DelayTooLong',
    );
  });

  test('where the source cannot be written nothing is deployed', async () => {
    const outcome = await dstack(['network', 'deploy', '--source', join(scratch, 'none/source.json')], env);
    refused(outcome, 'dstack: FILE: ENOENT');
    expect(outcome.stdout).not.toContain('sent 0x');
  });

  test('prints the address, where the status finds an empty network of this owner', async () => {
    const printed = await dstackOk(['network', 'deploy', '--delay', '0', '--request-window', '77'], env);
    env.DSTACK_CONTRACT = /^contract (0x[0-9a-fA-F]{40})$/m.exec(printed)![1]!;
    const shown = await status();
    expect(shown).toMatch(new RegExp(`^owner +${OWNER}$`, 'm'));
    expect(shown).toMatch(/^network key +none: not bootstrapped$/m);
    expect(shown).toMatch(/^onboarded +NO: NOBODY HAS THE SECRET YET$/m);
    expect(shown).toMatch(/^request window +77 blocks$/m);
    expect(shown).toMatch(/^platforms +listed ones only$/m);
  });

  test('the status of an address without a network is an error', async () => {
    refused(
      await dstack(['network', 'status', '--contract', `0x${'11'.repeat(20)}`], env),
      'NETWORK_MISSING',
    );
  });
});

describe('allow and revoke', () => {
  test('only the owner may, and each only when it changes something', async () => {
    refused(await dstack(['network', 'allow', 'measurement', WORD], stranger()), 'NOT_THE_OWNER');
    refused(await dstack(['network', 'revoke', 'measurement', WORD], env), 'NotAllowed');
    await dstackOk(['network', 'allow', 'measurement', WORD.slice(2)], env);
    refused(await dstack(['network', 'allow', 'measurement', WORD], env), 'AlreadyAllowed');
    await dstackOk(['network', 'revoke', 'measurement', WORD], env);
  });

  test('platforms can be opened and closed', async () => {
    await dstackOk(['network', 'allow', 'platform', 'any'], env);
    expect(await status()).toContain('OPEN: any that is not revoked');
    await dstackOk(['network', 'revoke', 'platform', 'any'], env);
    expect(await status()).toContain('listed ones only');
  });

  test('a file is read by what it is; any other is refused before anything is sent', async () => {
    writeFileSync(path('no-measurement.json'), '{"version":1}');
    writeFileSync(path('no-config.json'), '{"version":1}');
    const allow = (kind: string, value: string) => dstack(['network', 'allow', kind, value], env);
    expect(await allow('measurement', path('no-measurement.json'))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('POLICY_VALUE'),
    });
    refused(await allow('config', path('no-config.json')), 'NETWORK_CONFIG');
  });

  test('image.json is measured, not believed; a key that stands in it twice is refused', async () => {
    const folder = path('image-named');
    writeTestImage(folder);
    const file = join(folder, 'image.json');
    const text = readFileSync(file, 'utf8');
    const [, measurement] = /"measurement": *"(0x[0-9a-f]{64})"/.exec(text)!;
    const allow = () => dstack(['network', 'allow', 'measurement', file], env);
    writeFileSync(file, text.replace(measurement!, WORD));
    refused(await allow(), 'MEASUREMENT_OTHER');
    writeFileSync(file, text.replace('{', `{"measurement":"${WORD}",`));
    refused(await allow(), 'IMAGE_INVALID');
    writeFileSync(file, text);
    const { code, stdout } = await allow();
    expect([code, stdout]).toEqual([0, expect.stringContaining(`measurement = ${measurement}`)]);
    expect(stdout).toContain(`measured from the files in ${folder}`);
    await dstackOk(['network', 'revoke', 'measurement', measurement!], env);
  });

  test('a config shows whom its nodes will believe; one of another network is refused', async () => {
    const urls = ['https://one.example', 'https://two.example', 'https://three.example'];
    const write = (...more: string[]) =>
      dstackOk(
        [
          'network',
          'config',
          ...urls.flatMap((url) => ['--endpoint', url]),
          '--out',
          path('shown.json'),
          ...more,
        ],
        env,
      );
    const allow = () => dstack(['network', 'allow', 'config', path('shown.json')], env);
    await write('--contract', OWNER);
    refused(await allow(), 'NETWORK_JSON_OTHER');
    await write('--chain-id', '1');
    refused(await allow(), 'NETWORK_JSON_OTHER');
    await write();
    const { code, stdout } = await allow();
    expect(code).toBe(0);
    expect(stdout).toContain('such nodes believe 2 of these 3, at the finalized block');
    for (const url of urls) expect(stdout).toContain(`  ${url}\n`);
  });

  test('a config shows whose website its nodes will be, and who certifies it', async () => {
    const root = `-----BEGIN CERTIFICATE-----\n${Buffer.from('a root').toString('base64')}\n-----END CERTIFICATE-----\n`;
    const site = {
      domains: ['www.one.example', 'two.example'],
      acme: {
        directory: 'https://authority.example/directory',
        contact: ['mailto:someone@elsewhere.example'],
        challenges: ['http-01'],
      },
      roots: [root],
    };
    await dstackOk(
      ['network', 'config', '--endpoint', 'https://one.example', '--out', path('site.json')],
      env,
    );
    const config = JSON.parse(readFileSync(path('site.json'), 'utf8')) as object;
    writeFileSync(path('site.json'), JSON.stringify({ ...config, site }));
    const { code, stdout } = await dstack(['network', 'allow', 'config', path('site.json')], env);
    expect(code).toBe(0);
    for (const part of [...site.domains, site.acme.directory, ...site.acme.contact]) {
      expect(stdout).toContain(part);
    }
    expect(stdout).toContain(toHex(sha256(Buffer.from('a root'))));
  });
});

describe('bootstrap', () => {
  let message: BootstrapPackage;
  const check = async (change: Partial<Record<string, unknown>>, ...more: string[]): Promise<Outcome> => {
    writeFileSync(path('package.json'), JSON.stringify({ ...message, ...change }));
    const flavour = more.includes('--flavour') ? [] : ['--flavour', 'sim'];
    return dstack(['network', 'bootstrap', path('package.json'), '--check-only', ...flavour, ...more], env);
  };

  beforeAll(async () => {
    const volume = path('volume');
    const imageFolder = writeTestImage(path('image-sim'));
    const platformStateFile = path('platform.json');
    const found = await hostFacts({ imageFolder, platformStateFile, gasKeyFile: path('owner.key') });
    facts = { measurement: found.measurement, platform: found.platform! };
    const out = path('network.json');
    await dstackOk(
      ['network', 'config', '--endpoint', anvil.url, '--depth', '0', '--minimum-nodes', '1', '--out', out],
      env,
    );
    await writeHints(volume, 'bootstrap', false);
    cpSync(out, join(volume, 'network.json'));
    vm = await startDaemonVm({ imageFolder, hostVolume: volume, stateFolder: path('vm'), platformStateFile });
    const node = `http://127.0.0.1:${vm.ports.replicator}`;
    await eventually(async () => {
      const response = await fetch(node + nodePaths.bootstrap);
      // As the relay hands it to the owner: with collateral.
      message = {
        ...((await response.json()) as BootstrapPackage),
        collateral: PUBLISHED_SIMULATED_COLLATERAL,
      };
      return response.ok;
    }, 'the bootstrap package');
  });

  test('everything good but not allowed: each is named, with the command that allows it', async () => {
    for (const [kind, value] of [
      ['measurement', facts.measurement],
      ['config', `0x${message.config}`],
      ['platform', facts.platform],
    ] as const) {
      const outcome = await check({});
      refused(outcome, `${kind.toUpperCase()}_NOT_ALLOWED`);
      const file = kind === 'config' ? path('network.json') : value;
      expect(outcome.stderr).toContain(`npx dstack network allow ${kind} ${value.slice(2)}`);
      await dstackOk(['network', 'allow', kind, file], env);
    }
  });

  test('--check-only lists what it checked, and sends nothing', async () => {
    const { code, stdout } = await check({});
    expect(code).toBe(0);
    expect(stdout.match(/^ok {2}/gm)!.length).toBeGreaterThan(3);
    expect(stdout).toContain('NOT PRODUCTION: anyone can forge a quote of the simulated platform');
    expect(await status()).toContain('none: not bootstrapped');
  });

  test('a clock or a TCB policy that one endpoint makes up changes nothing; a clock that all make up is noticed', async () => {
    const word = (number: number) => number.toString(16).padStart(64, '0');
    const endpoints = await Promise.all([1, 2, 3].map(() => startLyingRpc(anvil.url)));
    const rpc = endpoints.flatMap(({ url }) => ['--rpc', url]);
    try {
      await dstackOk(['network', 'tcb', 'minimum', '9999'], env);
      endpoints[0]!.lie = (method, reply) =>
        method === 'eth_call' && typeof reply.result === 'string'
          ? { result: reply.result.replace(word(9999), word(0)) }
          : reply;
      refused(await check({}, ...rpc), 'TCB_EVALUATION_NUMBER');
      await dstackOk(['network', 'tcb', 'minimum', '0'], env);

      endpoints[0]!.lie = changeHeader({ timestamp: '0x5f000000' });
      expect((await check({}, ...rpc)).code).toBe(0);
      for (const timestamp of ['0x5f000000', '0xff000000']) {
        for (const endpoint of endpoints) endpoint.lie = changeHeader({ timestamp });
        refused(await check({}, ...rpc), 'CLOCK_DISAGREES');
      }
    } finally {
      for (const endpoint of endpoints) endpoint.stop();
    }
  });

  test.each<[string, (m: BootstrapPackage) => Partial<Record<string, unknown>>, string | RegExp]>([
    ['another chain', () => ({ chainId: 1 }), 'BOOTSTRAP_OTHER_NETWORK'],
    ['another contract', (m) => ({ contract: m.networkKey }), 'BOOTSTRAP_OTHER_NETWORK'],
    ['another epoch', () => ({ epoch: 2 }), 'BOOTSTRAP_EPOCH'],
    ['another block hash', () => ({ blockHash: '00'.repeat(32) }), 'BOOTSTRAP_BLOCK'],
    ['another network key', (m) => ({ networkKey: m.contract }), 'REPORT_DATA_MISMATCH'],
    ['another measurement', () => ({ measurement: '00'.repeat(32) }), 'BOOTSTRAP_CLAIM'],
    ['another config', () => ({ config: '00'.repeat(32) }), 'CONFIG_NOT_ALLOWED'],
    ['another platform', () => ({ platform: '00'.repeat(32) }), 'BOOTSTRAP_CLAIM'],
    ['another quote hash', () => ({ quoteHash: '00'.repeat(32) }), 'BOOTSTRAP_CLAIM'],
    ['no collateral', () => ({ collateral: undefined }), 'COLLATERAL_MISSING'],
    [
      'collateral that nobody signed',
      (m) => ({ collateral: { ...m.collateral, tcb_info: '{}' } }),
      'TCB_INFO_SIGNATURE',
    ],
    ['a changed quote', (m) => ({ quote: flipped(m.quote, 300) }), 'QUOTE_SIGNATURE'],
    ['a truncated quote', (m) => ({ quote: m.quote.slice(0, 1000) }), 'QUOTE_TRUNCATED'],
    ['another signature', (m) => ({ signature: { ...m.signature, r: m.signature.vs } }), /SIGNATURE/],
    ['an unknown field', () => ({ secret: '00' }), 'BOOTSTRAP_MALFORMED'],
    ['a missing field', () => ({ quote: undefined }), 'BOOTSTRAP_MALFORMED'],
  ])('a package with %s is refused', async (_, change, code) => {
    const outcome = await check(change(message));
    expect(outcome.stderr).toMatch(typeof code === 'string' ? new RegExp(`^dstack: ${code}:`) : code);
    expect(outcome.stderr).not.toMatch(/^\s+at /m);
    expect(outcome.code).toBe(1);
  });

  test('a package that is none, or larger than any', async () => {
    for (const text of ['', 'null', '[]', `{"x":"${'x'.repeat(140_000)}"}`]) {
      writeFileSync(path('package.json'), text);
      const args = ['network', 'bootstrap', path('package.json'), '--check-only'];
      refused(await dstack(args, env), 'BOOTSTRAP_MALFORMED');
    }
  });

  test("judged as another flavour's it fails: the owner says which, the package does not", async () => {
    refused(await check({}, '--flavour', 'dev'), 'RTMR3_MISMATCH');
    const production = await check({}, '--flavour', 'production');
    expect(production.code).toBe(1);
    expect(production.stderr).toMatch(/^dstack: [A-Z_]+: .*--flavour sim, if that is what you mean$/m);
    const misused = await check({}, '--flavour', 'test');
    expect([misused.code, misused.stderr]).toEqual([2, expect.stringContaining('--flavour takes')]);
  });

  test("a stranger can't post it; the owner can, once it is checked", async () => {
    writeFileSync(path('package.json'), JSON.stringify(message));
    const post = ['network', 'bootstrap', path('package.json'), '--flavour', 'sim'];
    refused(await dstack(post, stranger()), 'NOT_THE_OWNER');
    expect(await dstackOk(post, env)).toContain(`the network's key is ${message.networkKey}, epoch 1`);
    expect(await status()).toMatch(new RegExp(`^network key +${message.networkKey}$`, 'm'));
    expect(await dstackOk(post, env)).toContain('this package is posted already');
  });
});

describe('apps', () => {
  const image = imageOf([layerOf('greeting')]);
  const config = Buffer.from(image.config);
  const layer = { 'layer.tar': image.layers[0]! };
  const index = JSON.stringify([{ Config: 'config.json', RepoTags: ['x:1'], Layers: ['layer.tar'] }]);
  const pack = (archive: string, ...more: string[]) =>
    dstack(['app', 'pack', 'greeting', archive, '--out', path('out'), ...more]);
  const manifests: string[] = [];

  test('pack places archive and manifest under their hashes, the same each time', async () => {
    const archive = await tar('good.tar', { 'manifest.json': index, 'config.json': config, ...layer });
    for (const word of ['one', 'two', 'one']) {
      const { code, stdout } = await pack(archive, '--port', '8080', '--env', `WORD=${word}`);
      expect(code).toBe(0);
      manifests.push(/^manifest (0x[0-9a-f]{64})$/m.exec(stdout)![1]!);
    }
    expect(manifests[0]).toBe(manifests[2]);
    expect((await pack(archive)).stdout).toContain('no port: no container of this app answers over HTTP');
    expect(manifests[0]).not.toBe(manifests[1]);
    const manifest = readFileSync(path(`out/manifests/${manifests[0]!.slice(2)}.json`));
    expect(`0x${toHex(sha256(manifest))}`).toBe(manifests[0]);
    expect(JSON.parse(manifest.toString())).toMatchObject({
      app: 'greeting',
      containers: [{ image: `sha256:${toHex(sha256(config))}`, env: { WORD: 'one' }, http: { port: 8080 } }],
    });
    expect(readFileSync(path(`out/archives/${toHex(sha256(config))}.tar`))).toEqual(readFileSync(archive));
  });

  test.each<[string, Record<string, string | Buffer> | Buffer]>([
    ['no tar', Buffer.alloc(3000, 'x')],
    ['an empty file', Buffer.alloc(0)],
    ['no index', { 'config.json': config }],
    ['an index that is no JSON', { 'manifest.json': '{', 'config.json': config }],
    ['an index of null', { 'manifest.json': 'null', 'config.json': config }],
    ['two images', { 'manifest.json': index.replace(/^\[(.*)\]$/, '[$1,$1]'), 'config.json': config }],
    ['no image', { 'manifest.json': '[]', 'config.json': config }],
    ['a config that is not there', { 'manifest.json': index }],
    ['a config that is no name', { 'manifest.json': '[{"Config":5}]', 'config.json': config }],
  ])('an archive with %s is refused and leaves nothing behind', async (_, content) => {
    const archive = Buffer.isBuffer(content) ? path('bad.tar') : await tar('bad.tar', content);
    if (Buffer.isBuffer(content)) writeFileSync(archive, content);
    const out = path('nothing');
    refused(await dstack(['app', 'pack', 'greeting', archive, '--out', out]), 'ARCHIVE_MALFORMED');
    expect(existsSync(out)).toBe(false);
  });

  test('a truncated archive is refused', async () => {
    const whole = readFileSync(path('good.tar'));
    writeFileSync(path('cut.tar'), whole.subarray(0, 700));
    refused(await pack(path('cut.tar')), 'ARCHIVE_MALFORMED');
  });

  test('names, ports and variables that no node would take are refused', async () => {
    const out = ['--out', path('nothing')];
    const archive = path('good.tar');
    for (const args of [
      ['app', 'pack', '../etc', archive, ...out],
      ['app', 'pack', 'greeting', archive, '--port', 'http', ...out],
      ['app', 'pack', 'greeting', archive, '--port', '70000', ...out],
    ]) {
      const { code, stderr } = await dstack(args);
      expect(stderr).toMatch(/^dstack: (APP_NAME|USAGE): /);
      expect(code).toBe(2);
    }
    const variable = await dstack(['app', 'pack', 'greeting', archive, '--env', '=x', ...out]);
    expect([variable.code, variable.stderr]).toEqual([2, expect.stringContaining('NAME=VALUE')]);
    const nowhere = await dstack(['app', 'pack', 'greeting', archive]);
    expect([nowhere.code, nowhere.stderr]).toEqual([2, expect.stringContaining('--out')]);
    expect(existsSync(path('nothing'))).toBe(false);
  });

  test("rollout by hash and by file, rollback, withdraw; each shows, none is a stranger's", async () => {
    const [one, two] = [manifests[0]!, manifests[1]!];
    const fileOf = (hash: string) => path(`out/manifests/${hash.slice(2)}.json`);
    refused(await dstack(['app', 'rollout', 'greeting', one], stranger()), 'NOT_THE_OWNER');
    await dstackOk(['app', 'rollout', 'greeting', one], env);
    expect(await status()).toMatch(new RegExp(`^app greeting +${one}$`, 'm'));
    const shown = await dstackOk(['app', 'rollout', 'greeting', fileOf(two)], env);
    const [container] = JSON.parse(readFileSync(fileOf(two), 'utf8')).containers;
    expect(shown).toContain(`container ${container.name}: image ${container.image}`);
    for (const [name, value] of Object.entries(container.env ?? {})) {
      expect(shown).toContain(`env ${name}=${JSON.stringify(value)}`);
    }
    expect(await status()).toMatch(new RegExp(`^app greeting +${two}$`, 'm'));
    refused(await dstack(['app', 'rollback', 'greeting'], stranger()), `its owner alone, ${OWNER}`);
    await dstackOk(['app', 'rollback', 'greeting'], env);
    expect(await status()).toMatch(new RegExp(`^app greeting +${one}$`, 'm'));
    refused(await dstack(['app', 'rollback', 'greeting'], env), 'NoPreviousManifest');
    refused(await dstack(['app', 'withdraw', 'greeting'], stranger()), 'NOT_THE_OWNER');
    await dstackOk(['app', 'withdraw', 'greeting'], env);
    expect(await status()).not.toContain('app greeting');
    refused(await dstack(['app', 'withdraw', 'greeting'], env), 'NoManifest');
  });

  test('what is asked of an app that nobody knows is answered, and not by an empty line', async () => {
    const nobody = 'http://127.0.0.1:9';
    const host = { ...env, DSTACK_GAS_KEY_FILE: path('owner.key'), DSTACK_STATE_DIR: path('relay') };
    const args = { ...host, DSTACK_NODE_URL: nobody, DSTACK_ADMIN_LISTEN: '127.0.0.1:9' };
    refused(await dstack(['app', 'status', '--app', 'nosuch'], args), 'dstack: NO_APP: neither the contract');
    // Withdrawn: the contract's list is of those that have a manifest.
    refused(
      await dstack(['app', 'status', '--app', 'greeting'], args),
      'dstack: NO_APP: neither the contract',
    );
  });

  test('a manifest file of another app, or one that was touched, is not rolled out', async () => {
    const file = path(`out/manifests/${manifests[0]!.slice(2)}.json`);
    const other = await dstack(['app', 'rollout', 'parting', file], env);
    expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('a manifest of greeting')]);
    writeFileSync(path('touched.json'), `${readFileSync(file, 'utf8')} `);
    const touched = await dstack(['app', 'rollout', 'greeting', path('touched.json')], env);
    expect(touched.stderr).toMatch(/^dstack: MANIFEST[A-Z_]*: /);
    expect(touched.code).toBe(1);
  });
});

async function tar(name: string, entries: Record<string, string | Buffer>): Promise<string> {
  const archive = tarPack();
  for (const [entry, content] of Object.entries(entries)) archive.entry({ name: entry }, content);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  writeFileSync(path(name), Buffer.concat(chunks));
  return path(name);
}

/** Changes one byte of hex text. */
function flipped(hex: string, byte: number): string {
  const bytes = Buffer.from(hex, 'hex');
  bytes[byte] = bytes[byte]! ^ 1;
  return bytes.toString('hex');
}
