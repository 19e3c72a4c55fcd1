/**
 * What a release is made of, as CycloneDX 1.6 has it (ECMA-424): npm packages from package-lock.json, Debian's from the image's
 * own packages.lock. The same for the same inputs, byte for byte.
 */
import { type Static, Type } from 'typebox';
import type { LockedPackage } from '../../guest/image/packages.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { parseJson } from '../../lib/protocol/schema.ts';

const NpmPackage = Type.Object({
  version: Type.Optional(Type.String()),
  integrity: Type.Optional(Type.String()),
  license: Type.Optional(Type.String()),
  dev: Type.Optional(Type.Boolean()),
  devOptional: Type.Optional(Type.Boolean()),
  name: Type.Optional(Type.String()),
});
/** Of npm's lock, version 3, what is used. */
const NpmLock = Type.Object({
  lockfileVersion: Type.Literal(3),
  packages: Type.Record(Type.String(), NpmPackage),
});
const NPM_LOCK_MAX_BYTES = 16 * 1024 * 1024;

export interface Component {
  readonly type: 'library' | 'file';
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version?: string;
  readonly group?: string;
  readonly purl?: string;
  readonly hashes: readonly { readonly alg: 'SHA-256' | 'SHA-512'; readonly content: string }[];
  readonly licenses?: readonly (
    | { readonly license: { readonly id: string } }
    | { readonly expression: string }
  )[];
  readonly properties?: readonly { readonly name: string; readonly value: string }[];
}

export interface SbomInput {
  /** Of this repository. */
  readonly version: string;
  readonly image: ImageManifest;
  /** The image's. */
  readonly packages: readonly LockedPackage[];
  /** The text of package-lock.json. */
  readonly npmLock: string;
}

/** The document, as JSON text. @throws SBOM_INPUT for a package-lock.json that is none */
export function sbomOf({ version, image, packages, npmLock }: SbomInput): string {
  const components = [...imageFiles(image), ...packages.map(debianComponent), ...npmComponents(npmLock)];
  const content = JSON.stringify(components);
  return `${JSON.stringify(
    {
      bomFormat: 'CycloneDX',
      specVersion: '1.6',
      serialNumber: uuidOf(content),
      version: 1,
      metadata: {
        timestamp: new Date(image.builtAt * 1000).toISOString(),
        component: { type: 'operating-system', 'bom-ref': 'image', name: `dstack-${image.flavour}`, version },
      },
      components,
    },
    null,
    1,
  )}\n`;
}

const imageFiles = ({ files }: ImageManifest): Component[] =>
  Object.entries(files).map(([name, { sha256: content }]) => ({
    type: 'file',
    'bom-ref': name,
    name,
    hashes: [{ alg: 'SHA-256', content }],
  }));

/** Package URLs: type `deb` (purl-spec). The version's ":" and "+" are encoded. */
function debianComponent({ root, name, version, sha256: content, path, archive }: LockedPackage): Component {
  const architecture = /_([a-z0-9]+)\.deb$/.exec(path)?.[1] ?? 'amd64';
  return {
    type: 'library',
    'bom-ref': `deb:${root}/${name}`,
    name,
    version,
    purl: `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}`,
    hashes: [{ alg: 'SHA-256', content }],
    properties: [
      { name: 'dstack:root', value: root },
      { name: 'dstack:file', value: `${archive}/${path}` },
    ],
  };
}

/** What is installed for who runs this repository: development tools are not part of a release. */
function npmComponents(text: string): Component[] {
  const { packages } = parseJson(NpmLock, text, 'SBOM_INPUT', 'package-lock.json', NPM_LOCK_MAX_BYTES);
  return Object.entries(packages)
    .filter(([path, { dev, devOptional }]) => path !== '' && dev !== true && devOptional !== true)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, found]) => npmComponent(path, found));
}

function npmComponent(
  path: string,
  { version, integrity, license, name }: Static<typeof NpmPackage>,
): Component {
  const full = name ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const [, group, short] = /^(?:(@[^/]+)\/)?(.+)$/.exec(full) as unknown as [
    string,
    string | undefined,
    string,
  ];
  const hash = /^sha512-([A-Za-z0-9+/]{86}==)$/.exec(integrity ?? '')?.[1];
  if (version === undefined || hash === undefined)
    throw new DstackError('SBOM_INPUT', `package-lock.json has no version or SHA-512 of ${path}`);
  const scope = group === undefined ? '' : `${encodeURIComponent(group)}/`;
  return {
    type: 'library',
    'bom-ref': `npm:${path}`,
    ...(group === undefined ? {} : { group }),
    name: short,
    version,
    purl: `pkg:npm/${scope}${short}@${encodeURIComponent(version)}`,
    hashes: [{ alg: 'SHA-512', content: Buffer.from(hash, 'base64').toString('hex') }],
    ...(license === undefined ? {} : { licenses: [licenseOf(license)] }),
  };
}

/** One of SPDX's ids, or an expression of them. */
const licenseOf = (license: string) =>
  /^[A-Za-z0-9.+-]+$/.test(license) ? { license: { id: license } } : { expression: license };

/** A UUID of version 8 (RFC 9562, section 5.8) that follows from the content. */
function uuidOf(content: string): string {
  const bytes = sha256(utf8(content)).slice(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = toHex(bytes);
  return `urn:uuid:${[hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')}`;
}
