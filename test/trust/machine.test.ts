/**
 * Points 2, 8, 9 and 10 by the code that decides, without a VM: strings from outside, what the image is made of, container
 * archives, and keys on their way to the kernel. In the VM they are seen by test/vm/network.vm.test.ts.
 */
import { chmodSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseQuestion } from '../../guest/agent/guards.ts';
import { daemons } from '../../guest/daemons.ts';
import { createDevice, run } from '../../guest/disk/system.ts';
import { commandLine } from '../../guest/image/command-line.ts';
import { daemonFiles } from '../../guest/image/daemon-files.ts';
import { programs, units } from '../../guest/image/guest-contents.ts';
import { desiredOf } from '../../guest/kubernethes/apps-reader.ts';
import { fetcher } from '../../guest/kubernethes/deployment.ts';
import type { Engine } from '../../guest/kubernethes/engine.ts';
import { handover } from '../../guest/kubernethes/handover.ts';
import { keptIn } from '../../guest/kubernethes/kept.ts';
import { containerRequest } from '../../guest/kubernethes/podman.ts';
import { keyring } from '../../guest/replicator/keyring.ts';
import { newSecret, secretHolder } from '../../guest/replicator/secret.ts';
import { hash, layerOf, pull, tar } from '../../lib/archives/images.fixture.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { simulatedRegisters } from '../../lib/attestation/simulated/measurement.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import {
  appKey,
  deriveKey,
  diskKey,
  type KeyPurpose,
  keyPurposes,
  networkKey,
  tlsKey,
} from '../../lib/protocol/keys.ts';
import { appId, plansOf } from '../../lib/protocol/manifest.ts';
import { parseHostHints, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { decodeAppsAfter } from '../../lib/protocol/network-contract.ts';
import { check } from '../../lib/protocol/schema.ts';
import { DiskKeyRequest } from '../../lib/protocol/sockets.ts';

const root = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'dstack-trust-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const outcome = async (action: () => unknown): Promise<string> => {
  try {
    await action();
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};

// ------------------------------------------------------------------------------------------------ 2

/** What a host or the chain would like a shell, a path or an `eval` to see. */
const hostile = [
  '$(touch PWNED)',
  '`touch PWNED`',
  '; touch PWNED',
  '| touch PWNED',
  '&& touch PWNED',
  '\ntouch PWNED\n',
  '../../etc/shadow',
  '/etc/shadow',
  "'); require('child_process')",
  '$' + '{process.exit()}',
  '__proto__',
  '\u0000',
  '-rf',
];

const config = {
  version: 1,
  chainId: 31337,
  contract: `0x${'11'.repeat(20)}`,
  confirmation: { depth: 0 },
  endpoints: ['http://127.0.0.1:1'],
  quorum: 1,
};
const json = (value: unknown): Uint8Array => utf8(JSON.stringify(value));

test.each(hostile)('2: %j is refused at every boundary that takes a string', async (bad) => {
  const parse = (change: object) => outcome(() => parseNetworkConfig(json({ ...config, ...change }), 'sim'));
  expect(await parse({ contract: bad })).toBe('NETWORK_CONFIG');
  expect(await parse({ chainId: bad })).toBe('NETWORK_CONFIG');
  expect(await parse({ endpoints: [bad] })).toBe('NETWORK_CONFIG');
  expect(await parse({ [bad]: 1 })).toBe('NETWORK_CONFIG');
  expect(await outcome(() => parseHostHints(json({ role: bad })))).toBe('HOST_HINTS');
  expect(await outcome(() => parseHostHints(json({ disk: bad })))).toBe('HOST_HINTS');
  expect(await outcome(() => appId(bad))).toBe('APP_NAME');
  // A tag is an app's own name for a key: these two are unusual, but harmless as the input of a hash.
  if (!['__proto__', '-rf'].includes(bad)) {
    expect(await outcome(() => parseQuestion(`/getkey/${bad}`))).toMatch(/^(BAD_TAG|NO_ROUTE)$/);
  }
  expect(await outcome(() => check(DiskKeyRequest, { diskId: bad }, 'BAD_REQUEST', 'x'))).toBe('BAD_REQUEST');
  const places = { hostVolume: scratch, storage: scratch, meminfo: '/proc/meminfo' };
  const engine = { hasImage: async () => false } as unknown as Engine;
  const files = fetcher(engine, places, keptIn(join(scratch, 'kept')), handover(0));
  expect(await outcome(() => files.image(bad, []))).toBe('ENCODING_HEX');
  expect(await outcome(() => files.manifest('greeting', bad))).toBe('ENCODING_HEX');
});

test('2: an app on chain whose name is none of ours is left out', () => {
  const word = (text: string | number) =>
    typeof text === 'number'
      ? text.toString(16).padStart(64, '0')
      : Buffer.from(text).toString('hex').padEnd(64, '0').slice(0, 64);
  const reply = (names: string[]) =>
    `0x${word(64)}${word(0)}${word(names.length)}${names.map((name) => word(name) + 'ab'.repeat(32) + word(0) + word(0)).join('')}`;
  expect([...desiredOf(decodeAppsAfter(reply([...hostile, 'greeting'])).list).keys()]).toEqual(['greeting']);
});

test('2: a program gets its arguments as they are: no shell looks at them', async () => {
  for (const argument of hostile.filter((text) => !text.includes('\u0000'))) {
    expect(await run('printf', ['%s', argument])).toBe(argument.trim());
  }
});

test('2: no file of the product uses a shell or evaluates text', () => {
  const forbidden = [
    /\bexec(Sync)?\(/,
    /shell:\s*(true|['"`])/,
    /\beval\(/,
    /new Function\(/,
    /from ['"](node:)?vm['"]/,
    /['"](ba)?sh['"],\s*\[?\s*['"]-c['"]/,
  ];
  const files = globSync('{guest,host,lib,cli}/**/*.{ts,mjs}', { cwd: root });
  expect(files.length).toBeGreaterThan(100);
  const found = files
    // The build unpacks locked packages by a fixed script that gets its parameters by position.
    .filter((file) => !file.endsWith('.test.ts') && file !== 'guest/image/unpacked-root.ts')
    .flatMap((file) => {
      const source = readFileSync(join(root, file), 'utf8').replace(
        /\/\*[\s\S]*?\*\/|\/\/.*$|\.exec\(/gm,
        '',
      );
      return forbidden.filter((pattern) => pattern.test(source)).map((pattern) => `${file}: ${pattern}`);
    });
  expect(found).toEqual([]);
});

test('2: no link of the host volume is followed, by a mount neither: it would lead into the VM', () => {
  expect(overlay('../initramfs/init')).toMatch(
    /mount -t 9p -o \S*\bro,nosuid,nodev,noexec,nosymfollow host_volume \/root\/mnt\/host_volume/,
  );
});

// ------------------------------------------------------------------------------------------------ 8

const made = daemonFiles(daemons);
const overlay = (path: string): string =>
  made.get(path) ?? readFileSync(join(root, 'guest/image/rootfs', path), 'utf8');
const lines = (path: string): string[][] =>
  overlay(path)
    .trim()
    .split('\n')
    .map((line) => line.split(':'));

test('8: nobody can log in: every password is locked, no account has a shell, and there is none', () => {
  const users = lines('etc/passwd');
  expect(users.map(([, password, , , , , shell]) => [password, shell])).toEqual(
    users.map(() => ['x', '/usr/sbin/nologin']),
  );
  expect(lines('etc/shadow').map(([name, password]) => [name, password])).toEqual(
    users.map(([name]) => [name, '!*']),
  );
  const forbidden =
    /\/(ba|da|z|k)?sh$|busybox|login|getty|sshd?$|sudo$|\/su$|passwd$|dropbear|systemd-run|nsenter/;
  expect(programs.filter((path) => forbidden.test(path))).toEqual([]);
  expect(units.filter((unit) => /getty|rescue|emergency|debug-shell|console|ssh/.test(unit))).toEqual([]);
  const written = globSync('**/*.service', { cwd: join(root, 'guest/image/rootfs') });
  for (const file of [...written, ...[...made.keys()].filter((path) => path.endsWith('.service'))]) {
    expect(overlay(file), file).not.toMatch(/agetty|StandardInput=tty|\/bin\/(ba)?sh/);
  }
  expect(overlay('usr/lib/systemd/system/emergency.target')).toContain('Requires=systemd-poweroff.service');
});

test('8: the root is read-only, each block checked against a hash that is measured', () => {
  const init = readFileSync(join(root, 'guest/image/initramfs/init'), 'utf8');
  expect(init).toMatch(
    /dmsetup create root --readonly [^"]*"0 .* verity 1 .*\$roothash \$salt 1 panic_on_corruption"/s,
  );
  const mounts = init
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => /mount -t (erofs|9p)/.test(line));
  // Only the files of the simulated hardware are writable, as those of real hardware are; none of them can be executed.
  const hardware = mounts.filter((mount) => mount.includes(' platform /root/run/dstack-hardware'));
  expect(hardware).toEqual([expect.stringMatching(/-o \S*access=0,nosuid,nodev,noexec /)]);
  const others = mounts.filter((mount) => !hardware.includes(mount));
  expect(others.length).toBeGreaterThanOrEqual(2);
  for (const mount of others) expect(mount).toMatch(/-o (ro|\S*,ro),/);

  const image = { rootHash: '11'.repeat(32), salt: '00'.repeat(32), blocks: 10 };
  const measured = (change: Partial<typeof image>): string =>
    toHex(
      measurementOf(
        simulatedRegisters({
          firmware: utf8('firmware'),
          kernel: utf8('kernel'),
          initramfs: utf8('initramfs'),
          commandLine: commandLine('sim', { ...image, ...change }),
          shape: { cpus: 1, memoryMiB: 1024 },
        }),
      ),
    );
  expect(measured({ rootHash: '12'.repeat(32) })).not.toBe(measured({}));
  for (const flavour of ['production', 'sim'] as const) {
    const line = commandLine(flavour, image).split(' ');
    expect(line).toContain('ro');
    expect(line).toContain('systemd.import_credentials=no');
    expect(
      line.filter((word) =>
        /^(init|rdinit|root|systemd\.(unit|debug|setenv|run)|rd\.break|single|S|1)(=|$)/.test(word),
      ),
    ).toEqual([]);
  }
});

// ------------------------------------------------------------------------------------------------ 9

/** A docker-archive of one layer with this content. `digest` and `tag` are what it claims to be. */
async function archiveOf(content: string, claim: { layerHash?: string; tag?: string } = {}) {
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [`sha256:${claim.layerHash ?? hash(layerOf(content))}`] },
  });
  const index = [{ Config: 'config.json', RepoTags: [claim.tag ?? 'greeting:1'], Layers: ['layer.tar'] }];
  const bytes = await tar([
    ['config.json', config],
    ['layer.tar', layerOf(content)],
    ['manifest.json', JSON.stringify(index)],
  ]);
  return { digest: hash(config), bytes };
}

const offering = handover(0);
afterAll(() => offering.close());

/** The deployment with an engine that stores what it is given, under its true digest. */
function deployment(honest = true) {
  const loaded: string[] = [];
  const held = new Set<string>();
  const engine = {
    assertReadable: async () => {},
    imageVolumes: async () => [],
    hasImage: async (digest: string) => held.has(digest),
    pullImage: async (reference: string) => {
      const { digest, config, layers } = await pull(reference);
      loaded.push(`${reference} ${config} ${layers.map(String)}`);
      if (honest) held.add(digest);
    },
  };
  const hostVolume = mkdtempSync(join(scratch, 'host-'));
  mkdirSync(join(hostVolume, 'archives'));
  const places = { hostVolume, storage: scratch, meminfo: '/proc/meminfo' };
  const put = (digest: string, bytes: Uint8Array) =>
    writeFileSync(join(hostVolume, 'archives', `${digest}.tar`), bytes);
  const files = fetcher(engine as unknown as Engine, places, keptIn(join(scratch, 'kept')), offering);
  return { loaded, put, files };
}

test('9: an archive under the right name and tag, with another image in it, never reaches the engine', async () => {
  const { loaded, put, files } = deployment();
  const [good, evil] = [await archiveOf('good'), await archiveOf('evil')];
  put(good.digest, evil.bytes);
  expect(await outcome(() => files.image(good.digest, []))).toBe('ARCHIVE_DIGEST_MISMATCH');
  // The right config, so the right digest, over another layer.
  const spoiled = await archiveOf('evil', { layerHash: hash(layerOf('good')) });
  expect(spoiled.digest).toBe(good.digest);
  put(good.digest, spoiled.bytes);
  expect(await outcome(() => files.image(good.digest, []))).toBe('ARCHIVE_LAYER_MISMATCH');
  expect(loaded).toEqual([]);

  put(good.digest, good.bytes);
  expect(await outcome(() => files.image(good.digest, []))).toBe('accepted');
  expect(loaded).toHaveLength(1);
  // Nor does the tag that the archive gave itself.
  expect(loaded[0]).not.toContain('greeting:1');
});

test('9: an engine that says it took an image must have that very digest', async () => {
  const { put, files } = deployment(false);
  const good = await archiveOf('good');
  put(good.digest, good.bytes);
  expect(await outcome(() => files.image(good.digest, []))).toBe('ARCHIVE_NOT_LOADED');
});

test("9: a container is made from an image's digest, never from a name", () => {
  const containers = [{ name: 'web', image: `sha256:${'cd'.repeat(32)}` }];
  const spec = {
    name: 'web',
    app: 'greeting',
    manifest: parseHex('ef'.repeat(32)),
    image: 'ab'.repeat(32),
    // Not what the manifest's container has for it: the id that was checked.
    container: plansOf({ version: 1, app: 'greeting', containers })[0]!,
    network: { name: 'dstack-greeting', gateway: '10.90.0.1' },
    storage: { volumes: {} },
    number: 128,
    siblings: {},
  };
  expect(containerRequest(spec)).toMatchObject({ Image: `sha256:${'ab'.repeat(32)}` });
});

// ------------------------------------------------------------------------------------------------ 10

test("10: a key goes to the kernel's mapper through standard input, never as an argument", async () => {
  const folder = mkdtempSync(join(scratch, 'bin-'));
  writeFileSync(
    join(folder, 'dmsetup'),
    `#!/bin/sh\necho "$@" >>${folder}/arguments\ncat >>${folder}/input\n`,
  );
  chmodSync(join(folder, 'dmsetup'), 0o755);
  const before = process.env.PATH;
  process.env.PATH = `${folder}:${before}`;
  try {
    await createDevice('dstack-data', `0 8 crypt aes ${'5e'.repeat(32)} 0 /dev/null 0`);
  } finally {
    process.env.PATH = before;
  }
  expect(readFileSync(join(folder, 'input'), 'utf8')).toContain('5e'.repeat(32));
  expect(readFileSync(join(folder, 'arguments'), 'utf8')).not.toContain('5e'.repeat(8));
});

test('10: no two uses share a key, and none is the secret', () => {
  const secret = newSecret();
  const keys = [
    secret,
    networkKey(secret, 1).privateKey,
    tlsKey(secret, 1),
    diskKey(secret, 1, new Uint8Array(16)),
    appKey(secret, 1, 'greeting', 'session'),
    ...Object.keys(keyPurposes).map((purpose) => deriveKey(secret, 1, purpose as KeyPurpose)),
  ].map(toHex);
  expect(new Set(keys).size).toBe(keys.length);
});

test('10: a wiped secret is gone, and nothing more comes of it', () => {
  const secret = newSecret();
  const keys = secretHolder(keyring(new Map([[1, secret]])), {
    chainId: 1,
    contract: parseAddress(`0x${'11'.repeat(20)}`),
  });
  expect(keys.tlsKey()).toHaveLength(32);
  expect(JSON.stringify(keys)).not.toContain(toHex(secret));
  keys.wipe();
  expect(secret.every((byte) => byte === 0)).toBe(true);
  for (const use of [
    () => keys.tlsKey(),
    () => keys.diskKey(new Uint8Array(16)),
    () => keys.appKey('a', 'b'),
    () => keys.signAttestation('a', 'b', new Uint8Array()),
  ]) {
    expect(use).toThrow('wiped');
  }
});

test("10: no daemon's memory reaches a core file, swap or another process", () => {
  const unit = overlay('usr/lib/systemd/system/dstack-replicator.service');
  for (const line of [
    'LimitCORE=0',
    'MemorySwapMax=0',
    'User=dstack-replicator',
    'CapabilityBoundingSet=',
    'NoNewPrivileges=yes',
  ]) {
    expect(unit.split('\n'), line).toContain(line);
  }
  const init = readFileSync(join(root, 'guest/image/initramfs/init'), 'utf8');
  for (const line of ['echo 3 >/proc/sys/kernel/yama/ptrace_scope', 'echo 0 >/proc/sys/fs/suid_dumpable']) {
    expect(init.split('\n'), line).toContain(line);
  }
});
