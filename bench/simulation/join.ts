/**
 * One join, from a node's request to its secret: the request spreads and is registered, some nodes answer it, each at its turn (the relay's
 * own code), the answer is posted, some seal the secret.
 */
import { AnswerTurns } from '../../host/relay/answer-turns.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { type Costs, WORLD } from './costs.ts';
import { type Graph, type Load, spread } from './spread.ts';

export interface SimulatedJoin {
  /** Milliseconds; infinite when the node never gets it. */
  readonly time: number;
  /** Nodes that were asked to answer, and to seal. */
  readonly answers: number;
  readonly seals: number;
  /** Bodies that were fetched, for each relay and message. */
  readonly bodies: number;
  /** Fetches that brought nothing, of all relays. */
  readonly vain: number;
  /** Bodies of one message that the busiest relay gave. */
  readonly mostGiven: number;
  /** Until the last relay that is reached has the request, milliseconds. */
  readonly spreadMs: number;
  /** Good relays that the request never reaches. */
  readonly unreached: number;
}

export interface Players {
  readonly graph: Graph;
  /** The relays' own, by which their turns are. */
  readonly keys: readonly Hex[];
  readonly seed: number;
}

export function newPlayers(graph: Graph, seed: number): Players {
  const keys = Array.from({ length: graph.relays }, (_, relay) => hashOf(`relay ${seed} ${relay}`));
  return { graph, keys, seed };
}

export function simulateJoin(players: Players, nth: number, load: Load): SimulatedJoin {
  const { graph, seed } = players;
  const { random, costs } = load;
  const { sizes }: Costs = costs;
  let requester = 0;
  do requester = Math.floor(random() * graph.relays);
  while (graph.standing[requester] !== 'good');
  const start = random() * WORLD.blockMs;
  const request = spread(graph, requester, sizes.withoutCollateral, load);
  const has = (relay: number) => start + request.at[relay]!;
  const registered = nextBlock(start + 500);
  const acts = (name: string, event: number, bytes: number) =>
    act({ ...players, requester, has, hash: hashOf(`${name} ${nth} ${seed}`), event, bytes }, load);
  const answer = acts('answer', registered, sizes.answer);
  const onboarded = nextBlock(answer.heard[requester]! + 500);
  const sealed = acts('seal', onboarded, sizes.sealed);
  const reached = request.at.filter(Number.isFinite);
  return {
    time: sealed.heard[requester]! - start,
    answers: answer.count,
    seals: sealed.count,
    bodies: (request.fetches + answer.fetches + sealed.fetches) / 3 / graph.relays,
    vain: request.vain + answer.vain + sealed.vain,
    mostGiven: Math.max(request.mostGiven, answer.mostGiven, sealed.mostGiven),
    spreadMs: reached.reduce((most, at) => Math.max(most, at), 0),
    unreached: graph.relays - reached.length,
  };
}

interface Act {
  /** Who was asked. */
  count: number;
  /** When each relay hears of the first result. */
  heard: Float64Array;
  fetches: number;
  vain: number;
  mostGiven: number;
}

interface Occasion extends Players {
  readonly requester: number;
  /** When a relay has the request. */
  has(relay: number): number;
  /** By which the turns are. */
  readonly hash: Hex;
  /** When the event that asks for it counts, milliseconds. */
  readonly event: number;
  /** Of the result. */
  readonly bytes: number;
}

/** Who acts for a request: those whose turn comes before they hear of another's result. */
function act({ graph, keys, requester, has, hash, event, bytes }: Occasion, load: Load): Act {
  const { random, busy } = load;
  const turns = keys.map((ownKey, relay) => {
    const seen = Math.max(event + random() * WORLD.pollMs, has(relay));
    const turn = seen + turnsOf(ownKey, graph.relays).delay(hash, WORLD.window);
    return { relay, turn, done: turn + WORLD.guestMs / Math.max(0.02, 1 - busy) };
  });
  turns.sort((a, b) => a.turn - b.turn);
  const heard = new Float64Array(graph.relays).fill(Number.POSITIVE_INFINITY);
  const all: Act = { count: 0, heard, fetches: 0, vain: 0, mostGiven: 0 };
  let first = Number.POSITIVE_INFINITY;
  for (const { relay, turn, done } of turns) {
    // What comes while the node works is too late.
    if (heard[relay]! <= turn || !Number.isFinite(turn)) continue;
    if (turn > first + 60_000) break;
    if (graph.standing[relay] !== 'good' || relay === requester) continue;
    all.count += 1;
    const made = spread(graph, relay, bytes, load);
    // All results are alike: whoever has one fetches no other.
    if (all.count === 1) all.fetches = made.fetches;
    all.vain += made.vain;
    all.mostGiven = Math.max(all.mostGiven, made.mostGiven);
    first = Math.min(first, done);
    for (let other = 0; other < graph.relays; other += 1)
      heard[other] = Math.min(heard[other]!, done + made.at[other]!);
  }
  return all;
}

/** On a chain whose blocks were seen to come slowly. */
function turnsOf(ownKey: Hex, relays: number): AnswerTurns {
  let now = 0;
  const options = { ownKey, nodes: () => relays, latency: () => 150, pollInterval: WORLD.pollMs };
  const turns = new AnswerTurns({ ...options, now: () => now });
  turns.saw(0);
  now = 10 * WORLD.blockMs;
  turns.saw(10);
  return turns;
}

/** When what is sent at a time counts. */
const nextBlock = (time: number): number =>
  (Math.floor(time / WORLD.blockMs) + 1 + WORLD.confirmations) * WORLD.blockMs;

const hashOf = (text: string): Hex => toHex(sha256(utf8(text)));
