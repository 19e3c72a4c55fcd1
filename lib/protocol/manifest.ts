/**
 * App manifests: which containers an app consists of, each named by the digest of its image.
 *
 * A manifest's bytes are canonical JSON (RFC 8785), so the contract can name one by the SHA-256 of its bytes and no two
 * readings of the same hash exist: bytes that are not exactly their own canonical form are refused, which also refuses
 * duplicate keys, byte-order marks and stray white space. Whether it was rolled out is for the reader of the chain to say.
 */
import canonicalize from 'canonicalize';
import { type Static, Type } from 'typebox';
import { bytesEqual, sha256, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { check, Strict } from './schema.ts';
import { AppName } from './sockets.ts';

/** The largest manifest that is read, in bytes. */
export const MANIFEST_MAX_BYTES = 64 * 1024;

/** No NUL: the kernel would cut an argument or a variable there. */
const Text = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\u0000]*$' });

export const ContainerSchema = Strict({
  /** Unique within the app. */
  name: AppName,
  /** SHA-256 of the image's config blob: the image id that podman and docker show. */
  image: Type.String({ pattern: '^sha256:[0-9a-f]{64}$', maxLength: 71 }),
  env: Type.Optional(
    Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,127}$' }), Text(4096), {
      additionalProperties: false,
      maxProperties: 64,
    }),
  ),
  /** Replaces the image's command (not its entry point). */
  command: Type.Optional(Type.Array(Text(4096), { minItems: 1, maxItems: 64 })),
  /** The container that the network's TLS name leads to; at most one of an app. */
  http: Type.Optional(Strict({ port: Type.Integer({ minimum: 1, maximum: 65535 }) })),
});
export type Container = Static<typeof ContainerSchema>;

export const ManifestSchema = Strict({
  version: Type.Literal(1),
  app: AppName,
  containers: Type.Array(ContainerSchema, { minItems: 1, maxItems: 8 }),
});
export type Manifest = Static<typeof ManifestSchema>;

/**
 * A manifest from the bytes of a file.
 * @throws MANIFEST_TOO_LARGE, MANIFEST_MALFORMED, MANIFEST_NOT_CANONICAL, MANIFEST_CONTAINERS
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MANIFEST_MAX_BYTES) {
    throw new DstackError(
      'MANIFEST_TOO_LARGE',
      `a manifest has at most ${MANIFEST_MAX_BYTES} bytes, this one has ${bytes.length}`,
    );
  }
  const manifest = check(ManifestSchema, parseText(bytes), 'MANIFEST_MALFORMED', 'the manifest');
  if (!bytesEqual(canonicalBytes(manifest), bytes)) {
    throw new DstackError(
      'MANIFEST_NOT_CANONICAL',
      'the manifest is not canonical JSON (RFC 8785); write it with formatManifest',
    );
  }
  assertContainers(manifest);
  return manifest;
}

/** The canonical bytes of a manifest. Same refusals as `parseManifest`. */
export function formatManifest(manifest: Manifest): Uint8Array {
  const bytes = canonicalBytes(manifest);
  parseManifest(bytes);
  return bytes;
}

/** What the contract names a manifest by: SHA-256 of its canonical bytes. */
export function manifestHash(bytes: Uint8Array): Uint8Array {
  return sha256(bytes);
}

/**
 * An app's name as the contract has it: ASCII, padded with zeros on the right to 32 bytes.
 * @throws APP_NAME
 */
export function appId(name: string): Uint8Array {
  check(AppName, name, 'APP_NAME', `the app name ${JSON.stringify(name.slice(0, 64))}`);
  const id = new Uint8Array(32);
  id.set(utf8(name));
  return id;
}

/** The name behind an id. @throws APP_NAME for anything that `appId` does not make */
export function appName(id: Uint8Array): string {
  const end = id.indexOf(0);
  const name = Buffer.from(id.subarray(0, end === -1 ? id.length : end)).toString('latin1');
  if (!bytesEqual(appId(name), id))
    throw new DstackError('APP_NAME', 'not the id of an app: bytes after its end');
  return name;
}

function parseText(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new DstackError('MANIFEST_MALFORMED', 'the manifest is not JSON in UTF-8', { cause });
  }
}

function canonicalBytes(manifest: Manifest): Uint8Array {
  try {
    return utf8(canonicalize(manifest) ?? '');
  } catch (cause) {
    // Lone surrogates have no canonical form.
    throw new DstackError('MANIFEST_MALFORMED', 'the manifest has no canonical form', { cause });
  }
}

function assertContainers(manifest: Manifest): void {
  const names = new Set(manifest.containers.map((container) => container.name));
  if (names.size !== manifest.containers.length) {
    throw new DstackError('MANIFEST_CONTAINERS', 'two containers of the manifest have the same name');
  }
  if (manifest.containers.filter((container) => container.http !== undefined).length > 1) {
    throw new DstackError('MANIFEST_CONTAINERS', 'more than one container of the manifest has an http port');
  }
}
