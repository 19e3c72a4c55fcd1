/** What `network config` writes of the store, and what it does not take. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { TestAuthority } from '../../test/support/authority.ts';
import { readArguments } from '../command.ts';
import { networkCommands } from './network.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-network-config-'));
const out = join(folder, 'network.json');
const command = networkCommands.find(({ name }) => name === 'network config')!;
beforeAll(() => {
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
});
beforeEach(() => rmSync(out, { force: true }));
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

/** @returns the store that it wrote */
async function written(...options: string[]): Promise<unknown> {
  const network = ['--contract', `0x${'c0'.repeat(20)}`, '--chain-id', '1', '--endpoint', 'https://a.test'];
  await command.run(readArguments(command, [...network, '--out', out, ...options]));
  return JSON.parse(readFileSync(out, 'utf8')).store;
}
const quota = ['--store-quota', '64'];

test('the app that maintains the store', async () => {
  expect(await written(...quota, '--store-owner', 'admin')).toEqual({ quotaMiB: 64, owner: 'admin' });
  await expect(written(...quota, '--store-owner', 'No App')).rejects.toThrow('/store/owner');
});

test('whose part of it clients outside may use', async () => {
  const file = join(folder, 'clients.json');
  const clients = { orders: { names: ['orders.example'], authorities: [new TestAuthority('CA').pem] } };
  writeFileSync(file, JSON.stringify(clients));
  expect(await written(...quota, '--store-clients', file)).toEqual({ quotaMiB: 64, clients });
  writeFileSync(file, JSON.stringify({ orders: { ...clients.orders, names: [] } }));
  await expect(written(...quota, '--store-clients', file)).rejects.toThrow('/store/clients/orders/names');
  writeFileSync(file, 'orders');
  await expect(written(...quota, '--store-clients', file)).rejects.toMatchObject({ code: 'STORE_CLIENTS' });
});

test('what everyone may read there', async () => {
  const shown = ['orders=prices/', 'orders=a=b', 'news'].flatMap((given) => ['--store-public', given]);
  expect(await written(...quota, ...shown)).toEqual({
    quotaMiB: 64,
    public: { orders: ['prices/', 'a=b'], news: [''] },
  });
  expect(await written(...quota)).toEqual({ quotaMiB: 64 });
});

test.each([
  ['no prefix after the =', 'orders=', 'USAGE', 'has no prefix'],
  ['what is no app', 'No App=x', 'NETWORK_CONFIG', '/store/public'],
  ['nor what every object has', '__proto__=x', 'NETWORK_CONFIG', '/store/public'],
  ['a prefix of other characters', 'orders=a b', 'NETWORK_CONFIG', 'visible ASCII characters'],
])('%s', async (_, given, code, message) => {
  const refused = written(...quota, '--store-public', given);
  await expect(refused).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  expect(() => readFileSync(out)).toThrow();
});

test.each([
  ['--store-owner', 'admin'],
  ['--store-share', '4'],
  ['--store-public', 'orders'],
  ['--store-clients', 'clients.json'],
])('%s of a store that is not there', async (...option) => {
  const refused = written(...option);
  await expect(refused).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('--store-quota'),
  });
});
