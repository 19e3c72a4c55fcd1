/**
 * The scanner finds what is there: a key planted in every common encoding, written by code other than the scanner's own. Only
 * because of this does it mean anything when a search finds nothing.
 */
import { execFileSync } from 'node:child_process';
import { createECDH, createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { patternsOf } from './encodings.ts';
import { Search } from './search.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-search-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const key = Buffer.from('e1d0c9b8a7968574f3e2d1c0bfae9d8c80f4ec9ad6b5c48392f1e8d7c6fbea03', 'hex');
const other = Buffer.alloc(32, 7);
const hex = key.toString('hex');
const pairs = hex.match(/../g)!;
const reversed = Buffer.from(key).reverse();
const after = (length: number) =>
  Buffer.concat([Buffer.from('prefix').subarray(0, length), key, Buffer.from('tail')]);

function p256(scalar: Buffer): KeyObject {
  const curve = createECDH('prime256v1');
  curve.setPrivateKey(scalar);
  const point = curve.getPublicKey();
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString('base64url'));
  return createPrivateKey({
    key: { kty: 'EC', crv: 'P-256', d: scalar.toString('base64url'), x: x!, y: y! },
    format: 'jwk',
  });
}

const planted: Record<string, string | Buffer> = {
  raw: key,
  'raw, reversed': reversed,
  'raw, words swapped': Buffer.from(key).swap32(),
  'first half only': key.subarray(0, 16),
  'second half only': key.subarray(16),
  hex,
  HEX: hex.toUpperCase(),
  '0xhex': `0x${hex}`,
  'hex, reversed': reversed.toString('hex'),
  'hex with colons': pairs.join(':'),
  'hex with spaces': pairs.join(' ').toUpperCase(),
  'hex with dashes': pairs.join('-'),
  'a C array': `{0x${pairs.join(', 0x')}}`,
  'a C string': `"\\x${pairs.join('\\x')}"`,
  'inspect(Buffer)': inspect(key),
  'JSON of a Buffer': JSON.stringify(key),
  'JSON of a Uint8Array': JSON.stringify(new Uint8Array(key)),
  'JSON with indentation': JSON.stringify([...key], null, 2).replace(/\n */g, '\n'),
  'a Python list': `[${[...key].join(', ')}]`,
  'URL-encoded': `%${pairs.join('%')}`,
  'UTF-16': Buffer.from(hex, 'utf16le'),
  'base64 after 0': after(0).toString('base64'),
  'base64 after 1': after(1).toString('base64'),
  'base64 after 2': after(2).toString('base64'),
  'base64 after 5': after(5).toString('base64'),
  base64url: key.toString('base64url'),
  'base64 of the reversed': reversed.toString('base64'),
  decimal: BigInt(`0x${hex}`).toString(),
  'decimal, little-endian': BigInt(`0x${reversed.toString('hex')}`).toString(),
  'PEM, PKCS #8': p256(key).export({ type: 'pkcs8', format: 'pem' }),
  'PEM, SEC1': p256(key).export({ type: 'sec1', format: 'pem' }),
  'DER, PKCS #8': p256(key).export({ type: 'pkcs8', format: 'der' }),
  'DER, SEC1': p256(key).export({ type: 'sec1', format: 'der' }),
  JWK: JSON.stringify(p256(key).export({ format: 'jwk' })),
};

const search = () => new Search(patternsOf([{ name: 'the key', bytes: key }]));

describe('a planted key', () => {
  test.each(Object.entries(planted))('is found: %s', async (form, text) => {
    const file = join(scratch, 'planted');
    // Somewhere in the middle of something else.
    writeFileSync(
      file,
      Buffer.concat([Buffer.alloc(5000, 0x61), Buffer.from(text as string), Buffer.alloc(5000, 0x62)]),
    );
    const found = search();
    await found.file(file);
    expect(found.findings.hits.join('\n'), form).toContain('the key as');
  });

  test('is found in what xxd, od and base64 print', () => {
    for (const command of [['xxd', '-p'], ['od', '-An', '-tx1', '-w16'], ['base64'], ['base32']]) {
      let text: Buffer;
      try {
        text = execFileSync(command[0]!, command.slice(1), { input: key });
      } catch (error) {
        // xxd is part of vim.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT' && command[0] === 'xxd') continue;
        throw error;
      }
      const found = search();
      found.bytes(command[0]!, text);
      expect(found.findings.hits.length, command.join(' ')).toBeGreaterThan(0);
    }
  });

  test('is found across the end of a chunk, and at the very end of a file', async () => {
    const file = join(scratch, 'large');
    for (const at of [8 * 1024 * 1024 - 20, 8 * 1024 * 1024 + 4096 - 7, 20 * 1024 * 1024 - 64]) {
      // A number is not looked for by halves.
      for (const text of [hex, BigInt(`0x${hex}`).toString()]) {
        const bytes = Buffer.alloc(20 * 1024 * 1024);
        bytes.write(text, bytes.length - at < 100 ? bytes.length - text.length : at);
        writeFileSync(file, bytes);
        const found = search();
        await found.file(file);
        expect(found.findings.hits.length, `at ${at}`).toBeGreaterThan(0);
      }
    }
  });
});

describe('a private key that nobody knows', () => {
  const unknown = p256(other);
  const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
  const forms: Record<string, string | Buffer> = {
    'PEM, PKCS #8': unknown.export({ type: 'pkcs8', format: 'pem' }),
    'PEM, SEC1': unknown.export({ type: 'sec1', format: 'pem' }),
    'PEM in JSON': JSON.stringify({ key: unknown.export({ type: 'pkcs8', format: 'pem' }) }),
    'DER, PKCS #8': unknown.export({ type: 'pkcs8', format: 'der' }),
    'DER, SEC1': unknown.export({ type: 'sec1', format: 'der' }),
    'base64 of DER': unknown.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
    'hex of DER': unknown.export({ type: 'sec1', format: 'der' }).toString('hex'),
    JWK: JSON.stringify(unknown.export({ format: 'jwk' })),
    'RSA in PEM': rsa.export({ type: 'pkcs1', format: 'pem' }),
    'RSA in DER': rsa.export({ type: 'pkcs1', format: 'der' }),
    'encrypted PEM': unknown.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }),
  };
  test.each(Object.entries(forms))('is found: %s', (form, text) => {
    const found = search();
    found.bytes(
      'planted',
      Buffer.concat([Buffer.alloc(100, 0x30), Buffer.from(text as string), Buffer.alloc(100)]),
    );
    expect(found.findings.hits.length, form).toBeGreaterThan(0);
  });
});

test('what only looks like a key is none', () => {
  const found = search();
  found.bytes(
    'a public key',
    Buffer.from('-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n'),
  );
  found.bytes(
    'a public JWK',
    Buffer.from('{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}'),
  );
  found.bytes('words', Buffer.from('it holds no PRIVATE KEY-----, only says so; "kty" too'));
  found.bytes(
    'other bytes',
    Buffer.concat([other, Buffer.from('0201003002010104200000', 'hex'), Buffer.alloc(1000, 0xff)]),
  );
  expect(found.findings.hits).toEqual([]);
});
