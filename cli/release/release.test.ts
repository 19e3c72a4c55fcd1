/** A release of a small image: what is in it, and that `image verify` and `node join --image` take no other. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { formatLock, imageLockHash, type LockedPackage } from '../../guest/image/packages.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { dstack, startDstack } from '../../test/support/cli.ts';
import { eventually } from '../../test/support/network.ts';
import { writeTestImage } from '../../test/support/vm-process.ts';
import { makeRelease, type Release } from './make.ts';
import { notesOf } from './notes.ts';
import type { Component } from './sbom.ts';
import { readPublicKey, signSums } from './signature.ts';
import { formatSums, parseSums, SUMS, sumsOf } from './sums.ts';
import { verifyRelease } from './verify.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const root = mkdtempSync(join(tmpdir(), 'dstack-release-'));
const repository = join(import.meta.dirname, '../..');
const path = (...names: string[]) => join(root, ...names);
const packages: LockedPackage[] = [
  {
    ...{ root: 'guest', name: 'libstdc++6', version: '1:14.2.0-19', sha256: 'ab'.repeat(32), size: 1 },
    ...{ archive: 'debian', path: 'pool/main/g/gcc-14/libstdc%2b%2b6_14.2.0-19_amd64.deb' },
  },
  {
    ...{ root: 'kernel', name: 'linux-image-7.0', version: '7.0-1', sha256: 'cd'.repeat(32), size: 1 },
    ...{ archive: 'debian-security', path: 'pool/updates/main/l/linux/linux-image-7.0_7.0-1_amd64.deb' },
  },
];
let release: Release;

/** An image as a build leaves it, where the sums in image.json are those of its files. */
function writeImage(folder: string): string {
  writeTestImage(folder);
  const manifest = JSON.parse(readFileSync(join(folder, 'image.json'), 'utf8'));
  for (const name of Object.keys(manifest.files)) {
    const bytes = readFileSync(join(folder, name));
    manifest.files[name] = { sha256: toHex(sha256(bytes)), size: bytes.length };
  }
  manifest.lockHash = imageLockHash(packages, 'sim');
  manifest.packages = packages.length;
  writeFileSync(join(folder, 'image.json'), JSON.stringify(manifest));
  writeFileSync(join(folder, 'packages.lock'), formatLock(packages));
  return folder;
}

function makeKey(name: string, type = 'ed25519'): string {
  const key = path(name);
  execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', 'a test', '-f', key]);
  return key;
}

