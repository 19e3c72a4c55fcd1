import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from './encoding.ts';
import { codeOf } from './errors.ts';
import {
  appId,
  appName,
  formatManifest,
  MANIFEST_MAX_BYTES,
  type Manifest,
  manifestHash,
  parseManifest,
} from './manifest.ts';

const image = `sha256:${'ab'.repeat(32)}`;
const greeting: Manifest = {
  version: 1,
  app: 'greeting',
  containers: [{ name: 'web', image, env: { B: '2', A: 'ö' }, http: { port: 8080 } }],
};

const refusal = (bytes: Uint8Array | string): string => {
  try {
    parseManifest(typeof bytes === 'string' ? utf8(bytes) : bytes);
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
};

const text = (value: object): string => new TextDecoder().decode(formatManifest(value as Manifest));

describe('manifest', () => {
  test('has one canonical form and hash', () => {
    const bytes = formatManifest(greeting);
    expect(new TextDecoder().decode(bytes)).toBe(
      `{"app":"greeting","containers":[{"env":{"A":"ö","B":"2"},"http":{"port":8080},"image":"${image}","name":"web"}],"version":1}`,
    );
    expect(toHex(manifestHash(bytes))).toBe(
      'a586676a5a014ae95d4a35e36870cec899072ad58811b61dc4e1665104747e82',
    );
    expect(parseManifest(bytes)).toEqual(greeting);
  });

  test('other spellings of the same content are refused', () => {
    const canonical = text(greeting);
    expect(refusal(canonical)).toBe('accepted');
    expect(refusal(`${canonical}\n`)).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(canonical.replace('"version":1', '"version":1.0'))).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(canonical.replace('"version":1', '"version":1,"version":1'))).toBe(
      'MANIFEST_NOT_CANONICAL',
    );
    expect(refusal(canonical.replace('"app":"greeting"', '"app":"other","app":"greeting"'))).toBe(
      'MANIFEST_NOT_CANONICAL',
    );
    expect(refusal(canonical.replace('"B":"2"', '"B":"\\u0032"'))).toBe('MANIFEST_NOT_CANONICAL');
    expect(refusal(`\ufeff${canonical}`)).toBe('MANIFEST_MALFORMED');
    expect(refusal(Uint8Array.of(0xff, ...utf8(canonical)))).toBe('MANIFEST_MALFORMED');
  });

  test.each([
    ['an unknown field', { ...greeting, privileged: true }],
    ['an unknown container field', { ...greeting, containers: [{ name: 'a', image, privileged: true }] }],
    ['a tag instead of a digest', { ...greeting, containers: [{ name: 'a', image: 'nginx:latest' }] }],
    [
      'an upper-case digest',
      { ...greeting, containers: [{ name: 'a', image: `sha256:${'AB'.repeat(32)}` }] },
    ],
    ['no container', { ...greeting, containers: [] }],
    ['another version', { ...greeting, version: 2 }],
    ['a path as app', { ...greeting, app: '../x' }],
    ['an app that ends in a hyphen', { ...greeting, app: 'x-' }],
    ['an app of 32 letters', { ...greeting, app: 'x'.repeat(32) }],
    [
      'a variable with an equals sign',
      { ...greeting, containers: [{ name: 'a', image, env: { 'A=B': '' } }] },
    ],
    ['a NUL in a variable', { ...greeting, containers: [{ name: 'a', image, env: { A: '\0' } }] }],
    ['a port of 0', { ...greeting, containers: [{ name: 'a', image, http: { port: 0 } }] }],
    ['an empty command', { ...greeting, containers: [{ name: 'a', image, command: [] }] }],
    ['nothing', null],
  ])('refuses %s', (_what, value) => {
    expect(refusal(JSON.stringify(value))).toBe('MANIFEST_MALFORMED');
  });

  test('refuses what no container engine could run', () => {
    const twice = {
      ...greeting,
      containers: [
        { image, name: 'a' },
        { image, name: 'a' },
      ],
    };
    expect(refusal(JSON.stringify(twice).replace(/^\{"version":1,(.*)\}$/, '{$1,"version":1}'))).toBe(
      'MANIFEST_CONTAINERS',
    );
    const fronts = ['a', 'b'].map((name) => ({ http: { port: 80 }, image, name }));
    expect(refusal(`{"app":"x","containers":${JSON.stringify(fronts)},"version":1}`)).toBe(
      'MANIFEST_CONTAINERS',
    );
  });

  test('a large one is refused before it is parsed', () => {
    expect(refusal(new Uint8Array(MANIFEST_MAX_BYTES + 1))).toBe('MANIFEST_TOO_LARGE');
  });

  test('arbitrary bytes and JSON never get through, nor throw anything untyped', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => refusal(bytes) === 'MANIFEST_MALFORMED'),
    );
    fc.assert(fc.property(fc.json(), (json) => refusal(json) === 'MANIFEST_MALFORMED'));
  });

  test('any content survives the way to bytes and back', () => {
    const variable = fc
      .stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/)
      .filter((name) => name !== '__proto__');
    const env = fc.dictionary(
      variable,
      fc.string({ unit: 'grapheme' }).filter((s) => !s.includes('\0')),
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(env, (env) => {
        const manifest: Manifest = { version: 1, app: 'a', containers: [{ name: 'a', image, env }] };
        expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
      }),
    );
  });
});

describe('app id', () => {
  test('is the name padded with zeros', () => {
    expect(toHex(appId('greeting'))).toBe(`6772656574696e67${'00'.repeat(24)}`);
    expect(appName(appId('greeting'))).toBe('greeting');
    expect(appName(appId('x'.repeat(31)))).toBe('x'.repeat(31));
  });

  test.each(['', '-a', 'a-', 'A', 'a/b', 'ä', 'x'.repeat(32)])('%j is no name', (name) => {
    expect(() => appId(name)).toThrowError(/app name/);
  });

  test('bytes that are no padded name are refused', () => {
    const id = appId('a');
    id[31] = 1;
    for (const bytes of [id, new Uint8Array(32), new Uint8Array(32).fill(97), appId('a').slice(0, 31)]) {
      expect(() => appName(bytes)).toThrowError(expect.objectContaining({ code: 'APP_NAME' }));
    }
  });
});
