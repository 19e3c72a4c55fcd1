import { expect, test } from 'vitest';
import { newKey, TestAuthority } from '../../test/support/authority.ts';
import { parseNetworkConfig, type StoreClients, type StoreConfig } from './network-config.ts';

const authority = new TestAuthority('CA');
const orders: StoreClients = { names: ['orders.example', 'localhost'], authorities: [authority.pem] };

const parsed = (clients: unknown) =>
  parseNetworkConfig(
    Buffer.from(
      JSON.stringify({
        ...{ version: 1, chainId: 1, contract: `0x${'ab'.repeat(20)}`, confirmation: { depth: 1 } },
        ...{ endpoints: ['https://a.example'], quorum: 1, store: { quotaMiB: 64, clients } },
      }),
    ),
    'production',
  ).store?.clients;

test('who may come from outside is said by app: where they ask, who certifies them, whose keys are refused', () => {
  const revokedKeys = ['ab'.repeat(32)];
  const news = { names: ['news.example'], authorities: [new TestAuthority('Other').pem], revokedKeys };
  expect(parsed({ orders, news })).toEqual({ orders, news });
});

const leaf = authority.issue({ key: newKey() });
test.each<[string, Record<string, unknown>, string]>([
  [
    'a name that two apps have',
    { orders, news: { ...orders, names: ['localhost'] } },
    'localhost is a name of orders and of news',
  ],
  [
    'a certificate of no authority',
    { orders: { ...orders, authorities: [authority.pem, leaf] } },
    'number 2 is no certificate of an authority',
  ],
  [
    'what is no certificate',
    { orders: { ...orders, authorities: [authority.pem.replace('MII', 'AII')] } },
    'number 1 is no certificate',
  ],
  [
    'two in one text',
    { orders: { ...orders, authorities: [authority.pem + authority.pem] } },
    '/store/clients/orders/authorities/0',
  ],
  ['nobody who certifies', { orders: { ...orders, authorities: [] } }, '/store/clients/orders/authorities'],
  ['no name', { orders: { ...orders, names: [] } }, '/store/clients/orders/names'],
  ['a name of one label', { orders: { ...orders, names: ['store'] } }, '/store/clients/orders/names/0'],
  ['an address', { orders: { ...orders, names: ['127.0.0.1'] } }, '/store/clients/orders/names/0'],
  ['what is no app', { 'No App': orders }, '/store/clients'],
  [
    'a fingerprint with colons',
    { orders: { ...orders, revokedKeys: ['ab:'.repeat(32)] } },
    '/store/clients/orders/revokedKeys/0',
  ],
  ['a field of nothing', { orders: { ...orders, anybody: true } }, '/store/clients/orders'],
])('%s is refused', (_, clients, why) => {
  expect(() => parsed(clients satisfies StoreConfig['clients'] | object)).toThrow(why);
});
