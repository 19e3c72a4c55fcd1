import { expect, test } from 'vitest';
import { toHex, utf8 } from './encoding.ts';
import { configHash, parseHostHints, parseNetworkConfig } from './network-config.ts';
import { publicPrefixes } from './store-public.ts';
import { storeShares } from './store-shares.ts';

const good = {
  version: 1,
  chainId: 31337,
  contract: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  confirmation: { depth: 1 },
  endpoints: ['https://a.example', 'https://b.example', 'https://c.example'],
  quorum: 2,
};
const numbers = (count: number) => Array.from({ length: count }, (_, n) => `${n}`);
const bytes = (value: unknown) => utf8(JSON.stringify(value));

test('a good network.json', () => {
  expect(parseNetworkConfig(bytes(good), 'production').quorum).toBe(2);
});

test.each([
  ['not JSON', utf8('{'), /not JSON/],
  ['an unknown field', bytes({ ...good, extra: 1 }), /extra|additional/i],
  ['a missing contract', bytes({ ...good, contract: undefined }), /contract/],
  ['a contract that is no address', bytes({ ...good, contract: '0x12' }), /contract/],
  ['a chain id of 0', bytes({ ...good, chainId: 0 }), /chainId/],
  ['a quorum that is no majority', bytes({ ...good, quorum: 1 }), /majority/],
  ['a quorum of more than there are', bytes({ ...good, quorum: 4 }), /quorum of 4/],
  ['credentials in an endpoint', bytes({ ...good, endpoints: ['https://u:p@a.example'] }), /endpoints/],
  [
    'the same endpoint twice',
    bytes({ ...good, endpoints: ['https://a.example', 'https://a.example'] }),
    /endpoints/,
  ],
  [
    'shares of more than apps may keep',
    bytes({ ...good, store: { quotaMiB: 16, shares: { a: 4, b: 3 } } }),
    /may keep 6 MiB/,
  ],
  ['a share of more than that', bytes({ ...good, store: { shareMiB: 97 } }), /may keep 96 MiB/],
  ['a share of what is no app', bytes({ ...good, store: { shares: { 'A B': 1 } } }), /shares/],
  ['a prefix of what is no app', bytes({ ...good, store: { public: { 'A B': ['x'] } } }), /public/],
  ['a prefix of other characters', bytes({ ...good, store: { public: { a: ['x y'] } } }), /public/],
  ['a prefix twice', bytes({ ...good, store: { public: { a: ['x', 'x'] } } }), /public/],
  ['an app with no prefix', bytes({ ...good, store: { public: { a: [] } } }), /public/],
  ['one that is no list', bytes({ ...good, store: { public: { a: 'x' } } }), /public/],
  [
    'prefixes of more bytes than can be read in a leaf',
    bytes({ ...good, store: { public: { a: ['1', '2', '3', '4', '5'].map((n) => n.repeat(90)) } } }),
    /5 prefixes of 470 bytes/,
  ],
  [
    'more prefixes than a policy has',
    bytes({ ...good, store: { public: { a: numbers(17), b: numbers(16) } } }),
    /33 prefixes/,
  ],
  ['an owner of the store that is no app', bytes({ ...good, store: { owner: 'A B' } }), /owner/],
  ['a giant', utf8(' '.repeat(70_000)), /larger/],
])('%s is refused', (_, value, message) => {
  const attempt = () => parseNetworkConfig(value, 'sim');
  expect(attempt).toThrowError(expect.objectContaining({ code: 'NETWORK_CONFIG' }));
  expect(attempt).toThrowError(message);
});

test('the policy of the most that may be public is readable in its own leaf', () => {
  const most = { a: numbers(28), b: ['x'.repeat(90), 'y'.repeat(90), 'z'.repeat(50)] };
  const config = { ...good, store: { public: most } };
  const { store } = parseNetworkConfig(bytes(config), 'sim');
  const prefixes = publicPrefixes(store);
  expect(prefixes.reduce((sum, { length }) => sum + length, 0)).toBe(400);
  const policy = { publicPrefixes: prefixes.map(toHex), leases: false };
  // Of which one prefix more would be three characters.
  expect(JSON.stringify(policy).length + 3).toBeLessThanOrEqual(1_024);
});

test('what is public in the ledger, in one order', () => {
  const { store } = parseNetworkConfig(
    bytes({ ...good, store: { public: { shop: ['b', 'a/'], news: [''] } } }),
    'production',
  );
  expect(publicPrefixes(store).map((prefix) => Buffer.from(prefix).toString())).toEqual([
    'a/news/',
    'a/shop/a/',
    'a/shop/b',
  ]);
  expect(publicPrefixes({})).toEqual([]);
  expect(publicPrefixes()).toEqual([]);
});

test('what apps may keep in the store', () => {
  const MIB = 1024 * 1024;
  const { store } = parseNetworkConfig(
    bytes({ ...good, store: { quotaMiB: 64, shares: { orders: 20 } } }),
    'production',
  );
  const shares = storeShares(store);
  expect(shares).toEqual({
    database: 64 * MIB,
    named: new Map([['orders', 20 * MIB]]),
    each: 4 * MIB,
    others: 4 * MIB,
  });
  expect(storeShares({ quotaMiB: 64, shareMiB: 2 })).toMatchObject({ each: 2 * MIB, others: 24 * MIB });
  expect(storeShares()).toMatchObject({ database: 256 * MIB, each: 32 * MIB, others: 96 * MIB });
});

