/** What a network's parts cost, as measured, and what they may cost at most: what the simulation goes by. */
import type { GossipFigures } from '../gossip.ts';

export interface Costs {
  /** A check of a request that was not seen before, milliseconds of CPU. */
  readonly checkMs: number;
  /** All but the check: HTTP, JSON, the store, on both sides, for one relay and message, milliseconds of CPU. */
  readonly carryMs: number;
  /** Bytes of a message's JSON. */
  readonly sizes: { readonly withoutCollateral: number; readonly answer: number; readonly sealed: number };
  /** Ids, polls, announcements and HTTP's own lines for one relay and message, bytes. */
  readonly talk: number;
  /** Calls of a relay to its endpoint: for a join of another's node under load, and in a minute without any. */
  readonly callsOfJoin: number;
  readonly idleCallsPerMinute: number;
  /** Writes of a relay that wait for the disk, for a join of another's node. */
  readonly syncsOfJoin: number;
}

/** As `npm run bench -- scale` measured them on two busy cores; docs/growth.md has the tables. */
export const MEASURED: Costs = {
  checkMs: 3,
  carryMs: 17,
  sizes: { withoutCollateral: 10_798, answer: 694, sealed: 2_514 },
  talk: 16_300,
  callsOfJoin: 0.23,
  idleCallsPerMinute: 9,
  syncsOfJoin: 10,
};

/** Of gossip: the largest mesh is the one whose relays have most lazy links, so its figures are rather too high. */
export function gossipCosts({ rows, sizes, checkMs }: GossipFigures): Partial<Costs> {
  const row = rows.at(-1)!;
  // Requests and replies have some 350 bytes of lines besides, each counted at the one who calls and at the one who answers.
  const talk = Math.max(0, row.bytes - row.bodies * sizes.withoutCollateral) + row.requests * 700;
  return { checkMs, carryMs: Math.max(1, row.cpuMs - row.checks * checkMs), sizes, talk };
}

/** Of the code, and of public networks; times in milliseconds. */
export const WORLD = {
  /** Peers that are listened to: mesh.ts. */
  eager: 6,
  /** Whoever was asked for a body has so long: http-carrier.ts. */
  askMs: 5_000,
  pollMs: 1_000,
  guestMs: 300,
  blockMs: 12_000,
  confirmations: 2,
  /** Blocks in which a request may be answered. */
  window: 50,
} as const;

/** What a host has of its own, and what others give it. */
export const LIMITS = {
  bitsPerSecond: 20e6,
  /** Requests a second that a public endpoint gives one caller. */
  callsPerSecond: 10,
  /** Of an ordinary disk, in a second. */
  syncsPerSecond: 100,
  blockGas: 36e6,
  /** `register` and `onboard`: docs/gas.md. */
  joinGas: 99_695,
  /** Bodies that a relay gives one peer in a second, and one that can't be asked may send: RATES of http-carrier.ts. */
  bodiesPerSecond: 64,
  pushedPerSecond: 32,
  /** Messages of requests on chain that are held, and for how long at least: message-log.ts, kept-subjects.ts. */
  keptMessages: 65_536,
  keptMinutes: 60,
} as const;

/** A request, an answer, a sealed secret. */
export const MESSAGES = 3;

/** What one node pays for one join of another's. */
export function costOfJoin(costs: Costs) {
  const { sizes } = costs;
  return {
    /** Milliseconds; the last part is its looks at the events. */
    cpuMs: MESSAGES * costs.carryMs + costs.checkMs + 2,
    bytes: sizes.withoutCollateral + sizes.answer + sizes.sealed + MESSAGES * costs.talk,
    calls: costs.callsOfJoin,
    syncs: costs.syncsOfJoin,
  };
}

/** Joins a minute at which each part is full, the first that is first. */
export function fullAt(costs: Costs): [part: string, joinsPerMinute: number][] {
  const join = costOfJoin(costs);
  const parts: Record<string, number> = {
    'a processor of a relay': 60_000 / join.cpuMs,
    'a line of 20 Mbit/s': (LIMITS.bitsPerSecond / 8) * (60 / join.bytes),
    'an endpoint that gives 10 calls a second':
      (LIMITS.callsPerSecond * 60 - costs.idleCallsPerMinute) / join.calls,
    'a disk that syncs 100 times a second': (LIMITS.syncsPerSecond * 60) / join.syncs,
    'bodies that one peer may fetch': (LIMITS.bodiesPerSecond * 60) / MESSAGES,
    'bodies that one peer may send': (LIMITS.pushedPerSecond * 60) / MESSAGES,
    'room for messages that are kept for an hour': LIMITS.keptMessages / MESSAGES / LIMITS.keptMinutes,
    'gas of a block, half of it': ((LIMITS.blockGas / 2 / LIMITS.joinGas) * 60_000) / WORLD.blockMs,
  };
  return Object.entries(parts).toSorted(([, a], [, b]) => a - b);
}
