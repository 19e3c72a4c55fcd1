/** The certificates of a store on a laptop. */
import { X509Certificate } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { devCertificates, namesOf, serviceTls } from './certificates.ts';

const root = mkdtempSync(join(tmpdir(), 'dstack-certs-'));
afterAll(() => rmSync(root, { recursive: true }));
const refusal = (code: string) => expect.objectContaining({ code });
const folder = (name: string): string => join(root, name);

test('the service’s is for every name that it is reached by, addresses of both kinds among them', () => {
  const names = ['localhost', '127.0.0.1', '::1', '2001:db8::ff00:42:8329', '::ffff:192.0.2.128'];
  const made = devCertificates(folder('names'), names);
  const found = new X509Certificate(readFileSync(made.service.certificate));
  expect(found.checkHost('localhost')).toBe('localhost');
  for (const address of names.slice(1)) expect(found.checkIP(address)).toBe(address);
  expect(found.checkIP('2001:db8::1')).toBeUndefined();
  // It is kept while it does.
  devCertificates(folder('names'), names.slice(0, 3));
  expect(readFileSync(made.service.certificate, 'utf8')).toBe(found.toString());
  devCertificates(folder('names'), ['localhost', '::2']);
  expect(readFileSync(made.service.certificate, 'utf8')).not.toBe(found.toString());
});

test('a store that listens everywhere has one for each address of the machine', () => {
  expect(namesOf('0.0.0.0')).toContain('127.0.0.1');
  expect(namesOf('0.0.0.0')).not.toContain('0.0.0.0');
  expect(namesOf('store.example')).toEqual(['localhost', '127.0.0.1', 'store.example']);
});

test('what somebody changed is named, and not made anew', () => {
  const made = devCertificates(folder('changed'), ['localhost']);
  const other = devCertificates(folder('other'), ['localhost']);
  const again = () => devCertificates(folder('changed'), ['localhost']);
  const key = made.authority.replace('_cert', '_privk');
  const [certificate, kept] = [readFileSync(made.authority), readFileSync(key)];
  copyFileSync(other.authority, made.authority);
  expect(again).toThrowError(refusal('KV_CERTIFICATE'));
  writeFileSync(made.authority, certificate);
  truncateSync(key, 100);
  expect(again).toThrowError(refusal('KV_CERTIFICATE'));
  writeFileSync(key, kept);
  expect(again().authority).toBe(made.authority);
  writeFileSync(made.user.certificate, '');
  expect(again).toThrowError(refusal('KV_CERTIFICATE'));
});

test('a certificate that is brought has to be one, with its key', () => {
  const made = devCertificates(folder('brought'), ['localhost']);
  const { authority, service, user } = made;
  expect(serviceTls(service, authority).requestCert).toBe(true);
  const swapped = { certificate: service.key, key: service.certificate };
  const mixed = { certificate: service.certificate, key: user.key };
  for (const pair of [swapped, mixed])
    expect(() => serviceTls(pair, authority)).toThrowError(refusal('KV_CERTIFICATE'));
  for (const path of [folder('brought'), '/dev/zero'])
    expect(() => serviceTls({ ...service, certificate: path }, authority)).toThrowError(refusal('FILE_KIND'));
});