test('plain http is for sim and dev only', () => {
  const plain = bytes({ ...good, endpoints: ['http://10.0.2.2:8545'], quorum: 1 });
  expect(parseNetworkConfig(plain, 'sim').endpoints).toHaveLength(1);
  expect(() => parseNetworkConfig(plain, 'production')).toThrowError(/https only/);
});

const root = `-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n`;
const site = {
  domains: ['site.example', 'www.site.example'],
  acme: {
    directory: 'https://acme.example/directory',
    contact: ['mailto:owner@site.example'],
    challenges: ['http-01'],
  },
  roots: [root],
};
const withSite = (change: object) => bytes({ ...good, site: { ...site, ...change } });
const withAcme = (change: object) => withSite({ acme: { ...site.acme, ...change } });

test('a website has names, an authority, and in sim and dev roots of its own', () => {
  expect(parseNetworkConfig(withSite({}), 'sim').site).toEqual(site);
  expect(parseNetworkConfig(withSite({ roots: undefined }), 'production').site?.domains).toHaveLength(2);
  expect(parseNetworkConfig(withSite({ acme: undefined }), 'dev').site?.acme).toBeUndefined();
  expect(() => parseNetworkConfig(withSite({}), 'production')).toThrowError(/site\.roots/);
});

test.each([
  ['no name', withSite({ domains: [] })],
  [
    'more names than one certificate has',
    withSite({ domains: Array.from({ length: 21 }, (_, i) => `a${i}.example`) }),
  ],
  ['a name twice', withSite({ domains: ['site.example', 'site.example'] })],
  ['a name in capitals', withSite({ domains: ['Site.example'] })],
  ['a name that ends in a dot', withSite({ domains: ['site.example.'] })],
  ['an address', withSite({ domains: ['10.0.0.1'] })],
  ['a name of one label', withSite({ domains: ['localhost'] })],
  ['a name with a space or a line in it', withSite({ domains: ['site.example\nset'] })],
  ['a name that is too long', withSite({ domains: [`${'a.'.repeat(130)}example`] })],
  ['a directory that is not https', withAcme({ directory: 'http://acme.example' })],
  ['a directory with credentials', withAcme({ directory: 'https://u:p@acme.example' })],
  ['a contact that is no mail address', withAcme({ contact: ['tel:1'] })],
  ['no challenge', withAcme({ challenges: [] })],
  ['a challenge that nobody knows', withAcme({ challenges: ['http-02'] })],
  ['an account key', withAcme({ key: '00' })],
  ['a root that is not PEM', withSite({ roots: ['MIIB'] })],
  ['two roots in one', withSite({ roots: [root + root] })],
  ['five roots', withSite({ roots: Array(5).fill(root) })],
])('of a website %s is refused', (_, value) => {
  expect(() => parseNetworkConfig(value, 'sim')).toThrowError(
    expect.objectContaining({ code: 'NETWORK_CONFIG' }),
  );
});

test('a network.json of before has the hash that its network allowed', () => {
  const before = utf8(
    '{"version":1,"chainId":31337,"contract":"0x5FbDB2315678afecb367f032d93F642f64180aa3","confirmation":{"depth":1},"endpoints":["https://a.example"],"quorum":1}',
  );
  expect(parseNetworkConfig(before, 'production').site).toBeUndefined();
  expect(toHex(configHash(before))).toBe('e9fc9397263b720b3c188857bc6956fd80f028159af7960d1900bb98cbef7637');
});

test('host.json is a closed set of hints', () => {
  expect(parseHostHints(bytes({ role: 'join', disk: 'create' }))).toEqual({ role: 'join', disk: 'create' });
  const validators = [{ chain: 'chain-1', address: '10.0.2.2', port: 26659 }];
  expect(parseHostHints(bytes({ validators }))).toEqual({ validators });
  const [validator] = validators;
  // No name is asked of the DNS for it.
  for (const odd of [{ address: 'localhost' }, { port: 0 }, { chain: 'a/b' }, { key: '00' }])
    expect(() => parseHostHints(bytes({ validators: [{ ...validator, ...odd }] }))).toThrowError(
      expect.objectContaining({ code: 'HOST_HINTS' }),
    );
  expect(() => parseHostHints(bytes({ validators: Array(17).fill(validator) }))).toThrowError(
    expect.objectContaining({ code: 'HOST_HINTS' }),
  );
  expect(() => parseHostHints(bytes({ secret: '00' }))).toThrowError(
    expect.objectContaining({ code: 'HOST_HINTS' }),
  );
});

test('resolvers of the website are two at least, of different servers, over https', () => {
  const two = ['https://a.example/dns-query', 'https://b.example/dns-query'];
  expect(parseNetworkConfig(withSite({ resolvers: two }), 'sim').site?.resolvers).toEqual(two);
  for (const bad of [
    ['https://a.example/dns-query'],
    ['https://a.example/dns-query', 'https://A.example/other'],
    ['https://a.example/', 'https://a.example:443/x'],
    ['https://a.example/', 'http://b.example/'],
    ['https://a.example/', 'https://user@b.example/'],
    ['https://a.example/', 'https://[b'],
  ])
    expect(() => parseNetworkConfig(withSite({ resolvers: bad }), 'sim'), bad.join()).toThrowError(
      expect.objectContaining({ code: 'NETWORK_CONFIG' }),
    );
});
