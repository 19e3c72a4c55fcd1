/**
 * The signature of a release: OpenSSH's, by an Ed25519 key, in the namespace `dstack-release` (ssh-keygen(1), -Y). Made and checked by
 * ssh-keygen, so that keys may be in an agent or on a token, and whoever has OpenSSH can check it without this program.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { SIGNATURE, SUMS, SUMS_MAX_BYTES } from './sums.ts';

const NAMESPACE = 'dstack-release';
/** Whom the allowed key is of; nobody else is ever allowed. */
const SIGNER = 'release@dstack';
const PUBLIC_KEY = /^((?:sk-)?ssh-ed25519(?:@openssh\.com)?) ([A-Za-z0-9+/]{40,200}={0,2})(?: .*)?$/;
const KEY_MAX_BYTES = 16 * 1024;
const SIGNATURE_MAX_BYTES = 16 * 1024;

/** The first line of a public key's file: type and key, without its comment. @throws RELEASE_KEY, and the file system's own errors */
export function readPublicKey(file: string): string {
  const text = readBounded(file, { maxBytes: KEY_MAX_BYTES, pipes: true }).toString();
  const [, type, key] = PUBLIC_KEY.exec(text.split('\n')[0]!.trim()) ?? [];
  if (type === undefined || key === undefined)
    throw new DstackError(
      'RELEASE_KEY',
      `${file} is not a public Ed25519 key of OpenSSH, one line that begins with ssh-ed25519: \`ssh-keygen -t ed25519\` makes one, as FILE.pub`,
    );
  return `${type} ${key}`;
}

/**
 * Signs a folder's sums, and checks the signature by the key that was to make it.
 * @param key the private key's file, or the public one's if an agent has the private key
 * @throws RELEASE_SIGN, RELEASE_KEY, RELEASE_TOOL
 */
export async function signSums(folder: string, key: string): Promise<string> {
  const sums = join(folder, SUMS);
  const publicKey = readPublicKey(existsSync(`${key}.pub`) ? `${key}.pub` : key);
  rmSync(join(folder, SIGNATURE), { force: true });
  // Asks for a passphrase, or for a touch of the token, where people are.
  const { code, said } = await keygen(['-Y', 'sign', '-q', '-f', key, '-n', NAMESPACE, sums]);
  if (code !== 0) throw new DstackError('RELEASE_SIGN', 'ssh-keygen did not sign', { details: said });
  await requireSignature(folder, readBounded(sums, { maxBytes: SUMS_MAX_BYTES }), publicKey);
  return publicKey;
}

/**
 * @param sums what was signed: the caller goes on with these bytes, and not with what the file has by then
 * @param publicKey as `readPublicKey` gives it
 * @throws RELEASE_UNSIGNED, RELEASE_SIGNATURE, RELEASE_TOOL
 */
export async function requireSignature(folder: string, sums: Uint8Array, publicKey: string): Promise<void> {
  const signature = join(folder, SIGNATURE);
  if (!existsSync(signature))
    throw new DstackError('RELEASE_UNSIGNED', `${folder} has no ${SIGNATURE}: nobody signed it`);
  const signed = readBounded(signature, { maxBytes: SIGNATURE_MAX_BYTES });
  const own = mkdtempSync(join(tmpdir(), 'dstack-release-'));
  try {
    const allowed = join(own, 'allowed_signers');
    writeFileSync(allowed, `${SIGNER} namespaces="${NAMESPACE}" ${publicKey}\n`);
    writeFileSync(join(own, 'sig'), signed);
    const names = ['-f', allowed, '-I', SIGNER, '-n', NAMESPACE, '-s', join(own, 'sig')];
    const { code, said } = await keygen(['-Y', 'verify', ...names], sums);
    if (code !== 0)
      throw new DstackError(
        'RELEASE_SIGNATURE',
        `${SUMS} is not signed by that key: it is another's release, or was changed since`,
        { details: said },
      );
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

/** @throws RELEASE_TOOL where there is no ssh-keygen */
async function keygen(
  args: readonly string[],
  input?: Uint8Array,
): Promise<{ code: number | null; said: string[] }> {
  const child = spawn('ssh-keygen', args, {
    stdio: [input === undefined ? 'inherit' : 'pipe', 'pipe', 'pipe'],
  });
  const said: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk) => said.push(String(chunk)));
  // One that ends before it has read everything says why.
  child.stdin?.on('error', () => {});
  child.stdin?.end(input);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return {
      code,
      said: said
        .join('')
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(0, 10),
    };
  } catch (cause) {
    throw new DstackError(
      'RELEASE_TOOL',
      'there is no ssh-keygen here, which makes and checks signatures: install OpenSSH (on Debian: openssh-client)',
      { cause },
    );
  }
}
