import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { p256PublicKey } from '../protocol/site-evidence.ts';
import { readSigningRequest, signingRequest } from './signing-request.ts';

const key = new Uint8Array(32).fill(7);
const openssl = (input: Uint8Array, ...args: string[]) =>
  execFileSync('openssl', args, { input, stdio: 'pipe' }).toString();

test('is a request that openssl verifies, for our key and these names', () => {
  const names = ['site.example', `${'a.'.repeat(100)}example`];
  const request = signingRequest(key, names);
  const shown = openssl(request, 'req', '-inform', 'DER', '-verify', '-noout', '-text', '-pubkey');
  expect(shown).toContain(`DNS:${names[0]}, DNS:${names[1]}`);
  const base64 = /BEGIN PUBLIC KEY-----\n([^-]+)/.exec(shown)![1]!;
  expect(new Uint8Array(Buffer.from(base64, 'base64'))).toEqual(p256PublicKey(key));
  const broken = request.slice();
  broken[60]! ^= 1;
  expect(() => openssl(broken, 'req', '-inform', 'DER', '-verify', '-noout')).toThrow();
});

test('is the same on every node, and another one for other names or another key', () => {
  const requests = [
    signingRequest(key, ['a.example']),
    signingRequest(key, ['a.example']),
    signingRequest(key, ['b.example']),
    signingRequest(new Uint8Array(32).fill(8), ['a.example']),
  ].map((bytes) => Buffer.from(bytes).toString('hex'));
  expect(new Set(requests).size).toBe(3);
  expect(requests[0]).toBe(requests[1]);
});

test('key and names can be read from it, and from nothing else', () => {
  const names = ['a.example', 'b.example'];
  const request = signingRequest(key, names);
  expect(readSigningRequest(request)).toEqual({ publicKey: p256PublicKey(key), names });
  // openssl's own has a subject, and no names.
  const other = execFileSync(
    'openssl',
    'req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=a -outform DER'.split(
      ' ',
    ),
    { stdio: 'pipe' },
  );
  for (const bytes of [new Uint8Array(), request.slice(0, -1), other, Buffer.from('-----BEGIN')])
    expect(() => readSigningRequest(new Uint8Array(bytes))).toThrow(
      expect.objectContaining({ code: 'CSR_MALFORMED' }),
    );
});