beforeAll(async () => {
  for (const name of ['owner', 'stranger']) makeKey(name);
  const options = { out: path('out'), key: path('owner'), root: repository };
  release = await makeRelease({ image: writeImage(path('image')), ...options });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Of a copy that was changed; signed again by somebody, if `signer` says so. */
async function codeOfChanged(change: (folder: string) => void, signer?: string): Promise<string> {
  const folder = path('changed');
  rmSync(folder, { recursive: true, force: true });
  cpSync(release.folder, folder, { recursive: true });
  change(folder);
  if (signer !== undefined) {
    writeFileSync(join(folder, SUMS), formatSums(await sumsOf(folder)));
    await signSums(folder, path(signer));
  }
  return verifyRelease(folder, { publicKey: release.publicKey }).then(() => 'verified', codeOf);
}

describe('a release', () => {
  test('is an image with what it is made of, what it measures, what is new, sums and a signature', () => {
    const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
    expect(release.folder).toBe(path('out', `dstack-${version}-sim`));
    expect(readdirSync(release.folder).sort()).toEqual([
      ...['NOTES.md', 'SHA256SUMS', 'SHA256SUMS.sig', 'firmware.bin', 'image.json', 'initramfs.cpio.zst'],
      ...['measurement.json', 'packages.lock', 'root.img', 'sbom.cdx.json', 'vmlinuz'],
    ]);
    const image = JSON.parse(readFileSync(path('image/image.json'), 'utf8'));
    expect(release.measured).toMatchObject({
      flavour: 'sim',
      release: version,
      measurement: image.measurement,
    });
    expect(readFileSync(join(release.folder, 'NOTES.md'), 'utf8')).toMatch(/^# Dstack .*\n\n\S/);
    expect(readdirSync(path('out'))).toHaveLength(1);
  });

  test('is checked by the tools that everybody has', () => {
    const cwd = release.folder;
    expect(execFileSync('sha256sum', ['--check', SUMS], { cwd }).toString()).toContain('root.img: OK');
    writeFileSync(path('allowed'), `me@example ${release.publicKey}\n`);
    const args = ['-f', path('allowed'), '-I', 'me@example', '-n', 'dstack-release', '-s', 'SHA256SUMS.sig'];
    const input = readFileSync(join(cwd, SUMS));
    expect(execFileSync('ssh-keygen', ['-Y', 'verify', ...args], { cwd, input }).toString()).toContain(
      'Good "dstack-release" signature for me@example',
    );
  });

  test('has a bill of materials of CycloneDX 1.6, the same each time', async () => {
    const text = readFileSync(join(release.folder, 'sbom.cdx.json'), 'utf8');
    const sbom = JSON.parse(text) as Record<string, unknown> & { components: Component[] };
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6', version: 1 });
    expect(sbom.serialNumber).toMatch(
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    const refs = sbom.components.map((component) => component['bom-ref']);
    expect(new Set(refs).size).toBe(refs.length);
    const found = (ref: string) => sbom.components.find((component) => component['bom-ref'] === ref)!;
    expect(found('deb:guest/libstdc++6')).toMatchObject({
      purl: 'pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19?arch=amd64',
      hashes: [{ alg: 'SHA-256', content: 'ab'.repeat(32) }],
    });
    const lock = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')).packages;
    const curves = lock['node_modules/@noble/curves'];
    expect(found('npm:node_modules/@noble/curves')).toMatchObject({
      ...{ group: '@noble', name: 'curves', version: curves.version },
      purl: `pkg:npm/%40noble/curves@${curves.version}`,
      hashes: [
        {
          alg: 'SHA-512',
          content: Buffer.from(curves.integrity.slice('sha512-'.length), 'base64').toString('hex'),
        },
      ],
    });
    // What only developers install is none of it.
    expect(refs).not.toContain('npm:node_modules/vitest');
    const again = await makeRelease({ image: path('image'), out: path('again'), key: path('owner') });
    expect(readFileSync(join(again.folder, 'sbom.cdx.json'), 'utf8')).toBe(text);
  });

  test('does not change, and is not made with what is no key', async () => {
    const make = (key: string, out: string) => makeRelease({ image: path('image'), out: path(out), key });
    await expect(make(path('owner'), 'out')).rejects.toThrowError(
      expect.objectContaining({ code: 'RELEASE_THERE' }),
    );
    const rsa = makeKey('rsa', 'rsa');
    await expect(make(rsa, 'rsa-out')).rejects.toThrowError(expect.objectContaining({ code: 'RELEASE_KEY' }));
    expect(readdirSync(path('rsa-out'))).toEqual([]);
  });
});

describe('is refused', () => {
  test.each<[string, (folder: string) => void, string, string?]>([
    ['a file that was changed', (folder) => appendFileSync(join(folder, 'root.img'), 'x'), 'RELEASE_FILE'],
    ['one that is missing', (folder) => rmSync(join(folder, 'NOTES.md')), 'RELEASE_FILE'],
    ['one that nobody signed', (folder) => writeFileSync(join(folder, 'more'), ''), 'RELEASE_FILE'],
    [
      'a link',
      (folder) => {
        rmSync(join(folder, 'NOTES.md'));
        symlinkSync('/etc/hostname', join(folder, 'NOTES.md'));
      },
      'RELEASE_FILE',
    ],
    ['sums that were changed', (folder) => appendFileSync(join(folder, SUMS), '\n'), 'RELEASE_SIGNATURE'],
    ['no signature', (folder) => rmSync(join(folder, 'SHA256SUMS.sig')), 'RELEASE_UNSIGNED'],
    [
      'a signature that is none',
      (folder) => writeFileSync(join(folder, 'SHA256SUMS.sig'), 'x'),
      'RELEASE_SIGNATURE',
    ],
    ["a stranger's", () => {}, 'RELEASE_SIGNATURE', 'stranger'],
    ['what is no release', (folder) => rmSync(join(folder, SUMS)), 'RELEASE_MISSING'],
    [
      'an image.json of other files',
      (folder) => appendFileSync(join(folder, 'vmlinuz'), 'x'),
      'RELEASE_IMAGE',
      'owner',
    ],
    [
      'a lock of other packages',
      (folder) => writeFileSync(join(folder, 'packages.lock'), formatLock(packages.slice(1))),
      'RELEASE_IMAGE',
      'owner',
    ],
    [
      'a measurement of another image',
      (folder) => edit(folder, 'measurement.json', /"0x../, '"0x00'),
      'RELEASE_MEASUREMENT',
      'owner',
    ],
    [
      'a bill of materials that names another version',
      (folder) => edit(folder, 'sbom.cdx.json', /14\.2\.0-19"/, '14.2.0-20"'),
      'RELEASE_SBOM',
      'owner',
    ],
    [
      'a bill of materials of other files',
      (folder) =>
        editSbom(folder, ({ components }) => {
          components[0]!.hashes[0]!.content = '00'.repeat(32);
        }),
      'RELEASE_SBOM',
      'owner',
    ],
    [
      'one without a file',
      (folder) => editSbom(folder, ({ components }) => void components.shift()),
      'RELEASE_SBOM',
      'owner',
    ],
    [
      'one that has a package twice, the second time as it is',
      (folder) =>
        editSbom(folder, ({ components }) => {
          const found = components.find((one) => one['bom-ref'] === 'deb:guest/libstdc++6')!;
          components.unshift({ ...found, version: '1' });
        }),
      'RELEASE_SBOM',
      'owner',
    ],
    [
      'one that has more than the image',
      (folder) =>
        editSbom(
          folder,
          ({ components }) => void components.push({ ...components[0]!, 'bom-ref': 'deb:guest/x' }),
        ),
      'RELEASE_SBOM',
      'owner',
    ],
    [
      'one of another version',
      (folder) =>
        editSbom(folder, ({ metadata }) => {
          metadata.component.version = '9.9.9';
        }),
      'RELEASE_SBOM',
      'owner',
    ],
  ])('%s', async (_, change, code, signer) => {
    expect(await codeOfChanged(change, signer)).toBe(code);
  });

  test('a file that takes years to read, without reading it', async () => {
    const folder = path('years');
    cpSync(release.folder, folder, { recursive: true });
    truncateSync(join(folder, 'root.img'), 2 ** 32 + 1);
    await expect(verifyRelease(folder, { publicKey: release.publicKey })).rejects.toThrowError(
      /root\.img has 4294967297 bytes/,
    );
  });

  test('a file larger than it may be, before it is read', async () => {
    await expect(sumsOf(release.folder, 10)).rejects.toThrowError(/of a release has more than 10/);
  });

  test('a signature of that key over something else, in another namespace', async () => {
    const code = await codeOfChanged((folder) => {
      rmSync(join(folder, 'SHA256SUMS.sig'));
      const sign = ['-Y', 'sign', '-q', '-f', path('owner'), '-n', 'file', join(folder, SUMS)];
      execFileSync('ssh-keygen', sign, { stdio: 'ignore' });
    });
    expect(code).toBe('RELEASE_SIGNATURE');
  });

  test.each([
    `${'ab'.repeat(32)}  ../image.json\n`,
    `${'ab'.repeat(32)}  .hidden\n`,
    `${'ab'.repeat(32)} *a\n`,
    `${'ab'.repeat(32)}  a\n${'cd'.repeat(32)}  a\n`,
    'ab  a\n',
    '',
  ])('sums of the form %j', (text) => {
    expect(() => parseSums(text)).toThrowError(expect.objectContaining({ code: 'RELEASE_SUMS' }));
  });

  test('a key that is none', () => {
    writeFileSync(path('no-key.pub'), 'ssh-ed25519 x" cert-authority\n');
    expect(() => readPublicKey(path('no-key.pub'))).toThrowError(
      expect.objectContaining({ code: 'RELEASE_KEY' }),
    );
  });
});

test('notes are those of the version, else those of what comes next', () => {
  const changelog = '# Changelog\n\n## Unreleased\n\n- new\n\n## 1.0.0 (2026-01-01)\n\n- old\n';
  expect(notesOf(changelog, '1.0.0')).toBe('# Dstack 1.0.0\n\n- old\n');
  expect(notesOf(changelog, '1.1.0')).toBe('# Dstack 1.1.0\n\n- new\n');
  expect(() => notesOf('# Changelog\n', '1')).toThrowError(
    expect.objectContaining({ code: 'RELEASE_NOTES' }),
  );
});

describe('on the command line', () => {
  test('image verify says what a release is', async () => {
    const { code, stdout } = await dstack([
      'image',
      'verify',
      release.folder,
      '--key',
      `${path('owner')}.pub`,
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain(`measurement  ${release.measured.measurement}\n`);
    expect(stdout).toContain(`signed by    ${release.publicKey}\n`);
    const other = await dstack(['image', 'verify', release.folder, '--key', `${path('stranger')}.pub`]);
    expect([other.code, other.stdout, other.stderr]).toEqual([
      1,
      '',
      expect.stringMatching(/RELEASE_SIGNATURE: /),
    ]);
  });

  test('node join boots no release that is not whole, nor one of somebody else', async () => {
    const settings = path('host.env');
    writeFileSync(path('gas.key'), '42'.repeat(32), { mode: 0o600 });
    const lines = [
      `DSTACK_VM_IMAGE_DIR=${path('nowhere')}`,
      `DSTACK_VM_VOLUME_DIR=${path('volume')}`,
      `DSTACK_VM_STATE_DIR=${path('vm')}`,
      `DSTACK_VM_PLATFORM_FILE=${path('platform.json')}`,
      ...[
        'DSTACK_GOSSIP_PEERS=http://127.0.0.1:9',
        'DSTACK_RPC_URL=http://127.0.0.1:9',
        'DSTACK_CHAIN_ID=11155111',
      ],
      ...[`DSTACK_GAS_KEY_FILE=${path('gas.key')}`, `DSTACK_STATE_DIR=${path('relay')}`],
      `DSTACK_CONTRACT=0x${'11'.repeat(20)}`,
    ];
    writeFileSync(settings, `${lines.join('\n')}\n`);
    const broken = path('broken');
    cpSync(release.folder, broken, { recursive: true });
    appendFileSync(join(broken, 'root.img'), 'x');
    const attempt = (...args: string[]) => dstack(['node', 'join', '--env-file', settings, ...args]);
    const cut = await attempt('--image', broken);
    expect([cut.code, cut.stderr]).toEqual([
      1,
      expect.stringMatching(/RELEASE_FILE: .*\n.*root\.img: is not/),
    ]);
    const strangers = await attempt('--image', release.folder, '--release-key', `${path('stranger')}.pub`);
    expect([strangers.code, strangers.stderr]).toEqual([1, expect.stringContaining('RELEASE_SIGNATURE')]);
    const unsigned = await attempt('--image', path('image'), '--release-key', `${path('owner')}.pub`);
    expect([unsigned.code, unsigned.stderr]).toEqual([1, expect.stringContaining('RELEASE_MISSING')]);
    const key = ['--release-key', `${path('owner')}.pub`];
    const whole = startDstack(['node', 'join', '--env-file', settings, '--image', release.folder, ...key]);
    await eventually(async () => whole.text().includes('measurement 0x'), 'the join to begin');
    whole.child.kill('SIGINT');
    const { stdout } = await whole.ended;
    expect(stdout).toContain(`files as they were released, signed by ${release.publicKey}`);
    expect(stdout).toContain(`measurement ${release.measured.measurement}`);
  });

  test('npm run release makes one, and says what is missing', async () => {
    const script = join(repository, 'scripts/release.ts');
    const run = (...args: string[]) =>
      execFileSync(process.execPath, [script, ...args], { stdio: 'pipe' }).toString();
    const made = run('--image', path('image'), '--out', path('by-script'), '--key', path('owner'));
    expect(made).toContain(`measurement  ${release.measured.measurement}`);
    expect(() => run('--image', path('image'))).toThrowError(expect.objectContaining({ status: 2 }));
    const missing = ['--image', path('none'), '--key', path('owner')];
    expect(() => run(...missing)).toThrowError(expect.objectContaining({ status: 1 }));
  });
});

function edit(folder: string, name: string, from: RegExp, to: string): void {
  const file = join(folder, name);
  const text = readFileSync(file, 'utf8');
  expect(text).toMatch(from);
  writeFileSync(file, text.replace(from, to));
}

type Sbom = { metadata: { component: { version: string } }; components: Writable<Component>[] };
type Writable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer I)[] ? Writable<I>[] : T[K] };

function editSbom(folder: string, change: (sbom: Sbom) => void): void {
  const file = join(folder, 'sbom.cdx.json');
  const sbom = JSON.parse(readFileSync(file, 'utf8')) as Sbom;
  change(sbom);
  writeFileSync(file, JSON.stringify(sbom));
}
