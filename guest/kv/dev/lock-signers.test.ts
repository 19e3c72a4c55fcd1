import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeState, encodeState, NOTHING_SIGNED } from '../../../lib/cometbft/sign-state.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { startKv, type TestKv } from '../../../test/support/kv.ts';
import type { Upstream } from '../types.ts';
import { lockSigners } from './lock-signers.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-lock-'));
let kv: TestKv;
beforeAll(async () => {
  kv = await startKv();
});
afterAll(async () => {
  await kv?.stop();
  rmSync(folder, { recursive: true });
});

const put = (key: string, value: string) =>
  kv.running.upstream.unary(KV.method.put, { key: utf8(key), value: utf8(value) });
async function get(key: string): Promise<string> {
  const { kvs } = await kv.running.upstream.unary(KV.method.range, { key: utf8(key) });
  return Buffer.from(kvs[0]!.value).toString();
}
async function stateOf(key: string): Promise<string> {
  const value = await get(key);
  try {
    return `${decodeState(value).height}`;
  } catch (error) {
    return codeOf(error);
  }
}
const record = encodeState({ ...NOTHING_SIGNED, height: 5n });

test('every record of a signer is locked, once for each restore, and nothing else is', async () => {
  const keys = Array.from({ length: 130 }, (_, n) => `o/signer/state/chain-${n}/aa`);
  for (const key of keys) await put(key, record);
  const others = ['o/signer/key/chain-1', 'o/signer/state', 'o/signer/state0', 'a/app/signer/state/x'];
  for (const key of others) await put(key, record);

  // Cut short between two transactions: the next start does it all.
  const { upstream } = kv.running;
  let left = 1;
  const failing = {
    ...upstream,
    unary: (...args: Parameters<Upstream['unary']>) => {
      if (args[0] === KV.method.txn && left-- === 0) throw new Error('killed');
      return upstream.unary(...args);
    },
  } as Upstream;
  await expect(lockSigners(failing, folder, 'aa')).rejects.toThrow('killed');
  expect(await lockSigners(upstream, folder, 'aa')).toBe(130);
  for (const key of keys) expect(await stateOf(key)).toBe('STORE_RESTORED');
  for (const key of others) expect(await get(key)).toBe(record);

  // What its owner said since is not locked by another start, but by another restore.
  await put(keys[7]!, record);
  expect(await lockSigners(upstream, folder, 'aa')).toBe(0);
  expect(await stateOf(keys[7]!)).toBe('5');
  expect(await lockSigners(upstream, folder, 'bb')).toBe(130);
  expect(await stateOf(keys[7]!)).toBe('STORE_RESTORED');
});
