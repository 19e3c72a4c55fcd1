/**
 * What joins cost the relays of nodes that have joined already: calls to their endpoints, and how many of their nodes are asked. Relays with
 * all their own parts, on a chain in memory (test/support/modelled-hosts.ts); counted, so that the machine does not matter.
 */
import {
  BLOCK_MS,
  type ModelledHost,
  ModelledHosts,
  type ModelOptions,
} from '../test/support/modelled-hosts.ts';
import type { Row } from './growth.ts';
import type { Costs } from './simulation/costs.ts';

export interface JoinFigures {
  joins: number;
  /** Calls of one relay for each join of another's node: all that it makes meanwhile, and those that it would not make when idle. */
  calls: number;
  further: number;
  /** The same beyond idling, for all joins together, by what is called. */
  by: Record<string, number>;
  /** Calls of the relay whose node joins, until it has. */
  own: number;
  /** Writes of one relay that wait for its disk, for each join of another's node, beyond idling. */
  syncs: number;
  /** How many nodes answered a request, and sealed the secret, on average. */
  onboards: number;
  seals: number;
  /** Seconds from the node's request to its secret, the median. */
  seconds: number;
}

export interface JoinLoad extends Omit<ModelOptions, 'joiners'> {
  /** Nodes that begin to join in each block, and in how many blocks. */
  perBlock: number;
  blocks: number;
  /** Blocks from one of these to the next; 1 by default. */
  apart?: number;
}

/** Blocks after which a join leaves no trace: beside another so far away it is a lone one. */
const LONE = 24;
/** Before anything is counted. */
const WARM_BLOCKS = 30;
/** Joins that are followed, each alone. */
export const LONE_JOINS = { perBlock: 1, blocks: 4, apart: LONE };
/** Of so many relays: 8 is what the goals are said for. */
const HOSTS = 8;

export async function hostRows(tell: (row: Row) => void): Promise<Partial<Costs>> {
  let costs: Partial<Costs> = {};
  for (const load of [LONE_JOINS, { perBlock: 1, blocks: 10 }, { perBlock: 10, blocks: 4 }]) {
    const { perBlock } = load;
    const { joins: _, ...found } = await joinFigures({ hosts: HOSTS, ...load });
    const which = load === LONE_JOINS ? 'a lone join' : `a join, of so many a block`;
    const row = (what: string, figure: number, unit: string) =>
      tell({ what: `${HOSTS} hosts: ${what}`, size: perBlock, figure, unit });
    row(`calls of a relay for ${which}, beyond idling`, found.further, 'calls');
    if (load === LONE_JOINS) continue;
    row(`calls of a relay for ${which}`, found.calls, 'calls');
    row('calls of the relay whose node joins', found.own, 'calls');
    row('nodes that answer a request', found.onboards, 'nodes');
    row('nodes that seal a secret', found.seals, 'nodes');
    row('writes of a relay that wait for its disk, for a join', found.syncs, 'writes');
    row('time to join', found.seconds, 's');
    costs = { callsOfJoin: found.further, syncsOfJoin: found.syncs };
  }
  for (const hosts of [2, 4, 16]) {
    const { onboards, seals } = await joinFigures({ hosts, perBlock: 4, blocks: 3 });
    tell({ what: 'hosts: nodes that answer a request', size: hosts, figure: onboards, unit: 'nodes' });
    tell({ what: 'hosts: nodes that seal a secret', size: hosts, figure: seals, unit: 'nodes' });
  }
  return costs;
}

interface Counted {
  /** Milliseconds of the chain's time. */
  took: number;
  calls: Map<string, number>;
  syncs: number;
}

/** @throws Error when a node has not joined after an hour of the chain's time */
export async function joinFigures({
  perBlock,
  blocks,
  apart = 1,
  ...options
}: JoinLoad): Promise<JoinFigures> {
  const joins = perBlock * blocks;
  const found = await counted({ ...options, joiners: joins }, async (model) => {
    const [before, added]: [Map<string, number>, ModelledHost[]] = [model.calls(), []];
    for (let block = 0; block < blocks; block += 1) {
      for (let nth = 0; nth < perBlock; nth += 1) added.push(model.add(model.joiners[added.length]!));
      await settle(model, added, apart * BLOCK_MS);
    }
    for (let waited = 0; added.some((host) => host.joinedAt === undefined); waited += BLOCK_MS) {
      if (waited > 3_600_000) throw new Error('a node has not joined in an hour');
      await settle(model, added, BLOCK_MS);
    }
    const whileJoining = sum(model.calls().values()) - sum(before.values());
    // What a join costs afterwards belongs to it too.
    await settle(model, added, LONE * BLOCK_MS);
    const times = added.map(({ joinedAt, addedAt }) => joinedAt! - addedAt).toSorted((a, b) => a - b);
    return {
      joins,
      calls: whileJoining / options.hosts / joins,
      own: sum(added.map(({ callsToJoin }) => callsToJoin)) / joins,
      onboards: sum(model.onboards.values()) / joins,
      seals: sum(model.seals.values()) / joins,
      seconds: times[times.length >> 1]! / 1000,
    };
  });
  // The same relays for the same time, with no join: what they ask then they would have asked anyway.
  const idle = await counted({ ...options, joiners: 1 }, (model) => model.pass(found.took));
  const by = Object.fromEntries(
    [...found.calls].map(([method, times]) => [
      method,
      (times - (idle.calls.get(method) ?? 0)) / options.hosts,
    ]),
  );
  return {
    ...found.result,
    further: sum(Object.values(by)) / joins,
    by,
    syncs: (found.syncs - idle.syncs) / options.hosts / joins,
  };
}

/** What relays whose nodes had joined before do meanwhile. */
async function counted<T>(
  options: ModelOptions,
  action: (model: ModelledHosts) => Promise<T>,
): Promise<Counted & { result: T }> {
  const model = await ModelledHosts.open(options);
  try {
    // Until what is read again and again has been.
    await model.pass(WARM_BLOCKS * BLOCK_MS);
    const [before, syncs, begun] = [model.calls(), model.syncs(), Date.now()];
    const result = await action(model);
    const calls = [...model.calls()].map(
      ([method, times]) => [method, times - (before.get(method) ?? 0)] as const,
    );
    return { result, took: Date.now() - begun, calls: new Map(calls), syncs: model.syncs() - syncs };
  } finally {
    await model.close();
  }
}

/** Relays whose nodes have joined go: the others stay as many. */
async function settle(
  model: ModelledHosts,
  added: readonly ModelledHost[],
  milliseconds: number,
): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += 1000) {
    await model.pass(1000);
    for (const host of added) if (host.joinedAt !== undefined) void host.stop();
  }
}

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);
