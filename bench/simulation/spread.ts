/**
 * How one message gets from one relay to all others, event by event: announcements along eager links, a fetch from the first who
 * announced, the second choice when that one is silent (once: then it is known), a check on a processor that is busy with everything else.
 */
import { Agenda } from './agenda.ts';
import { type Costs, LIMITS, WORLD } from './costs.ts';

/** A good relay; a dead one; one that announces at once and never gives anything. */
export type Standing = 'good' | 'dead' | 'silent';

export interface Graph {
  readonly relays: number;
  /** By relay: those who hear of what it has. */
  readonly listeners: readonly (readonly number[])[];
  readonly standing: readonly Standing[];
  /** Who was asked and gave nothing, by who asked: it is not waited for once another has the body (host/gossip/wants.ts). */
  readonly doubts: Set<number>;
}

/** @param bad the share of relays that are dead or silent, half of them each */
export function newGraph(relays: number, bad: number, random: () => number): Graph {
  const listeners: number[][] = Array.from({ length: relays }, () => []);
  for (let relay = 0; relay < relays; relay += 1) {
    const chosen = new Set<number>();
    while (chosen.size < Math.min(WORLD.eager, relays - 1)) {
      const other = Math.floor(random() * relays);
      if (other !== relay) chosen.add(other);
    }
    // A peer that is listened to listens too where operators know each other; else it is told: the same for how messages spread.
    for (const other of chosen) {
      listeners[other]!.push(relay);
      listeners[relay]!.push(other);
    }
  }
  const standing = Array.from({ length: relays }, (): Standing => {
    const lot = random();
    return lot >= bad ? 'good' : lot < bad / 2 ? 'dead' : 'silent';
  });
  return { relays, listeners, standing, doubts: new Set() };
}

export interface Spread {
  /** When each relay has the message; infinite for those whom only bad ones would tell. */
  readonly at: Float64Array;
  readonly fetches: number;
  /** Fetches that brought nothing. */
  readonly vain: number;
  /** Bodies that the busiest relay gave. */
  readonly mostGiven: number;
}

export interface Load {
  readonly costs: Costs;
  /** Share of a processor that is taken by everything else. */
  readonly busy: number;
  readonly random: () => number;
}

/** @param bytes of the message */
export function spread(graph: Graph, from: number, bytes: number, { costs, busy, random }: Load): Spread {
  const { relays, listeners, standing } = graph;
  const at = new Float64Array(relays).fill(Number.POSITIVE_INFINITY);
  /** Until when a relay waits for whom it asked. */
  const asking = new Float64Array(relays);
  const given = new Uint32Array(relays);
  const agenda = new Agenda();
  let [fetches, vain] = [0, 0];
  const transfer = (bytes * 8 * 1000) / LIMITS.bitsPerSecond;
  const work = (costs.checkMs + costs.carryMs / 2) / Math.max(0.02, 1 - busy);
  // An event is a relay, who tells it, and whether the body is there.
  const have = (relay: number, now: number) => {
    at[relay] = now;
    if (standing[relay] === 'dead') return;
    for (const other of listeners[relay]!)
      if (at[other]! > now) agenda.push(now + latencyOf(random), (other * relays + relay) * 2);
  };
  have(from, 0);
  while (agenda.size > 0) {
    const [now, event] = agenda.pop();
    const relay = Math.floor(event / (2 * relays));
    const source = Math.floor(event / 2) % relays;
    if (at[relay]! <= now) continue;
    if (event % 2 === 1) {
      have(relay, now);
      continue;
    }
    if (standing[relay] === 'silent') {
      have(relay, now);
      continue;
    }
    // An announcement: the body is asked of its source, unless another is being asked.
    if (asking[relay]! > now) {
      agenda.push(asking[relay]! + random(), event);
      continue;
    }
    if (standing[source] === 'silent' && source !== from) {
      const doubt = relay * relays + source;
      if (!graph.doubts.has(doubt)) asking[relay] = now + WORLD.askMs;
      graph.doubts.add(doubt);
      vain += 1;
      continue;
    }
    const arrives = now + 2 * latencyOf(random) + transfer + work * (0.5 + random());
    asking[relay] = arrives;
    fetches += 1;
    given[source]! += 1;
    agenda.push(arrives, event + 1);
  }
  return { at, fetches, vain, mostGiven: given.reduce((most, one) => Math.max(most, one), 0) };
}

/** One way between two relays, milliseconds: most are near, some across the world. */
const latencyOf = (random: () => number): number => 15 + 135 * random() ** 2;
