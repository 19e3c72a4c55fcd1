import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { type RequestOpSchema, TxnRequestSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { accessOfTxn } from './access.ts';
import { Permissions } from './permissions.ts';
import type { AuthState, Permission } from './state.ts';

type Op = MessageInitShape<typeof RequestOpSchema>;

const base64 = (text: string) => Buffer.from(text).toString('base64');
const permission = (type: Permission['type'], key: string, end: string): Permission => ({
  type,
  key: base64(key),
  rangeEnd: base64(end),
});
const state: AuthState = {
  enabled: true,
  revision: 1,
  users: [
    { name: 'alice', roles: ['reader', 'writer', 'gone'] },
    { name: 'bob', roles: [] },
    { name: 'root', roles: ['root'] },
  ],
  roles: [
    { name: 'reader', permissions: [permission('read', 'r/', 'r0'), permission('readwrite', 'b/', 'b0')] },
    { name: 'writer', permissions: [permission('write', 'w/', 'w0')] },
  ],
};
const permissions = new Permissions(state);

const read = (key: string, end = ''): Op => ({
  request: { case: 'requestRange', value: { key: utf8(key), rangeEnd: utf8(end) } },
});
const put = (key: string, prevKv = false): Op => ({
  request: { case: 'requestPut', value: { key: utf8(key), prevKv } },
});
const remove = (key: string, end = '', prevKv = false): Op => ({
  request: { case: 'requestDeleteRange', value: { key: utf8(key), rangeEnd: utf8(end), prevKv } },
});
const within = (...success: Op[]): Op => ({ request: { case: 'requestTxn', value: { failure: success } } });

const may = (user: string, init: MessageInitShape<typeof TxnRequestSchema>): boolean => {
  try {
    permissions.check(user, accessOfTxn(create(TxnRequestSchema, init)));
    return true;
  } catch (error) {
    expect((error as Error).message).toBe(etcdError('permissionDenied').message);
    return false;
  }
};

describe('a user may', () => {
  test.each<[string, Op, boolean]>([
    ['read what it may read', read('r/a'), true],
    ['not write it', put('r/a'), false],
    ['not delete it', remove('r/', 'r0'), false],
    ['write what it may write', put('w/a'), true],
    ['not read it', read('w/a'), false],
    ['delete it', remove('w/', 'w0'), true],
    ['not learn what it was', put('w/a', true), false],
    ['not learn what it deletes', remove('w/a', '', true), false],
    ['learn it where it may read and write', put('b/a', true), true],
    ['not read all from there on', read('r/', '\0'), false],
    ['not delete all from there on', remove('w/', '\0'), false],
  ])('%s, in a transaction and within one', (_, operation, allowed) => {
    expect(may('alice', { success: [operation] })).toBe(allowed);
    expect(may('alice', { failure: [operation] })).toBe(allowed);
    expect(may('alice', { success: [within(operation)] })).toBe(allowed);
    expect(may('alice', { failure: [within(read('r/a'), within(operation))] })).toBe(allowed);
    expect(may('root', { success: [within(operation)] })).toBe(true);
    expect(may('bob', { success: [operation] })).toBe(false);
    expect(may('nobody', { success: [operation] })).toBe(false);
  });

  test('compare what it may read, and nothing else', () => {
    const compare = (key: string, end = '') => [{ key: utf8(key), rangeEnd: utf8(end) }];
    expect(may('alice', { compare: compare('r/a') })).toBe(true);
    expect(may('alice', { compare: compare('w/a') })).toBe(false);
    expect(may('alice', { compare: compare('r/', '\0') })).toBe(false);
    expect(
      may('alice', { success: [{ request: { case: 'requestTxn', value: { compare: compare('w/a') } } }] }),
    ).toBe(false);
  });
});
