import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { appId, TestNetwork, value } from '../../contracts/fixture.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { checkedLayer, findImage } from '../../lib/archives/archive.ts';
import { hash, imageOf, layerOf, tar } from '../../lib/archives/images.fixture.ts';
import { Room } from '../../lib/archives/layer.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { formatManifest, type Manifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { encodeRollback, encodeRollout } from '../../lib/protocol/network-contract.ts';
import { readArguments, UsageError } from '../command.ts';
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

/** What `app diff` prints of web's manifest file; with these options. */
async function diffed(file: string, ...options: string[]): Promise<string[]> {
  const command = appCommands.find(({ name }) => name === 'app diff')!;
  const lines: string[] = [];
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    lines.push(...`${text}`.split('\n').filter((line) => line !== ''));
    return true;
  });
  try {
    await command.run(readArguments(command, ['web', file, ...options]));
  } finally {
    write.mockRestore();
  }
  return lines;
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

describe('an archive with compressed layers, as the containerd image store saves them', () => {
  const layers = [layerOf('first'), layerOf('x'.repeat(100_000), 'second'), layerOf('third')];
  const [gz, zst] = [gzipSync(layers[0]!), zstdCompressSync(layers[1]!)];
  const image = imageOf(layers);
  /** With what Docker writes besides, and as it names the parts. */
  const saved = (parts: readonly Buffer[]) => {
    const names = parts.map((part) => `blobs/sha256/${hash(part)}`);
    const config = `blobs/sha256/${image.digest}`;
    return tarOf({
      ...Object.fromEntries(parts.map((part, at) => [names[at]!, part])),
      [config]: image.config,
      'index.json': '{}',
      'oci-layout': '{"imageLayoutVersion":"1.0.0"}',
      'manifest.json': JSON.stringify([{ Config: config, RepoTags: ['x:1'], Layers: names }]),
    });
  };
  const volume = () => join(folder, 'plain');
  const packed = async (bytes: Uint8Array) => {
    await writeFile(join(folder, 'saved.tar'), bytes);
    const command = appCommands.find((it) => it.name === 'app pack')!;
    await command.run(readArguments(command, ['web', join(folder, 'saved.tar'), '--out', volume()]));
  };

  test('is packed with plain ones: a node takes it, and its image is the same', async () => {
    await packed(await saved([gz, zst, layers[2]!]));
    expect(readdirSync(join(volume(), 'archives'))).toEqual([`${image.digest}.tar`]);
    const file = await open(join(volume(), 'archives', `${image.digest}.tar`));
    try {
      const { size } = await file.stat();
      const found = await findImage(file, size, image.digest);
      const room = new Room(1024 ** 3);
      for (const [at, layer] of found.layers.entries())
        expect(Buffer.concat(await Array.fromAsync(checkedLayer(file, size, layer, room)))).toEqual(
          layers[at],
        );
    } finally {
      await file.close();
    }
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('dstack-pack-'))).toEqual([]);
  });

  test('that do not decompress, or by what is not known here, are refused by their names', async () => {
    await expect(packed(await saved([gz.subarray(0, 40), zst, layers[2]!]))).rejects.toMatchObject({
      code: 'ARCHIVE_MALFORMED',
      message: expect.stringContaining('does not decompress'),
    });
    const xz = Buffer.concat([Buffer.from('fd377a585a00', 'hex'), randomBytes(100)]);
    await expect(packed(await saved([gz, xz, layers[2]!]))).rejects.toMatchObject({
      code: 'ARCHIVE_COMPRESSED',
      message: expect.stringContaining('layer 1 in '),
    });
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('dstack-pack-'))).toEqual([]);
  });
});

