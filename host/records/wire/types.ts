/** What the wire needs of a node's records, and what it says of the other nodes. Identities are lower-case hex without 0x. */
import type { Outcome } from '../../../lib/protocol/records/intake.ts';

/** A member's place in the one order that all nodes have: by timestamp, then by identity. */
export interface Item {
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly id: string;
}

/** What became of bytes that a peer sent; `refused` with the RECORD_… code of what can never be a member, or of a full limbo. */
export type Verdict = Outcome | { readonly kind: 'refused'; readonly code: string };

/** Where a node's members are. */
export interface RecordStore {
  /** The identity of the genesis record. */
  readonly network: string;
  has(id: string): boolean;
  /** A member's encoding. */
  get(id: string): Uint8Array | undefined;
  /** @param from the peer; what waits for others takes its room */
  add(bytes: Uint8Array, from: string): Promise<Verdict>;
  /** All members, in any order. */
  items(): Iterable<Item>;
  /** Calls with new members. @returns what ends it */
  subscribe(listener: (items: readonly Item[]) => void): () => void;
  /** A peer is gone: what only it sent and what waits is dropped. */
  forget(from: string): void;
}

export interface LastReconciliation {
  /** How long ago it ended, in milliseconds, whatever was done to the clock since. */
  readonly age: number;
  /** How many members the peer had and this node had not, and the other way round. */
  readonly missingHere: number;
  readonly missingThere: number;
  readonly rounds: number;
}

export interface PeerStatus {
  /** The peer's static key, in hex. */
  readonly key: string;
  readonly address: string;
  /** Whether this node dialled. */
  readonly isDialled: boolean;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Of this connection, the last that found the whole difference; none before the first. */
  readonly last: LastReconciliation | undefined;
  readonly received: { readonly bytes: number; readonly records: number };
  readonly sentBytes: number;
}
