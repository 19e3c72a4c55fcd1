/**
 * Receipts under LSKV's names: `Receipt/GetReceipt` and `Maintenance/TxStatus`. Who asks gets the receipts of what the namespace wrote, as far as
 * they may read its keys; a revision of others looks like one that is not there.
 */
import { create } from '@bufbuild/protobuf';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { KV, RangeRequestSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { Maintenance, Receipt, TxStatusResponse_Status } from '../../../lib/etcd/gen/receipt_pb.js';
import { claimsOfDelete, claimsOfPut, lskvReceipt } from '../../../lib/ledger/lskv.ts';
import { type ProvenReceipt, verifyReceipt } from '../../../lib/ledger/receipt.ts';
import { hasCode } from '../../../lib/protocol/errors.ts';
import { accessOfRange } from '../auth/access.ts';
import type { KvLedger } from '../ledger/ledger.ts';
import { type CurrentRead, receiptOf } from '../ledger/receipts.ts';
import { headerOf } from '../namespace/replies.ts';
import type { Store } from '../namespace/store.ts';
import type { Call, ServedMethod } from '../types.ts';
import { unary } from './method.ts';

export function receiptMethods(store: Store, ledger: KvLedger): ServedMethod[] {
  const { signer } = ledger.options;

  async function receipt(call: Call, revision: bigint, read?: CurrentRead): Promise<string> {
    const { space, auth } = await store.enter(call);
    // Which revisions are the namespace's is not for everyone either.
    auth.requireUser(call);
    const mayRead = (keys: readonly Uint8Array[]) => {
      const accesses = keys.flatMap((key) =>
        accessOfRange(create(RangeRequestSchema, { key: space.strip(key) })),
      );
      auth.authorize(call, accesses);
    };
    return receiptOf(ledger, revision, space.prefix, mayRead, read);
  }

  /** What the client asked for, where the events tell and the value is still there. */
  async function claimsOf(call: Call, { basis, revision, events }: ProvenReceipt) {
    if (basis === 'events') return undefined;
    const { ownKey: key } = events[0]!;
    if (basis === 'delete') return claimsOfDelete(key);
    try {
      const request = create(RangeRequestSchema, { key, revision });
      const [found] = (await store.range(call, request)).kvs ?? [];
      return found && claimsOfPut(key, found.value!, found.lease!);
    } catch (error) {
      if (error instanceof RpcError && error.status === status.outOfRange) return undefined;
      throw error;
    }
  }

  return [
    unary(Receipt.method.getReceipt, async ({ revision, key }, call) => {
      try {
        const read = key.length === 0 ? undefined : await readNow(store, call, key);
        const text = await receipt(call, read?.written ?? revision, read);
        const proven = verifyReceipt(text, signer.name, [signer]);
        const header = await headOf(store, call);
        return { ...header, receipt: lskvReceipt(text, signer, await claimsOf(call, proven)) };
      } catch (error) {
        if (hasCode(error, 'RECEIPT_NONE')) throw new RpcError(status.notFound, (error as Error).message);
        if (hasCode(error, 'LEDGER_STOPPED'))
          throw new RpcError(status.unavailable, 'the ledger has stopped');
        throw error;
      }
    }),
    unary(Maintenance.method.txStatus, async ({ revision }, call) => {
      const header = await headOf(store, call);
      return { ...header, status: statusOf(revision, header.header?.revision ?? 0n, ledger) };
    }),
  ];
}

/** Committed is what is on the ledger's disk and in a signed head. */
function statusOf(revision: bigint, newest: bigint, { durable }: KvLedger): TxStatusResponse_Status {
  if (revision < 1n || revision > newest) return TxStatusResponse_Status.Unknown;
  return revision <= durable ? TxStatusResponse_Status.Committed : TxStatusResponse_Status.Pending;
}

async function headOf(store: Store, call: Call) {
  const { space, auth } = await store.enter(call);
  auth.requireUser(call);
  return headerOf(await store.upstream.unary(KV.method.range, { key: space.prefix, countOnly: true }, call));
}

/** A linearizable read of one key: when its value was written, and at which revision it was current. */
async function readNow(
  store: Store,
  call: Call,
  key: Uint8Array,
): Promise<CurrentRead & { written: bigint }> {
  const { header, kvs } = await store.range(call, create(RangeRequestSchema, { key }));
  const written = kvs?.[0]?.modRevision;
  if (written === undefined) throw new RpcError(status.notFound, 'the key has no value');
  return { key: store.spaceOf(call.caller).key(key), revision: header!.revision!, written };
}
