/**
 * What a node's records are to whoever brings them from and to other nodes, and to whoever asks for them. Identities are lower-case hex without
 * 0x, whose order is that of the bytes. Nothing is shown here that is not on the disk.
 */
import type { DstackError } from '../../lib/protocol/errors.ts';
import type { Outcome } from '../../lib/protocol/records/intake.ts';

/** A member's place in the one order that all nodes have: by timestamp, then by identity. */
export interface Item {
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly id: string;
}

/**
 * What became of the bytes that somebody sent: as `Outcome`, and `refused` for what can never be a member, or has to wait where its peer has no room left
 * (RECORD_LIMBO_FULL: to be offered again after what it stands on).
 */
export type Verdict =
  | Outcome
  /** @property code RECORD_… of lib/protocol/records */
  | { readonly kind: 'refused'; readonly code: string; readonly message: string };

export interface ItemRange {
  /** The first item that may be among them; absent: from the beginning. It need not be a member. */
  readonly from?: Item;
  /** The first item that is not among them; absent: to the end. */
  readonly before?: Item;
  /** Absent: all. */
  readonly limit?: number;
}

export interface RecordSet {
  /** The identity of the genesis record: the network. */
  readonly network: string;
  /** Members. */
  readonly count: number;
  /** Why nothing is taken for now; undefined while all is well. What is there is shown all the same. */
  readonly stopped: DstackError | undefined;
  has(id: string): boolean;
  /** Of a member: whether its value is not here, and is to be had from whoever has it. */
  lacksValue(id: string): boolean;
  /** Members whose value is so, in the order in which they became members. @param after only those behind this member */
  lackingValues(limit: number, after?: string): string[];
  /** Of these the members, as they became it: each after what it stands on. */
  inOrder(ids: readonly string[]): string[];
  /** A member's one encoding, with its value or without, as this node has it. */
  get(id: string): Uint8Array | undefined;
  /**
   * Judges the bytes and keeps them. When it returns, what it says is on the disk; records that are added meanwhile share one wait for it.
   * @param from the peer; what waits for others takes its room
   * @throws RECORDS_STOPPED once the disk failed or is full: nothing is taken until the node is started again
   */
  add(bytes: Uint8Array, from: string): Promise<Verdict>;
  /** In their order. Members that are added while somebody iterates may be among them or not. */
  items(range?: ItemRange): Iterable<Item>;
  /**
   * Calls for members that are new, after they are on the disk, in the order in which they became members.
   * @returns what ends it
   */
  subscribe(listener: (items: readonly Item[]) => void): () => void;
  /** Identities that something waits for and that nobody has offered: what to ask peers for. */
  wanted(): string[];
  /** What waits for others, by identity: it need not be sent again. */
  waiting(): string[];
  /** A peer is gone: what only it sent and what waits is dropped. */
  forget(from: string): void;
}
