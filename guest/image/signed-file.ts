/**
 * Files that hold a text and its OpenPGP signature, as Debian's `InRelease` and Node's `SHASUMS256.txt.asc`: read by gpgv, with
 * the keys of one keyring. Source: gnupg's doc/DETAILS for what gpgv prints; RFC 9580, section 9.5, for hashes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';

/** A key that signed, as gpgv names it. */
export interface Signer {
  /** 40 or 64 hex digits, of the primary key. */
  readonly fingerprint: string;
  readonly name: string;
  /** When it signed. */
  readonly signed: Date;
}

/** SHA-256, SHA-384, SHA-512, SHA3-256, SHA3-512. The others are obsolete or too short: MD5 and SHA-1 can be forged. */
const STRONG_HASHES = new Set([8, 9, 10, 12, 14]);
/** What gpgv says instead of GOODSIG: the signature or its key has expired, the key was revoked, or it could not check. */
const SPOILED = /^\[GNUPG:\] (EXPSIG|EXPKEYSIG|REVKEYSIG|BADSIG|ERRSIG) /m;

/**
 * The signed text, without anything that stands around it.
 * @throws DstackError TOOL_MISSING (gpgv), SIGNATURE_INVALID when no signature of a key of `keyring` counts, or one is bad.
 */
export async function readSigned(
  file: string,
  keyring: string,
): Promise<{ text: Buffer; signers: readonly Signer[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'dstack-signed-'));
  try {
    const signed = join(folder, 'signed');
    const said = await gpgv(['--status-fd=1', `--keyring=${keyring}`, `--output=${signed}`, file]);
    const signers = parseSigners(said.status);
    // One good signature of a known key is enough, as for apt: Debian signs with the keys of several releases. A bad one is always refused.
    if (signers.length === 0 || /^\[GNUPG:\] BADSIG /m.test(said.status)) {
      throw new DstackError(
        'SIGNATURE_INVALID',
        `${file} is not signed by a key of ${keyring}: ${said.words}`,
      );
    }
    return { text: await readFile(signed), signers };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Reads gpgv's status lines. VALIDSIG says that a key signed these bytes, even if that key has expired or was
 * revoked; only GOODSIG says that it has not. So a signature needs both, of the same key, as in apt.
 */
export function parseSigners(status: string): Signer[] {
  return status.split(/^\[GNUPG:\] NEWSIG.*$/m).flatMap((said): Signer[] => {
    const good = [...said.matchAll(/^\[GNUPG:\] GOODSIG ([0-9A-F]{16,64}) (.*)$/gm)];
    const valid = [
      ...said.matchAll(
        /^\[GNUPG:\] VALIDSIG ([0-9A-F]{40,64}) \S+ (\d+) \S+ \S+ \S+ \S+ (\d+) \S+ ([0-9A-F]{40,64})$/gm,
      ),
    ];
    if (good.length !== 1 || valid.length !== 1 || SPOILED.test(said)) return [];
    const [, id = '', name = ''] = good[0]!;
    const [, key = '', seconds = '', hash = '', fingerprint = ''] = valid[0]!;
    if (!key.endsWith(id) || !STRONG_HASHES.has(Number(hash))) return [];
    return [{ fingerprint, name, signed: new Date(Number(seconds) * 1000) }];
  });
}

/** gpgv exits with an error even if only one of several signatures is by an unknown key. */
function gpgv(args: readonly string[]): Promise<{ status: string; words: string }> {
  return new Promise((resolve, reject) => {
    execFile(
      'gpgv',
      args,
      { maxBuffer: 2 ** 20, env: { ...process.env, LC_ALL: 'C' } },
      (error, out, err) => {
        if (error?.code === 'ENOENT') {
          reject(new DstackError('TOOL_MISSING', 'gpgv is missing: install the package gpgv'));
          return;
        }
        const words = err
          .trim()
          .split('\n')
          .map((line) => line.replace(/^gpgv: +/, ''));
        resolve({ status: out, words: words.join('; ') });
      },
    );
  });
}