describe('--set', () => {
  test.each([
    ['image=sha256:00', '--set image is not for a single archive'],
    ['command=/bin/sh -c x', "takes JSON, such as --set 'command=["],
    ['volumes=/var/lib/db', "takes JSON, such as --set 'volumes={"],
  ])('%s is refused, and says what to write', async (text, why) => {
    const archive = join(folder, 'one.tar');
    await writeFile(archive, await tar(imageOf([layerOf('app')]).items));
    const command = appCommands.find((it) => it.name === 'app pack')!;
    const args = readArguments(command, ['web', archive, '--set', text, '--out', join(folder, 'set')]);
    const error = await command.run(args).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain(why);
  });

  test('a text of digits stays a text where the field is one', async () => {
    const archive = join(folder, 'one.tar');
    await writeFile(archive, await tar(imageOf([layerOf('app')]).items));
    const command = appCommands.find((it) => it.name === 'app pack')!;
    const out = join(folder, 'user');
    await command.run(readArguments(command, ['web', archive, '--set', 'user=1000', '--out', out]));
    const [name] = readdirSync(join(out, 'manifests'));
    expect(readFileSync(join(out, 'manifests', name!), 'utf8')).toContain('"user":"1000"');
  });
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

test('what is no manifest, and no name of an app, is called so before the chain is asked', async () => {
  const command = appCommands.find(({ name }) => name === 'app rollout')!;
  const roll = async (app: string, manifest: string): Promise<unknown> => {
    const key = ['--owner-key', join(folder, 'owner.key')];
    const error = await command.run(readArguments(command, [app, manifest, ...key])).catch((error) => error);
    return [error instanceof UsageError ? 2 : 1, error.code, error.message];
  };
  const pretty = join(folder, 'pretty.json');
  const containers = [{ name: 'web', image: `sha256:${'ab'.repeat(32)}` }];
  await writeFile(pretty, JSON.stringify({ version: 1, app: 'web', containers }, undefined, 1));
  const nothing = join(folder, 'nothing.json');
  const cases: [string, string, number, string, string][] = [
    ['Web', FIRST, 2, 'APP_NAME', 'lower-case letters'],
    ['web', '0x1234', 2, 'USAGE', '64 hex digits'],
    ['web', nothing, 1, 'FILE', `cannot read ${nothing}`],
    ['web', folder, 1, 'FILE', `cannot read ${folder}`],
    // What a shell gives for the name that a command before it failed to say.
    ['web', '', 2, 'USAGE', 'the name of a file (the manifest) is empty'],
    ['web', pretty, 1, 'MANIFEST_NOT_CANONICAL', `${pretty} is no manifest as \`npx dstack app pack\``],
  ];
  for (const [app, manifest, exit, code, message] of cases)
    expect(await roll(app, manifest)).toEqual([exit, code, expect.stringContaining(message)]);
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

describe('app diff', () => {
  const manifest = (memoryMiB: number): Uint8Array =>
    formatManifest({
      version: 2,
      app: 'web',
      containers: [{ name: 'web', image: `sha256:${'ab'.repeat(32)}`, memoryMiB }],
    } satisfies Manifest);

  test('compares two files without a chain', async () => {
    const [before, after] = [join(folder, 'before.json'), join(folder, 'after.json')];
    await writeFile(before, manifest(64));
    await writeFile(after, manifest(96));
    const changed = ['~ container web', '    memoryMiB: 64 -> 96'];
    expect(await diffed(after, '--against', before)).toEqual(changed);
    expect(await diffed(after, '--against', after)).toEqual(['nothing changes']);
    await expect(diffed(after)).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('compares with what the contract has in force, if the file has its hash', async () => {
    const [old, after] = [manifest(32), join(folder, 'after.json')];
    await writeFile(after, manifest(96));
    const volume = join(folder, 'diff-volume');
    await mkdir(join(volume, 'manifests'), { recursive: true });
    const hash = toHex(manifestHash(old));
    const file = join(volume, `manifests/${hash}.json`);
    const chainOf = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
    const asked = () => diffed(after, '--volume', volume, ...chainOf);

    expect((await asked()).slice(0, 2)).toEqual([
      expect.stringMatching(/^in force at block \d+, by 1 of .*: no manifest$/),
      expect.stringContaining('+ container web'),
    ]);
    await network.asOwner(encodeRollout({ app: appId('web'), manifestHash: `0x${hash}` }));
    await chain.pass(DELAY);
    await expect(asked()).rejects.toMatchObject({ code: 'FILE' });
    await writeFile(file, manifest(33));
    await expect(asked()).rejects.toMatchObject({ code: 'MANIFEST_HASH_MISMATCH' });
    await writeFile(file, old);
    expect(await asked()).toEqual([
      expect.stringContaining(`0x${hash}`),
      '~ container web',
      '    memoryMiB: 32 -> 96',
    ]);
  });
});

describe('app pack', () => {
  const volume = () => join(folder, 'packed');
  const packed = async (...words: string[]): Promise<string> => {
    const command = appCommands.find(({ name }) => name === 'app pack')!;
    await rm(volume(), { recursive: true, force: true });
    await command.run(readArguments(command, ['web', '--out', volume(), ...words]));
    const [file] = readdirSync(join(volume(), 'manifests'));
    return readFileSync(join(volume(), 'manifests', file!), 'utf8');
  };
  const archive = async (name: string, content = name): Promise<string> => {
    const file = join(folder, name);
    await writeFile(file, await tar(imageOf([layerOf(content)]).items));
    return file;
  };
  const refused = async (...words: string[]): Promise<unknown> => {
    const error = await packed(...words).catch((error) => error);
    const left = existsSync(volume()) ? readdirSync(volume(), { recursive: true, withFileTypes: true }) : [];
    expect(left.filter((entry) => entry.isFile())).toEqual([]);
    return [error instanceof UsageError ? 2 : 1, error.code, error.message];
  };

  test('what is mistyped is called so, in words, and leaves nothing behind', async () => {
    const file = await archive('plain.tar');
    const typos: [string[], string, string][] = [
      [['--port', '8080:8080'], 'USAGE', '1 to 65535'],
      [['--port', '99999'], 'USAGE', '1 to 65535'],
      [['--set', 'memory=64'], 'USAGE', 'no field memory: a container has name, env'],
      [['--set', 'memoryMiB=64m'], 'MANIFEST_MALFORMED', '/memoryMiB must be integer'],
      [['--set', 'data=all'], 'MANIFEST_MALFORMED', '/data must be none or ro or rw'],
      [['--set', 'user=root'], 'MANIFEST_MALFORMED', '/user must be uid or uid:gid, in digits'],
      [['--port', '80', '--domain', 'A.example'], 'MANIFEST_MALFORMED', '/http/0/domain must be a domain in'],
      [['--set', 'pids=4', '--set', 'pids=5'], 'USAGE', '--set gives pids twice'],
      [['--env', 'A=1', '--env', 'A=2'], 'USAGE', '--env gives A twice'],
      [['--port', '80', '--set', 'http={"port":81}'], 'USAGE', 'both give http'],
      [['--set', `image=sha256:${'ab'.repeat(32)}`], 'USAGE', 'not for a single archive'],
      [['--domain', ''], 'USAGE', '--domain is given without a value'],
    ];
    for (const [words, code, message] of typos)
      expect(await refused(file, ...words)).toEqual([2, code, expect.stringContaining(message)]);
  });

  test('what is not the archive of an image that nodes run is called so', async () => {
    const image = imageOf([layerOf('x')]);
    const foreign = image.config.replace('amd64', 'arm64');
    const named = (items: typeof image.items): typeof image.items =>
      items.map((item) => (item[0] === `${image.digest}.json` ? [item[0], foreign] : item));
    const withoutLayer = image.items.filter(([name]) => name !== image.names[0]);
    const files: [string, Uint8Array, string, string][] = [
      ['arm.tar', await tar(named(image.items)), 'ARCHIVE_PLATFORM', 'for linux/arm64'],
      ['layerless.tar', await tar(withoutLayer), 'ARCHIVE_MALFORMED', 'no node would take'],
      ['empty.tar', Buffer.alloc(0), 'ARCHIVE_MALFORMED', 'is empty'],
    ];
    for (const [name, bytes, code, message] of files) {
      await writeFile(join(folder, name), bytes);
      expect(await refused(join(folder, name))).toEqual([1, code, expect.stringContaining(message)]);
    }
    expect(await refused(folder)).toEqual([1, 'FILE', expect.stringContaining('is not a file')]);
    expect(await refused('')).toEqual([2, 'USAGE', expect.stringContaining('(the archive) is empty')]);
    const missing = join(folder, 'missing.tar');
    expect(await refused(missing)).toEqual([1, 'FILE', expect.stringContaining(`cannot read ${missing}`)]);
  });

  test('a place that cannot be written to is named, and nothing is put into another one', async () => {
    const file = await archive('plain.tar');
    // Where Node's own recursive mkdir never ends.
    for (const place of [file, '/proc/nothing/volume'])
      expect(await refused(file, '--out', place)).toEqual([
        1,
        'FILE',
        expect.stringContaining(`cannot write to ${place} (--out)`),
      ]);
  });

  test('with a field of version 2 it writes version 2, else version 1 as before', async () => {
    const file = await archive('plain.tar');
    expect(await packed(file, '--port', '80')).toMatch(/"http":\{"port":80\}.*"version":1\}$/);
    expect(
      await packed(file, '--set', 'memoryMiB=64', '--set', 'tmpfs={"/run":2}', '--set', 'data=rw'),
    ).toMatch(/"data":"rw".*"memoryMiB":64.*"tmpfs":\{"\/run":2\}\}\],"version":2\}$/);
    await expect(packed(file, '--set', 'privileged=true')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(packed(file, '--set', 'egress=all')).rejects.toMatchObject({ code: 'MANIFEST_MALFORMED' });
    await expect(packed(file, '--set', 'egress')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(packed(file, '--archive', `web=${file}`)).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('with domains and words of the api, too', async () => {
    const file = await archive('plain.tar');
    const domains = ['--domain', 'a.example', '--domain', 'b.example'];
    const { version, containers } = JSON.parse(
      await packed(file, '--port', '80', ...domains, '--h2c', '--api', 'key'),
    );
    expect([version, containers[0].api]).toEqual([2, ['key']]);
    expect(containers[0].http).toEqual(
      ['a.example', 'b.example'].map((domain) => ({ domain, port: 80, protocol: 'h2c' })),
    );
    for (const words of [domains, ['--port', '80', '--h2c']])
      await expect(packed(file, ...words)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(packed(file, '--port', '80', '--domain', 'a.example.')).rejects.toMatchObject({
      code: 'MANIFEST_MALFORMED',
    });
  });

  test('a signer alone, or beside a container; what is wrong with it is named', async () => {
    const chain = { id: 'chain-1', protocol: 'v0.38', key: 'derived', afterHeight: 5 };
    const signer = { disk: 'ab'.repeat(16), acceptHostRollback: true, chains: [chain] };
    const write = async (name: string, value: object): Promise<string> => {
      await writeFile(join(folder, name), JSON.stringify(value, null, 2));
      return join(folder, name);
    };
    const file = await write('signer.json', signer);
    expect(JSON.parse(await packed(file))).toEqual({ version: 2, app: 'web', containers: [], signer });
    const both = JSON.parse(await packed(await archive('plain.tar'), '--port', '80', '--signer', file));
    expect(both).toMatchObject({ version: 2, containers: [{ name: 'web' }], signer });
    for (const words of [
      ['--signer', file],
      ['--port', '80'],
      ['--set', 'memoryMiB=64'],
    ])
      expect(await refused(file, ...words)).toEqual([2, 'USAGE', expect.stringContaining(words[0]!)]);
    const bad: [object, string, string][] = [
      [{ ...signer, address: 'x' }, 'MANIFEST_SIGNER', 'bad.json is malformed: field'],
      [
        { ...signer, chains: [{ ...chain, protocol: 'v2' }] },
        'MANIFEST_SIGNER',
        '/chains/0/protocol must be v0.34 or',
      ],
      [{ ...signer, chains: [chain, chain] }, 'MANIFEST_SIGNER', 'chain chain-1 twice'],
      [{ ...signer, chains: [{ ...chain, key: { secret: 'none' } }] }, 'MANIFEST_SIGNER', 'the secret none'],
    ];
    for (const [value, code, message] of bad)
      expect(await refused(await write('bad.json', value))).toEqual([
        2,
        code,
        expect.stringContaining(message),
      ]);
  });

  test('a Compose file with the archives of its services', async () => {
    const [one, two] = [await archive('one.tar'), await archive('two.tar')];
    const compose = join(folder, 'compose.yml');
    await writeFile(
      compose,
      'services:\n  web: {image: a, ports: ["443:80"]}\n  db: {image: b, mem_limit: 64m}\n',
    );
    const manifest = await packed(compose, '--archive', `web=${one}`, '--archive', `db=${two}`);
    expect(JSON.parse(manifest).containers).toMatchObject([
      { name: 'web', http: { port: 80 } },
      { name: 'db', memoryMiB: 64 },
    ]);
    const digests = [...manifest.matchAll(/sha256:([0-9a-f]{64})/g)].map(([, digest]) => `${digest}.tar`);
    expect(readdirSync(join(volume(), 'archives')).sort()).toEqual(digests.sort());
    for (const more of [
      ['--port', '80'],
      ['--env', 'A=b'],
      ['--set', 'pids=3'],
      ['--domain', 'a.example'],
      ['--h2c'],
      ['--api', 'key'],
      ['--archive', `web=${one}`],
    ])
      await expect(packed(compose, '--archive', `web=${one}`, ...more)).rejects.toMatchObject({
        code: 'USAGE',
      });
    await expect(packed(compose)).rejects.toMatchObject({ code: 'COMPOSE_UNSUPPORTED' });
  });
});
