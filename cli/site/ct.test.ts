/** Which certificates of a log are a name's: what browsers may take for it, in whatever spelling. */
import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { certificate, newKey } from '../../test/support/authority.ts';
import { readCt } from './ct.ts';

const DOMAIN = 'www.example.com';

async function heldBy(...names: string[]): Promise<boolean> {
  const pem = certificate({ key: newKey(), names });
  const entry = {
    id: 1,
    serial_number: new X509Certificate(pem).serialNumber,
    issuer_name: 'CN=Root',
    not_before: '2026-01-01T00:00:00',
    not_after: '2026-02-01T00:00:00',
    pem,
  };
  const { logged } = await readCt({ text: JSON.stringify([entry]) }, DOMAIN);
  for (const { problem } of logged) expect(problem).toBeUndefined();
  return logged.length === 1;
}

test.each([
  [DOMAIN],
  ['WWW.Example.COM'],
  ['other.example', DOMAIN],
  ['*.example.com'],
  ['www.example.com.'],
  ['*.example.com.'],
])('one for %s is', async (...names) => {
  expect(await heldBy(...names)).toBe(true);
});

test.each([['example.com'], ['x.www.example.com'], ['*.com'], ['*'], ['w*.example.com'], ['*.*.com']])(
  'one for %s is not: no browser takes it',
  async (...names) => {
    expect(await heldBy(...names)).toBe(false);
  },
);
