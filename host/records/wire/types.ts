/** What the wire needs of a node's records, and what it says of the other nodes. Identities are lower-case hex without 0x. */
import type { PulseSet } from '../pulses.ts';
import type { RecordSet } from '../types.ts';

/** Where a node's members are. The order of its items does not matter here. */
export type RecordStore = Pick<
  RecordSet,
  | 'network'
  | 'stopped'
  | 'has'
  | 'lacksValue'
  | 'lackingValues'
  | 'inOrder'
  | 'get'
  | 'add'
  | 'subscribe'
  | 'forget'
> & {
  /** All members. */
  items(): ReturnType<RecordSet['items']>;
  /** Absent: this node keeps none. */
  readonly pulses?: PulseSet;
};

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
