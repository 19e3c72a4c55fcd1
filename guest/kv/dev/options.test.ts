/** What `kv start` refuses before it makes anything. */
import { describe, expect, test } from 'vitest';
import { startOptions, urlOf } from './options.ts';

const flags = { data: '/srv/kv', listen: '127.0.0.1:2379', plain: false };
const refusal = (code: string) => expect.objectContaining({ code });

describe('an address', () => {
  test.each([
    ['127.0.0.1:2379', '127.0.0.1', 2379],
    ['localhost:0', 'localhost', 0],
    ['[::1]:65535', '::1', 65_535],
  ])('%s', (listen, host, port) => {
    expect(startOptions({ ...flags, listen }).address).toEqual({ host, port });
  });

  test.each([
    '127.0.0.1',
    ':2379',
    '2379',
    '127.0.0.1:',
    '127.0.0.1:0x10',
    '127.0.0.1:65536',
    '127.0.0.1:99999',
    '::1:2379',
    '[127.0.0.1]:2379',
    '[::1]',
    '[:::1]:2379',
    'a b:2379',
    'https://127.0.0.1:2379',
    '127.0.0.1:-1',
  ])('%s is none', (listen) => {
    expect(() => startOptions({ ...flags, listen })).toThrowError(refusal('KV_LISTEN'));
  });

  test('is named as clients have to write it', () => {
    expect(urlOf('https', { host: '::1', port: 1 })).toBe('https://[::1]:1');
    expect(urlOf('http', { host: '0.0.0.0', port: 1 })).toBe('http://localhost:1');
  });
});

test.each([['0.0.0.0:2379'], ['[::]:2379'], ['store.example:2379']])(
  'without TLS nobody else can reach it: %s',
  (listen) => {
    expect(() => startOptions({ ...flags, plain: true, listen })).toThrowError(refusal('KV_PLAIN'));
    expect(startOptions({ ...flags, plain: true, listen: '[::1]:2379' }).plain).toBe(true);
  },
);

test('options that do not go together', () => {
  const pair = { 'cert-file': 'a', 'key-file': 'b' };
  expect(startOptions({ ...flags, ...pair }).certificate).toEqual({ certificate: 'a', key: 'b' });
  expect(() => startOptions({ ...flags, 'cert-file': 'a' })).toThrowError(refusal('KV_CERTIFICATE'));
  expect(() => startOptions({ ...flags, 'key-file': 'b' })).toThrowError(refusal('KV_CERTIFICATE'));
  expect(() => startOptions({ ...flags, ...pair, plain: true })).toThrowError(refusal('KV_PLAIN'));
});

test('a folder whose name, in bytes, is too long for a socket', () => {
  expect(() => startOptions({ ...flags, data: `/${'ü'.repeat(60)}` })).toThrowError(
    refusal('KV_PATH_TOO_LONG'),
  );
  expect(startOptions({ ...flags, data: `/${'u'.repeat(60)}` }).data).toHaveLength(61);
});
