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
  /** Nodes that begin to join in each block, and for how many blocks. */
  perBlock: number;
  blocks: number;
}

/** Of so many relays: 8 is what the goals are said for. */
const HOSTS = 8;

export async function hostRows(tell: (row: Row) => void): Promise<Partial<Costs>> {
  let costs: Partial<Costs> = {};
  for (const [perBlock, blocks] of [
    [1, 1],
    [1, 10],
    [10, 4],
  ] as const) {
    const { joins, ...found } = await joinFigures({ hosts: HOSTS, perBlock, blocks });
    const which = joins === 1 ? 'a lone join' : `a join, of so many a block`;
    const row = (what: string, figure: number, unit: string) =>
      tell({ what: `${HOSTS} hosts: ${what}`, size: perBlock, figure, unit });
    row(`calls of a relay for ${which}, beyond idling`, found.further, 'calls');
    if (joins === 1) continue;
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

/** @throws Error when a node has not joined after an hour of the chain's time */
export async function joinFigures({ perBlock, blocks, ...options }: JoinLoad): Promise<JoinFigures> {
  const joins = perBlock * blocks;
  const model = await ModelledHosts.open({ ...options, joiners: joins });
  try {
    const idle = await idleRate(model);
    const [before, syncs, begun] = [model.calls(), model.syncs(), Date.now()];
    const added: ModelledHost[] = [];
    for (let block = 0; block < blocks; block += 1) {
      for (let nth = 0; nth < perBlock; nth += 1) added.push(model.add(model.joiners[added.length]!));
      await settle(model, added, BLOCK_MS);
    }
    for (let waited = 0; added.some((host) => host.joinedAt === undefined); waited += BLOCK_MS) {
      if (waited > 3_600_000) throw new Error('a node has not joined in an hour');
      await settle(model, added, BLOCK_MS);
    }
    const whileJoining = sum(model.calls().values()) - sum(before.values());
    // What a join costs afterwards belongs to it too.
    await settle(model, added, 20 * BLOCK_MS);
    const [after, took] = [model.calls(), Date.now() - begun];
    const by = Object.fromEntries(
      [...after].map(([method, times]) => {
        const anyway = took * (idle.calls.get(method) ?? 0);
        return [method, (times - (before.get(method) ?? 0) - anyway) / options.hosts];
      }),
    );
    const times = added.map(({ joinedAt, addedAt }) => joinedAt! - addedAt).toSorted((a, b) => a - b);
    return {
      joins,
      calls: whileJoining / options.hosts / joins,
      further: sum(Object.values(by)) / joins,
      by,
      own: sum(added.map(({ callsToJoin }) => callsToJoin)) / joins,
      syncs: (model.syncs() - syncs - took * idle.syncs) / options.hosts / joins,
      onboards: sum(model.onboards.values()) / joins,
      seals: sum(model.seals.values()) / joins,
      seconds: times[times.length >> 1]! / 1000,
    };
  } finally {
    await model.close();
  }
}

/** What all relays do in a millisecond without a join, by what is called: over as many blocks as some of it is apart. */
async function idleRate(model: ModelledHosts): Promise<{ calls: Map<string, number>; syncs: number }> {
  const [before, syncs] = [model.calls(), model.syncs()];
  const span = 80 * BLOCK_MS;
  await model.pass(span);
  const calls = [...model.calls()].map(
    ([method, times]) => [method, (times - (before.get(method) ?? 0)) / span] as const,
  );
  return { calls: new Map(calls), syncs: (model.syncs() - syncs) / span };
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
