import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { TestNetwork } from '../../contracts/fixture.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { imageOf, layerOf, tar } from '../../lib/archives/images.fixture.ts';
import {
  openSecret,
  parseEnvelope,
  sealingKeyStatement,
  sealingPublicKey,
} from '../../lib/protocol/app-secrets.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { appSecretsKey, networkKey } from '../../lib/protocol/keys.ts';
import { encodeBootstrap } from '../../lib/protocol/network-contract.ts';
import { compact, sign } from '../../lib/protocol/secp256k1.ts';
import { SECRET_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import { readArguments, UsageError } from '../command.ts';
import { appCommands } from './app.ts';

const SECRET = sha256(utf8("the network's secret"));
const HOSTS = sha256(utf8("a host's own"));
const PASSWORD = 'correct horse';

let anvil: Anvil;
let network: TestNetwork;
let folder: string;
let relay: Server;
let url: string;
/** What the relay answers with: status and body. */
let answer: (app: string) => Promise<readonly [number, unknown]>;
beforeAll(async () => {
  anvil = await startAnvil();
  folder = await mkdtemp(join(tmpdir(), 'dstack-app-secret-'));
  network = await TestNetwork.deploy(new Chain(anvil.url), {});
  await network.allowAll();
  await network.asOwner(
    encodeBootstrap(await network.bootstrapArgs({ key: networkKey(SECRET, 1).privateKey })),
  );
  relay = createServer(async (request, response) => {
    const [status, body] = await answer(JSON.parse(await text(request)).app);
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}`;
});
afterAll(async () => {
  relay.close();
  await rm(folder, { recursive: true });
  await anvil.stop();
});
beforeEach(async () => {
  answer = async (app) => [200, await messageOf(app)];
  await rm(volume(), { recursive: true, force: true });
});

const volume = () => join(folder, 'volume');

/** What a node of this secret says of itself, or signs with the key of another. */
async function messageOf(app: string, of = SECRET, by = of) {
  const publicKey = await sealingPublicKey(appSecretsKey(of, 1, app));
  const digest = sealingKeyStatement(network.domain, app, publicKey);
  const signature = compact(sign(digest, networkKey(by, 1).privateKey));
  return { type: 'sealing-key', ...network.domain, app, publicKey: toHex(publicKey), signature };
}

/** What a command prints. */
async function run(name: string, ...words: string[]): Promise<string> {
  const command = appCommands.find((one) => one.name === name)!;
  let printed = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    printed += chunk;
    return true;
  });
  try {
    await command.run(readArguments(command, words));
  } finally {
    write.mockRestore();
  }
  return printed;
}

async function setting(secret: string, value: string | Uint8Array, app = 'shop'): Promise<string> {
  const file = join(folder, 'value');
  await writeFile(file, value);
  const chainOf = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
  const places = ['--relay', url, '--file', file, '--out', volume()];
  return run('app secret set', app, secret, ...chainOf, ...places);
}
/** The file that it wrote. */
const set = async (secret: string, value: string, app = 'shop'): Promise<string> =>
  /^envelope {2}(.*)$/m.exec(await setting(secret, value, app))![1]!;
const refusal = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

describe('app secret set', () => {
  test("seals to the app's key; shows what for, and nothing of the value", async () => {
    const printed = await setting('db-password', `${PASSWORD}\n`);
    const [, file] = /^envelope {2}(.*)$/m.exec(printed)!;
    const bytes = readFileSync(file!);
    const hash = toHex(sha256(bytes));
    expect(file).toBe(join(volume(), `secrets/${hash}.json`));
    expect(printed).toContain(`manifest  {"envelope":"${hash}","name":"db-password"}`);
    expect(printed).toContain('db-password of shop, 14 bytes, the last of them a line break');
    expect(printed).toContain(networkKey(SECRET, 1).address);
    expect(printed).toContain(`--secret db-password=${file}`);
    expect(printed).not.toContain(PASSWORD);
    const place = { ...network.domain, app: 'shop', name: 'db-password' };
    expect(toHex(await openSecret(bytes, place, appSecretsKey(SECRET, 1, 'shop')))).toBe(
      toHex(utf8(`${PASSWORD}\n`)),
    );
  });

  test.each<[string, string, (app: string) => Promise<readonly [number, unknown]>]>([
    ["a host's own key, signed by itself", 'SEALING_KEY', async (app) => [200, await messageOf(app, HOSTS)]],
    [
      "the network's signature beside a host's key",
      'SEALING_KEY',
      async (app) => {
        const { publicKey } = await messageOf(app, HOSTS);
        return [200, { ...(await messageOf(app)), publicKey }];
      },
    ],
    ["another app's key", 'SEALING_KEY', async () => [200, await messageOf('other')]],
    [
      "another app's key under this app's name",
      'SEALING_KEY',
      async (app) => [200, { ...(await messageOf('other')), app }],
    ],
    ['no key', 'RELAY_REPLY', async () => [200, {}]],
    [
      'a refusal',
      'NODE_STATE',
      async () => [400, { code: 'NODE_STATE', message: 'this node is requesting' }],
    ],
  ])('a relay that gives %s gets nothing sealed: %s', async (_, code, gives) => {
    answer = gives;
    expect(await refusal(setting('db', PASSWORD))).toBe(code);
    expect(existsSync(volume())).toBe(false);
  });

  test('what no node would take is refused before anybody is asked', async () => {
    answer = async () => {
      throw new Error('asked');
    };
    for (const name of ['../x', '.db', 'a b', ''])
      expect(await refusal(setting(name, PASSWORD)), name).toBe('SECRET_NAME');
    expect(await refusal(setting('db', PASSWORD, '../x'))).toBe('APP_NAME');
    // The second is what `echo $UNSET` writes.
    for (const nothing of ['', '\n', '\r\n', ' \t\n'])
      expect(await refusal(setting('db', nothing)), JSON.stringify(nothing)).toBe('USAGE');
    expect(await refusal(setting('db', 'x'.repeat(SECRET_MAX_BYTES + 1)))).toBe('SECRET_TOO_LARGE');
  });

  test('of a file without an end no more is read than could be sealed', async () => {
    const places = ['--relay', url, '--file', '/dev/zero', '--out', volume()];
    const chainOf = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
    expect(await refusal(run('app secret set', 'shop', 'db', ...chainOf, ...places))).toBe(
      'SECRET_TOO_LARGE',
    );
  });

  test.each([
    ['a file', () => join(folder, 'value')],
    ['where nothing can be made', () => '/proc/nothing'],
  ])('a volume that is %s is refused, and the one beside it gets nothing', async (_, place) => {
    const file = join(folder, 'value');
    await writeFile(file, PASSWORD);
    const places = ['--relay', url, '--file', file, '--out', volume(), '--out', place()];
    const chainOf = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
    const failure = await run('app secret set', 'shop', 'db', ...chainOf, ...places).catch((error) => error);
    expect(failure).toMatchObject({
      code: 'FILE',
      message: expect.stringContaining(`to ${place()} (--out)`),
    });
    expect(readdirSync(join(volume(), 'secrets'))).toEqual([]);
  });

  test('what is mistyped is a mistake in how it was called, in words', async () => {
    const failure = await setting('my token', PASSWORD).catch((error) => error);
    expect(failure).toBeInstanceOf(UsageError);
    expect(failure).toMatchObject({
      code: 'SECRET_NAME',
      message: expect.stringContaining('up to 64 letters'),
    });
    for (const wrong of [
      () => setting('db', PASSWORD, 'Shop'),
      () => run('app secret list', 'Shop', '--volume', folder),
    ])
      expect(await wrong().catch((error) => error)).toBeInstanceOf(UsageError);
  });

  test('a network without a key yet can open nothing', async () => {
    const young = await TestNetwork.deploy(network.chain, {});
    const file = join(folder, 'value');
    await writeFile(file, PASSWORD);
    const chainOf = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', young.address];
    const places = ['--relay', url, '--file', file, '--out', volume()];
    expect(await refusal(run('app secret set', 'shop', 'db', ...chainOf, ...places))).toBe(
      'NETWORK_NOT_BOOTSTRAPPED',
    );
  });
});

describe('app pack with secrets', () => {
  const archive = async (): Promise<string> => {
    const file = join(folder, 'app.tar');
    await writeFile(file, await tar(imageOf([layerOf('app')]).items));
    return file;
  };
  const packed = async (...words: string[]) => {
    const printed = await run('app pack', 'shop', ...words, '--out', volume());
    const [, hash] = /^manifest 0x([0-9a-f]{64})$/m.exec(printed)!;
    return JSON.parse(readFileSync(join(volume(), `manifests/${hash}.json`), 'utf8'));
  };
  const hashOf = (file: string): string => toHex(sha256(readFileSync(file)));

  test('an archive: its container gets them all, and their envelopes go into the volume', async () => {
    const [db, token] = [await set('db', PASSWORD), await set('a.token', 'x')];
    const elsewhere = join(folder, 'copy.json');
    await writeFile(elsewhere, readFileSync(db));
    await rm(join(volume(), 'secrets'), { recursive: true });
    expect(await refusal(packed(await archive(), '--secret', `a.token=${token}`))).toBe('FILE');
    const manifest = await packed(await archive(), '--port', '80', '--secret', `db=${elsewhere}`);
    expect(manifest).toMatchObject({
      version: 2,
      secrets: [{ name: 'db', envelope: hashOf(elsewhere) }],
      containers: [{ http: { port: 80 }, secrets: ['db'] }],
    });
    expect(readdirSync(join(volume(), 'secrets'))).toEqual([`${hashOf(elsewhere)}.json`]);
  });

  test("a validator's key goes to the signer, alone or beside a container, which does not get it", async () => {
    const [key, db] = [await set('validator', 'x'), await set('db', PASSWORD)];
    const chain = { id: 'chain-1', protocol: 'v0.38', key: { secret: 'validator' }, afterHeight: 5 };
    const file = join(folder, 'signer.json');
    await writeFile(file, JSON.stringify({ disk: 'ab'.repeat(16), chains: [chain] }));
    const alone = await packed(file, '--secret', `validator=${key}`);
    expect(alone.secrets).toEqual([{ name: 'validator', envelope: hashOf(key) }]);
    const list = await run('app secret list', 'shop', '--volume', volume());
    expect(list).toContain('gives it to its signer');
    const words = ['--signer', file, '--secret', `validator=${key}`, '--secret', `db=${db}`];
    const { containers, secrets } = await packed(await archive(), ...words);
    expect(secrets).toHaveLength(2);
    expect(containers[0].secrets).toEqual(['db']);
  });

  test('a Compose file: each service gets those that it names', async () => {
    const [db, token] = [await set('db', PASSWORD), await set('token', 'x')];
    const compose = join(folder, 'compose.yml');
    const image = `sha256:${'ab'.repeat(32)}`;
    await writeFile(
      compose,
      `services:\n  web: {image: "${image}", secrets: [token]}\n  db: {image: "${image}", secrets: [token, db]}\nsecrets:\n  db: {file: ./db.txt}\n  token: {external: true}\n`,
    );
    const manifest = await packed(compose, '--secret', `token=${token}`, '--secret', `db=${db}`);
    expect(manifest.secrets).toEqual([
      { envelope: hashOf(db), name: 'db' },
      { envelope: hashOf(token), name: 'token' },
    ]);
    expect(manifest.containers.map(({ secrets }: { secrets: string[] }) => secrets)).toEqual([
      ['token'],
      ['token', 'db'],
    ]);
    expect(await refusal(packed(compose, '--secret', `token=${token}`))).toBe('COMPOSE_UNSUPPORTED');
  });

  test('one that its container could not open is refused here already', async () => {
    const [db, theirs] = [await set('db', PASSWORD), await set('db', PASSWORD, 'other')];
    const spoiled = join(folder, 'spoiled.json');
    await writeFile(spoiled, '{}');
    const abroad = join(folder, 'abroad.json');
    await writeFile(
      abroad,
      JSON.stringify({ ...parseEnvelope(readFileSync(db)), name: 'other', chainId: 1 }),
    );
    const file = await archive();
    for (const [words, code] of [
      [[`token=${db}`], 'SECRET_WRONG_NAME'],
      [[`db=${theirs}`], 'SECRET_WRONG_APP'],
      [[`db=${db}`, `other=${abroad}`], 'SECRET_WRONG_NETWORK'],
      [[`db=${spoiled}`], 'SECRET_MALFORMED'],
      [[`db=${folder}/nothing`], 'FILE'],
      [[`db=${db}`, `db=${db}`], 'USAGE'],
      [['db'], 'USAGE'],
    ] as const)
      expect(await refusal(packed(file, ...words.flatMap((word) => ['--secret', word])))).toBe(code);
  });

  test('one that took the place of the one that was set is refused, as by a host that has the folder', async () => {
    const [db, hosts] = [await set('db', PASSWORD), await set('db', "the host's")];
    await writeFile(db, readFileSync(hosts));
    expect(await refusal(packed(await archive(), '--secret', `db=${db}`))).toBe('SECRET_HASH_MISMATCH');
  });

  test('app secret list says which are there, which a manifest names, and which are missing', async () => {
    expect(await refusal(run('app secret list', 'shop', '--volume', volume()))).toBe('FILE');
    mkdirSync(volume());
    expect(await run('app secret list', 'shop', '--volume', volume())).toBe('no secrets of shop here\n');
    const [old, db, token] = [await set('db', 'old'), await set('db', 'new'), await set('token', 'x')];
    await set('db', 'theirs', 'other');
    await packed(await archive(), '--secret', `db=${db}`, '--secret', `token=${token}`);
    const missing = hashOf(token);
    await rm(token);
    const lines = (await run('app secret list', 'shop', '--volume', volume())).trimEnd().split('\n');
    const [manifest] = readdirSync(join(volume(), 'manifests'));
    const given = `    manifest 0x${manifest!.replace('.json', '')} gives it to shop`;
    const values = [
      [`  ${hashOf(old)}`, '    no manifest here names it'],
      [`  ${hashOf(db)}`, given],
    ].sort();
    expect(lines).toEqual([
      'db',
      ...values.flat(),
      'token',
      `  ${missing}: MISSING, no node can open it`,
      given,
    ]);
  });
});
