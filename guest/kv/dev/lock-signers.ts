/**
 * A store that was restored has the records of signers as they were when the backup was made. What was signed since, nobody here can know; so that
 * no signer signs on them, they are marked, once, before the store takes any other call. docs/signer.md says how an owner lets them sign again.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { markRestored, RECORDS, SIGNER_PREFIX } from '../../../lib/cometbft/sign-state.ts';
import { writeDurably } from '../../../lib/daemon/durable-file.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import type { Upstream } from '../types.ts';

/** On a laptop signers are in the owner's namespace. */
const FIRST = utf8(`o/${SIGNER_PREFIX}${RECORDS}`);
/** The first key after all that begin so: a slash is followed by a 0. */
const AFTER = utf8(`o/${SIGNER_PREFIX}${RECORDS.slice(0, -1)}0`);
/** Beside the data: the id of the log that the store had when its records were marked. Each restore begins another log. */
const fileOf = (data: string): string => join(data, 'signers-locked');
/** etcd takes 128 operations in a transaction. */
const AT_ONCE = 100;

/**
 * @param data the store's folder
 * @param log the id of its log, hex
 * @returns how many records were marked; 0 where they have been since this log was begun
 */
export async function lockSigners(upstream: Upstream, data: string, log: string): Promise<number> {
  const file = fileOf(data);
  if (existsSync(file) && readFileSync(file, 'utf8') === log) return 0;
  const { kvs } = await upstream.unary(KV.method.range, { key: FIRST, rangeEnd: AFTER });
  for (let from = 0; from < kvs.length; from += AT_ONCE) {
    const success = kvs.slice(from, from + AT_ONCE).map(({ key, value }) => ({
      request: {
        case: 'requestPut' as const,
        value: { key, value: utf8(markRestored(Buffer.from(value).toString())) },
      },
    }));
    await upstream.unary(KV.method.txn, { success });
  }
  // Last: what was cut short is done again.
  writeDurably(file, log, 0o600);
  return kvs.length;
}
