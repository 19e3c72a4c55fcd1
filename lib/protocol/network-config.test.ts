import { expect, test } from 'vitest';
import { utf8 } from './encoding.ts';
import { parseHostHints, parseNetworkConfig } from './network-config.ts';

const good = {
  version: 1,
  chainId: 31337,
  contract: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  confirmation: { depth: 1 },
  endpoints: ['https://a.example', 'https://b.example', 'https://c.example'],
  quorum: 2,
};
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
  ['a giant', utf8(' '.repeat(70_000)), /larger/],
])('%s is refused', (_, value, message) => {
  const attempt = () => parseNetworkConfig(value, 'sim');
  expect(attempt).toThrowError(expect.objectContaining({ code: 'NETWORK_CONFIG' }));
  expect(attempt).toThrowError(message);
});

test('plain http is for sim and dev only', () => {
  const plain = bytes({ ...good, endpoints: ['http://10.0.2.2:8545'], quorum: 1 });
  expect(parseNetworkConfig(plain, 'sim').endpoints).toHaveLength(1);
  expect(() => parseNetworkConfig(plain, 'production')).toThrowError(/https only/);
});

test('host.json is a closed set of hints', () => {
  expect(parseHostHints(bytes({ role: 'join', disk: 'create' }))).toEqual({ role: 'join', disk: 'create' });
  expect(() => parseHostHints(bytes({ secret: '00' }))).toThrowError(
    expect.objectContaining({ code: 'HOST_HINTS' }),
  );
});
