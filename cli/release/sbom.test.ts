/**
 * The bill of materials of this very tree against CycloneDX 1.6 (ECMA-424), as its official JSON schema has it (bom-1.6.schema.json): the
 * definitions of what we write, with nothing else let in. What they leave to prose is checked below.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Type } from 'typebox';
import { describe, expect, test } from 'vitest';
import { parseLock } from '../../guest/image/packages.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { parseJson, Strict } from '../../lib/protocol/schema.ts';
import { sbomOf } from './sbom.ts';

const root = join(import.meta.dirname, '../..');
const read = (...names: string[]) => readFileSync(join(root, ...names), 'utf8');

/** #/definitions/hash: the length of the content is that of its algorithm, in either case; we write lower. */
const Hash = Type.Union([
  Strict({ alg: Type.Literal('SHA-256'), content: Type.String({ pattern: '^[0-9a-f]{64}$' }) }),
  Strict({ alg: Type.Literal('SHA-512'), content: Type.String({ pattern: '^[0-9a-f]{128}$' }) }),
]);
/** #/definitions/licenseChoice: ids of SPDX's list, or one expression and nothing beside it. An id that is new here has to be on that list. */
const Licenses = Type.Union([
  Type.Array(
    Strict({
      license: Strict({ id: Type.Enum(['0BSD', 'Apache-2.0', 'BSD-3-Clause', 'ISC', 'MIT', 'Unlicense']) }),
    }),
    { minItems: 1 },
  ),
  Type.Array(Strict({ expression: Type.String({ pattern: '^[A-Za-z0-9.+() -]+$' }) }), {
    minItems: 1,
    maxItems: 1,
  }),
]);
/** #/definitions/refType, and what BOM-Link keeps for itself: no reference begins with `urn:cdx:`. */
const Ref = Type.String({ minLength: 1, pattern: '^(?!urn:cdx:)' });
/** #/definitions/component: type and name are required. A purl is of the form of purl-spec. */
const Component = Strict({
  type: Type.Enum(['library', 'file', 'operating-system']),
  'bom-ref': Ref,
  name: Type.String({ minLength: 1 }),
  version: Type.Optional(Type.String({ minLength: 1, maxLength: 1024 })),
  group: Type.Optional(Type.String({ pattern: '^@[^/]+$' })),
  purl: Type.Optional(
    Type.String({
      pattern:
        '^pkg:(npm|deb/debian)/([A-Za-z0-9._~%-]+/)?[A-Za-z0-9._~%-]+@[A-Za-z0-9._~%-]+(\\?arch=[a-z0-9]+)?$',
    }),
  ),
  hashes: Type.Optional(Type.Array(Hash, { minItems: 1 })),
  licenses: Type.Optional(Licenses),
  properties: Type.Optional(Type.Array(Strict({ name: Type.String(), value: Type.String() }))),
});
/** The document: bomFormat and specVersion are required, a serial number is a UUID of RFC 9562, a version counts from 1. */
const Bom = Strict({
  bomFormat: Type.Literal('CycloneDX'),
  specVersion: Type.Literal('1.6'),
  serialNumber: Type.String({
    pattern: '^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  }),
  version: Type.Integer({ minimum: 1 }),
  metadata: Strict({
    timestamp: Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' }),
    component: Component,
  }),
  components: Type.Array(Component, { uniqueItems: true }),
});
const bomIn = (text: string) => parseJson(Bom, text, 'SBOM', 'the bill of materials', 16 * 1024 * 1024);

const image = {
  ...{ version: 1, flavour: 'production', builtAt: 1_800_000_000 },
  files: { 'root.img': { sha256: 'ab'.repeat(32), size: 1 }, vmlinuz: { sha256: 'cd'.repeat(32), size: 1 } },
} as unknown as ImageManifest;
const text = sbomOf({
  ...{ version: '0.1.0', image },
  packages: parseLock(read('guest/image/packages.lock')),
  npmLock: read('package-lock.json'),
});

describe('the bill of materials of this tree', () => {
  test('is of the form of CycloneDX 1.6, and holds nothing that this has no word for', () => {
    expect(bomIn(text).components.length).toBeGreaterThan(300);
  });

  test('names each thing once, and says of each what it is by a hash', () => {
    const { components, metadata } = bomIn(text);
    const refs = [metadata.component, ...components].map((one) => one['bom-ref']);
    expect(new Set(refs).size).toBe(refs.length);
    for (const { name, hashes, purl, type } of components) {
      expect(hashes, name).toHaveLength(1);
      expect(purl === undefined, name).toBe(type === 'file');
    }
  });

  test.each([
    ['a hash that is cut', (bom: string) => bom.replace(/"content": "[0-9a-f]{2}/, '"content": "')],
    ['a licence that SPDX does not know', (bom: string) => bom.replace('"id": "MIT"', '"id": "MIT-like"')],
    ['another kind of component', (bom: string) => bom.replace('"library"', '"lib"')],
    ['a serial number that is none', (bom: string) => bom.replace('urn:uuid:', 'uuid:')],
    ['a field of no version', (bom: string) => bom.replace('"purl"', '"packageUrl"')],
  ])('%s would be noticed', (_, spoil) => {
    expect(spoil(text)).not.toBe(text);
    expect(() => bomIn(spoil(text))).toThrow(/malformed/);
  });
});
