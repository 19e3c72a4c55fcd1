/** What one peer, or all together, can cost. Each limit is of the node; docs/records.md has the table of what follows from them. */
import { RECONCILE_LIMITS, type ReconcileLimits } from '../../../lib/protocol/records/sync/reconcile.ts';

export interface WireLimits {
  /** Connections that come in, in all and from one address (of IPv6 the first 64 bits). */
  readonly connections: number;
  readonly connectionsPerAddress: number;
  /** Of these, those whose handshake is not over. */
  readonly handshakes: number;
  readonly handshakesPerAddress: number;
  /** Handshakes that begin in a second, of one address and in all: each costs milliseconds of the processor before anybody is known. */
  readonly arrivals: Rate;
  readonly arrivalsInAll: Rate;
  /** Milliseconds for the whole handshake. */
  readonly handshakeWithin: number;
  /** Milliseconds from one whole message of the peer to the next. */
  readonly idle: number;
  /** Milliseconds in which the peer has to take what waits to be sent. */
  readonly takenWithin: number;
  /** Milliseconds in which a record comes that was asked for. */
  readonly deliveredWithin: number;
  /** Milliseconds in which what a peer was asked is answered: it may have to read all of a large file first. */
  readonly answeredWithin: number;
  /** Bytes that wait to be sent, after which the peer is not answered until it has taken some. */
  readonly backlog: number;
  /** Records that a peer asked for and is still to get, after which nothing more of it is read. */
  readonly owed: number;
  /** Frames after which a direction goes on with a new key. */
  readonly rekeyFrames: number;
  /** Of one peer: identities that it offered and that this node still lacks. */
  readonly offered: number;
  /** Of those, how many are asked for at once. */
  readonly asked: number;
  /** How many it may not have after all. */
  readonly lacking: number;
  readonly reconcile: ReconcileLimits;
  /** Milliseconds between reconciliations with one peer. */
  readonly interval: number;
  /** The same, after one that found a difference. */
  readonly again: number;
  /** Milliseconds from when a peer was asked for all values that lack to when it is asked again. */
  readonly values: number;
  /** Milliseconds from one comparison of all pulses with a peer to the next. */
  readonly pulses: number;
  /** Pulses of one peer whose signatures are looked at, of all owners and of each. They are not counted with its CPU: who passes them on has not made them. */
  readonly pulsesIn: Rate;
  readonly pulsesOfOwner: Rate;
  /** Milliseconds before this node dials a peer again: the first time, and at most. */
  readonly redial: readonly [number, number];
  /** Milliseconds for which a key that broke the rules is not spoken to. */
  readonly penalty: number;
  /** What a peer may cost in a second without bringing a new member, and what it may save up of that. */
  readonly cpu: Rate;
  readonly bytesIn: Rate;
  /** What a peer may have sent to it. */
  readonly bytesOut: Rate;
}

/** So much each second, of which up to `burst` may be saved. CPU is in milliseconds. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

const MIB = 1 << 20;

export const WIRE_LIMITS: WireLimits = {
  connections: 64,
  connectionsPerAddress: 8,
  handshakes: 32,
  handshakesPerAddress: 4,
  arrivals: { perSecond: 8, burst: 64 },
  arrivalsInAll: { perSecond: 64, burst: 256 },
  handshakeWithin: 10_000,
  idle: 120_000,
  takenWithin: 60_000,
  deliveredWithin: 60_000,
  answeredWithin: 60_000,
  backlog: MIB,
  owed: 2_048,
  rekeyFrames: 65_536,
  offered: 16_384,
  asked: 128,
  lacking: 16,
  reconcile: RECONCILE_LIMITS,
  interval: 30_000,
  again: 1_000,
  values: 3_600_000,
  pulses: 600_000,
  pulsesIn: { perSecond: 250, burst: 4_096 },
  pulsesOfOwner: { perSecond: 50, burst: 1_024 },
  redial: [1_000, 60_000],
  penalty: 600_000,
  cpu: { perSecond: 200, burst: 1_000 },
  bytesIn: { perSecond: MIB, burst: 4 * MIB },
  bytesOut: { perSecond: 8 * MIB, burst: 32 * MIB },
};
