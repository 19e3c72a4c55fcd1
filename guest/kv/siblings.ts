/** What the store asks of the node's other daemons. */
import { type LedgerEvidence, LedgerEvidenceSchema } from '../../lib/protocol/ledger-evidence.ts';
import {
  ContainersReply,
  DiskStatusReply,
  JoinedReply,
  LedgerKeysReply,
  StoreCertificateReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { siblingCalls } from '../sibling-calls.ts';

export interface Siblings {
  containers(): Promise<ContainersReply>;
  disk(): Promise<DiskStatusReply>;
  /** Those of the log on one disk. @param epoch the one in which it was begun; absent for a new one */
  ledgerKeys(log: string, epoch?: number): Promise<LedgerKeysReply>;
  ledgerEvidence(log: string, epoch: number): Promise<LedgerEvidence>;
  /** A certificate by the app's authority for a key of the store's, and the authority's own. @param publicKey hex */
  certificate(app: string, publicKey: string): Promise<StoreCertificateReply>;
  /** The block and the time that the node has reached, Unix seconds. */
  reached(): Promise<JoinedReply['reached']>;
}

const CONNECT_WITHIN = 120_000;
/** On TDX a quote takes seconds, and others' may be before it. */
const QUOTE_WITHIN = 90_000;

/** @param root prefix of every path */
export function siblingsAt(root: string): Siblings {
  const call = siblingCalls(root, CONNECT_WITHIN);
  const about = (log: string, epoch?: number) => ({ log, ...(epoch === undefined ? {} : { epoch }) });
  const replicator = sockets.replicatorForKv;
  return {
    containers: () => call(sockets.kubernethesForKv, '/v1/containers', ContainersReply),
    disk: () => call(sockets.diskStatus, '/v1/status', DiskStatusReply),
    ledgerKeys: (log, epoch) => call(replicator, '/v1/ledger-keys', LedgerKeysReply, about(log, epoch)),
    ledgerEvidence: (log, epoch) =>
      call(replicator, '/v1/ledger-evidence', LedgerEvidenceSchema, about(log, epoch), QUOTE_WITHIN),
    certificate: (app, publicKey) =>
      call(replicator, '/v1/store-certificate', StoreCertificateReply, { app, publicKey }),
    reached: async () => (await call(replicator, '/v1/status', JoinedReply)).reached,
  };
}
