/**
 * What the parts of the store know of each other. Requests come in at `api`, become requests of etcd's key space in `namespace`,
 * reach etcd through an `Upstream` of `engine`, and a write's answer leaves once `ledger` covers its revision.
 */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import type { KvLedger } from './ledger/ledger.ts';

/** Who calls. Decided by where a connection was accepted and its certificate, never by anything in a request. */
export interface Caller {
  /** Before every key of the caller's, in etcd: `a/<app>/`, `d/<daemon>/` or `o/`. */
  readonly prefix: Uint8Array;
  /** For logs and metrics. */
  readonly name: string;
  /** May maintain the engine itself: status, hash, alarm, defragmentation, snapshot. On a laptop everyone, in a VM one app at most. */
  readonly owner: boolean;
  /** Of the certificate that the connection was made with. */
  readonly commonName?: string;
  /** From outside of the VM: where the namespace has no users, it is nobody, and not everybody. */
  readonly outside?: boolean;
}

/** One call of a client's. */
export interface Call {
  readonly caller: Caller;
  /** The metadata `token` (or `authorization`), as it came. */
  readonly token: string | undefined;
  /** Aborted when the client cancels, its connection ends or its deadline passes. */
  readonly signal: AbortSignal;
  /** When the client stops waiting, by `performance.now()`; undefined where it waits for ever. */
  readonly deadline: number | undefined;
}

/** When to give up a call of etcd. Without either, it ends with the connection. */
export interface UpstreamOptions {
  readonly signal?: AbortSignal;
  /** By `performance.now()`. */
  readonly deadline?: number | undefined;
}

/** An open stream of etcd's. Ends by `close`, by the signal, or by etcd; iterating throws an RpcError for any end but a clean one. */
export interface UpstreamStream<I extends DescMessage, O extends DescMessage>
  extends AsyncIterable<MessageShape<O>> {
  /** Never waits: what etcd does not take yet is kept. @throws RpcError once the stream has ended. */
  send(request: MessageInitShape<I>): void;
  /** Says that nothing more is sent; answers still come. */
  end(): void;
  /** Resets the stream. */
  close(): void;
}

/**
 * etcd's own API, without checks and prefixes. All errors are RpcError with etcd's text; `unavailable` where etcd is away, and then it is
 * unknown whether a write took place. A stream ends with the connection; what it followed is its user's to take up again.
 */
export interface Upstream {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: UpstreamOptions,
  ): Promise<MessageShape<O>>;

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>,
    options?: UpstreamOptions,
  ): UpstreamStream<I, O>;
}

/** One event of a revision, as every replica has it. */
export interface LedgerEvent {
  readonly type: 'put' | 'delete';
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly lease: bigint;
  readonly version: bigint;
  readonly createRevision: bigint;
}

/** Told of each revision, in order, before the answer to its write leaves. */
export type OnRevision = (revision: bigint, events: readonly LedgerEvent[]) => void;

/** What follows etcd: the whole key space, in revision order, one call a revision. */
export interface RevisionSource {
  /**
   * Calls `each` for every revision from `after + 1` on, takes up again after a lost connection, and returns only by throwing: when
   * `each` throws, when the signal aborts, or when a revision that is wanted has been compacted (REVISIONS_COMPACTED).
   */
  follow(
    after: bigint,
    each: (revision: bigint, events: readonly LedgerEvent[]) => void,
    signal: AbortSignal,
  ): Promise<never>;
  /** The newest physical compaction that it knows of; 0 for none. */
  compactRevision(): bigint;
}

/** What the API and compaction ask of the ledger. */
export interface Ledger {
  /** Resolves when the leaf of that revision is in the tree; rejects with LEDGER_STOPPED. */
  covered(revision: bigint): Promise<void>;
  /** The revision up to which etcd may be compacted: the tiles below it are on the disk. */
  readonly durable: bigint;
  /** Receipts and the log itself; absent where a test has no more than the above. */
  readonly log?: KvLedger;
  /** Lets go of the disk. */
  close?(): Promise<void>;
}

/** A handler of one method, as the services give it to the server. Requests were parsed, nothing else was checked. */
export type UnaryHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => Promise<MessageInitShape<O>>;

/** Answers go out in the order of `send`; it resolves when the client can take more. Returning ends the call with success. */
export type StreamHandler<I extends DescMessage, O extends DescMessage> = (
  requests: AsyncIterable<MessageShape<I>>,
  send: (answer: MessageInitShape<O>) => Promise<void>,
  call: Call,
) => Promise<void>;

/** A method that the server offers; any other is `unimplemented`. Made by `unary` and `streaming` of api/method.ts. */
export type ServedMethod =
  | {
      readonly kind: 'unary';
      readonly method: DescMethodUnary;
      readonly handle: UnaryHandler<DescMessage, DescMessage>;
    }
  | {
      readonly kind: 'stream';
      readonly method: DescMethodBiDiStreaming | DescMethodServerStreaming;
      readonly handle: StreamHandler<DescMessage, DescMessage>;
    };
