/** Envelopes of secrets as files: those that `app pack` puts into a manifest, and what lies in a host's volume. */
import { readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Envelope, parseEnvelope, requirePlace } from '../../lib/protocol/app-secrets.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  type AppSecret,
  type Manifest,
  manifestHash,
  parseManifest,
  plansOf,
  secretsOf,
  signerPartOf,
} from '../../lib/protocol/manifest.ts';
import { secretsOfSigner } from '../../lib/protocol/signer-part.ts';
import { readGiven } from '../owner/connection.ts';

/** A secret, and the file that holds its envelope. */
export interface PackedSecret extends AppSecret {
  readonly bytes: Uint8Array;
}

/**
 * The secrets of an app, in the order of their names.
 * @param files by name
 * @throws FILE, SECRET_MALFORMED, SECRET_HASH_MISMATCH, and SECRET_WRONG_… for one of another app or name, or of another network than the others
 */
export function secretsFrom(app: string, files: ReadonlyMap<string, string>): readonly PackedSecret[] {
  let first: Envelope | undefined;
  return [...files].sort().map(([name, file]) => {
    const bytes = readGiven(`the envelope of the secret ${name}`, file);
    const envelope = parseEnvelope(bytes);
    first ??= envelope;
    requirePlace(envelope, { chainId: first.chainId, contract: first.contract, app, name });
    const hash = toHex(sha256(bytes));
    requireNamed(file, hash);
    return { name, envelope: hash, bytes };
  });
}

/** Where the owner's command wrote it, a host may have put one of its own since. @throws SECRET_HASH_MISMATCH */
function requireNamed(file: string, hash: Hex): void {
  const named = /^([0-9a-f]{64})\.json$/.exec(basename(file))?.[1];
  if (named === undefined || named === hash) return;
  throw new DstackError(
    'SECRET_HASH_MISMATCH',
    `${file} hashes to ${hash}: it is not the envelope that was written there; set the secret again`,
  );
}

/** A secret as a host's volume has it. */
export interface KnownSecret {
  readonly name: string;
  readonly envelopes: readonly {
    readonly envelope: Hex;
    /** Whether its file is there: no node can open what is not. */
    readonly isThere: boolean;
    readonly manifests: readonly { readonly manifest: string; readonly users: readonly string[] }[];
  }[];
}

/** What is known of an app's secrets in a host's volume, by their names. @throws FILE */
export function secretsIn(app: string, volume: string): readonly KnownSecret[] {
  // One that is not there would look like one without secrets.
  if (!statSync(volume, { throwIfNoEntry: false })?.isDirectory())
    throw new DstackError('FILE', `there is no folder ${volume} (--volume)`);
  const manifests = manifestsIn(volume, app);
  const envelopes = envelopesIn(volume, app);
  const named = manifests.flatMap(({ hash, manifest }) =>
    secretsOf(manifest).map((secret) => ({ ...secret, hash, users: usersOf(manifest, secret) })),
  );
  const names = [...new Set([...envelopes.map(({ name }) => name), ...named.map(({ name }) => name)])].sort();
  return names.map((name) => {
    const hashes = new Set(
      [...envelopes, ...named].filter((one) => one.name === name).map(({ envelope }) => envelope),
    );
    return {
      name,
      envelopes: [...hashes].sort().map((envelope) => ({
        envelope,
        isThere: envelopes.some((one) => one.envelope === envelope),
        manifests: named
          .filter((one) => one.name === name && one.envelope === envelope)
          .map(({ hash, users }) => ({ manifest: `0x${hash}`, users })),
      })),
    };
  });
}

/** For people: the name, its envelopes below it, and what uses each. */
export const secretLines = (secrets: readonly KnownSecret[]): readonly string[] =>
  secrets.flatMap(({ name, envelopes }) => [
    name,
    ...envelopes.flatMap(({ envelope, isThere, manifests }) => [
      `  ${envelope}${isThere ? '' : ': MISSING, no node can open it'}`,
      ...(manifests.length === 0
        ? ['    no manifest here names it']
        : manifests.map(({ manifest, users }) => `    manifest ${manifest} gives it to ${users.join(', ')}`)),
    ]),
  ]);

const usersOf = (manifest: Manifest, { name }: AppSecret): string[] => [
  ...plansOf(manifest)
    .filter(({ secrets }) => secrets.some((secret) => secret.name === name))
    .map((plan) => plan.name),
  ...(secretsOfSigner(signerPartOf(manifest)).includes(name) ? ['its signer'] : []),
];

function manifestsIn(volume: string, app: string): { hash: Hex; manifest: Manifest }[] {
  return filesIn(volume, 'manifests').flatMap((bytes) => {
    const manifest = orNothing(() => parseManifest(bytes));
    return manifest?.app === app ? [{ hash: toHex(manifestHash(bytes)), manifest }] : [];
  });
}

function envelopesIn(volume: string, app: string): AppSecret[] {
  return filesIn(volume, 'secrets').flatMap((bytes) => {
    const envelope = orNothing(() => parseEnvelope(bytes));
    return envelope?.app === app ? [{ name: envelope.name, envelope: toHex(sha256(bytes)) }] : [];
  });
}

/** What a folder of the volume has under the names that nodes look for. */
function filesIn(volume: string, kind: 'manifests' | 'secrets'): Buffer[] {
  const folder = join(volume, kind);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw cause;
  }
  return names
    .filter((name) => /^[0-9a-f]{64}\.json$/.test(name))
    .sort()
    .map((name) => readGiven(`one of ${kind}`, join(folder, name)));
}

/** A file that is no such thing, or of a later release, is none of what is listed. */
function orNothing<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof DstackError && /^(MANIFEST|SECRET)_/.test(codeOf(error))) return undefined;
    throw error;
  }
}
