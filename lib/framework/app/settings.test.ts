/** Settings that would lead to an enclave or a host that does not work, or is not safe, are refused when they are read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { codeOf } from '../../protocol/errors.ts';
import { enclaveSettings, hostSettings } from './settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-settings-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with a key, after this. */
function keyFile(before: string): string {
  const file = join(folder, `${before}key`);
  writeFileSync(file, `${before}${'ab'.repeat(32)}\n`);
  return file;
}

const ENV = {
  CHAIN_ID: '1',
  APP_CONTRACT: `0x${'11'.repeat(20)}`,
  RPC_URLS: 'https://a.example, https://b.example/key',
  ENCLAVE_DATA: '/data',
  RPC_URL: 'http://127.0.0.1:8545',
  ENCLAVE_URL: 'http://127.0.0.1:8080',
  HOST_DATA: '/data',
  GAS_KEY_FILE: keyFile('0x'),
};
const code = (read: () => unknown): string => {
  try {
    read();
    return 'read';
  } catch (error) {
    return codeOf(error);
  }
};

test('what is given is read, the rest has its defaults', () => {
  const { chain, port, host } = enclaveSettings({ ...ENV, ENCLAVE_HOST: '' });
  const endpoints = ['https://a.example', 'https://b.example/key'];
  expect(chain).toEqual({ chainId: 1, endpoints, quorum: 2, confirmation: { depth: 0 } });
  expect(enclaveSettings({ ...ENV, RPC_URLS: '' }).chain, 'its node reads the chain').toBeUndefined();
  expect([port, host]).toEqual([8080, '0.0.0.0']);
  expect(hostSettings({ ...ENV, POLL_MS: '0' }).pollInterval).toBeGreaterThan(0);
});

test('a key is hex with 0x or without', () => {
  for (const before of ['', '0x'])
    expect(hostSettings({ ...ENV, GAS_KEY_FILE: keyFile(before) }).privateKey).toBe(`0x${'ab'.repeat(32)}`);
});

test.each([
  [
    'RPC_URLS',
    ['https://a.example,https://a.example', 'https://a.example,https://A.example/', 'https://a.example,,'],
  ],
  ['RPC_URLS', ['a.example', 'ftp://a.example']],
  ['RPC_QUORUM', ['0', '3', '1.5', '-1']],
  ['RPC_DEPTH', ['201', '1e3']],
  ['ENCLAVE_PORT', ['65536', 'http', '0']],
  ['VISITORS_PORT', ['65536', 'http', '0', '8080']],
])('the enclave does not start with %s as %j', (name, values) => {
  for (const value of values)
    expect(
      code(() => enclaveSettings({ ...ENV, [name]: value })),
      value,
    ).toBe('SETTINGS');
});

test.each([
  ['RPC_URL', ['localhost:8545', 'file:///x']],
  ['ENCLAVE_URL', ['localhost:8080', 'https://127.0.0.1:8080']],
  ['GAS_KEY_FILE', ['/nonexistent/key', import.meta.filename]],
])('the host does not start with %s as %j', (name, values) => {
  for (const value of values)
    expect(
      code(() => hostSettings({ ...ENV, [name]: value })),
      value,
    ).toBe('SETTINGS');
});
