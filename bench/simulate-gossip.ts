/**
 * Ten thousand relays, in a simulation that is seeded: how messages spread, who answers, what each node pays for it, and which
 * part falls first as more nodes join. Costs are those that `npm run bench -- gossip` measured; give its last line as a file.
 *
 *   node bench/simulate-gossip.ts [--relays 10000] [--joins 20] [--bad 0.01] [--seed 1] [--costs FILE]
 *
 * What is simulated, event by event: the graph of eager links, announcements, fetches from the first who announced, the second choice
 * when that one is silent, checks on a processor that is busy with everything else, turns of those who answer and seal (the relay's
 * own code), blocks, looks at the chain. What is not: lazy links (they only help), full links, hosts that are slower than others.
 * A bad relay announces at once, gives nothing, and answers nobody: a dead one is milder. The last line is JSON.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { AnswerTurns } from '../host/relay/answer-turns.ts';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { sha256, toHex, utf8 } from '../lib/protocol/encoding.ts';
import type { GossipFigures } from './gossip.ts';

const { values } = parseArgs({
  options: {
    relays: { type: 'string', default: '10000' },
    joins: { type: 'string', default: '20' },
    bad: { type: 'string', default: '0.01' },
    seed: { type: 'string', default: '1' },
    costs: { type: 'string' },
  },
});
const RELAYS = Number(values.relays);
const JOINS = Number(values.joins);
const BAD = Number(values.bad);

/** Measured on the machine of the development: host/gossip/README.md has the table. */
const MEASURED = {
  checkMs: 6,
  /** All but the check: HTTP, JSON, the store, on both sides, for one relay and message, milliseconds. */
  carryMs: 25,
  sizes: { request: 18_734, withoutCollateral: 10_798, answer: 694, sealed: 2_514 },
  /** Ids, polls, announcements and HTTP's own lines for one relay and message, bytes. */
  talk: 11_600,
};
const costs = values.costs === undefined ? MEASURED : costsOf(JSON.parse(readFileSync(values.costs, 'utf8')));

/** The largest mesh is the one whose relays have most lazy links, so its figures are rather too high. */
function costsOf({ rows, sizes, checkMs }: GossipFigures): typeof MEASURED {
  const row = rows.at(-1)!;
  const body = sizes.withoutCollateral;
  // Requests and replies have some 350 bytes of lines besides, each counted at the one who calls and at the one who answers.
  const talk = Math.max(0, row.bytes - row.bodies * body) + row.requests * 700;
  return { checkMs, carryMs: Math.max(1, row.cpuMs - row.checks * checkMs), sizes, talk };
}

const EAGER = 6;
const ASK_MS = 5_000;
const POLL_MS = 1_000;
const GUEST_MS = 300;
const BLOCK_MS = 12_000;
const CONFIRMATIONS = 2;
const WINDOW = 50;
/** Requests a second that a public endpoint gives one caller; a host's line, bits a second; gas of a block, and of one join. */
const LIMITS = { rpcPerSecond: 10, bitsPerSecond: 20e6, blockGas: 36e6, joinGas: 99_695 };
/** Bodies that a relay gives one peer in a second, and one that can't be asked may send: RATES of http-carrier.ts. */
const PEER_RATES = { bodiesPerSecond: 64, pushedPerSecond: 32 };

/** mulberry32 */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
const random = randomOf(Number(values.seed));
const whole = (below: number): number => Math.floor(random() * below);

/** Who listens to whom: each to EAGER others, whom its operator chose at random. */
const listeners: number[][] = Array.from({ length: RELAYS }, () => []);
for (let relay = 0; relay < RELAYS; relay += 1) {
  const chosen = new Set<number>();
  while (chosen.size < EAGER) {
    const other = whole(RELAYS);
    if (other !== relay) chosen.add(other);
  }
  // A peer that is listened to listens too where operators know each other; else it is told: the same for how messages spread.
  for (const other of chosen) {
    listeners[other]!.push(relay);
    listeners[relay]!.push(other);
  }
}
const isBad = Array.from({ length: RELAYS }, () => random() < BAD);
/** One way between two relays, milliseconds: most are near, some across the world. */
const latencyOf = (): number => 15 + 135 * random() ** 2;

/** A heap of events by time. */
class Agenda {
  readonly #times: number[] = [];
  readonly #items: number[] = [];

  get size(): number {
    return this.#times.length;
  }

  push(time: number, item: number): void {
    const [times, items] = [this.#times, this.#items];
    let at = times.length;
    times.push(time);
    items.push(item);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (times[above]! <= time) break;
      times[at] = times[above]!;
      items[at] = items[above]!;
      at = above;
    }
    times[at] = time;
    items[at] = item;
  }

  pop(): [number, number] {
    const [times, items] = [this.#times, this.#items];
    const first: [number, number] = [times[0]!, items[0]!];
    const [time, item] = [times.pop()!, items.pop()!];
    const size = times.length;
    if (size === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= size) break;
      if (below + 1 < size && times[below + 1]! < times[below]!) below += 1;
      if (times[below]! >= time) break;
      times[at] = times[below]!;
      items[at] = items[below]!;
      at = below;
    }
    times[at] = time;
    items[at] = item;
    return first;
  }
}

interface Spread {
  /** When each relay has the message; infinite for those whom only bad ones would tell. */
  at: Float64Array;
  fetches: number;
  silent: number;
}

/** One message from one relay to all. @param busy share of a processor that is taken by everything else */
function spread(from: number, bytes: number, busy: number): Spread {
  const at = new Float64Array(RELAYS).fill(Number.POSITIVE_INFINITY);
  /** Until when a relay waits for whom it asked. */
  const asking = new Float64Array(RELAYS);
  const [agenda, ASKED] = [new Agenda(), RELAYS];
  let [fetches, silent] = [0, 0];
  const transfer = (bytes * 8 * 1000) / LIMITS.bitsPerSecond;
  const work = (costs.checkMs + costs.carryMs / 2) / Math.max(0.02, 1 - busy);
  const have = (relay: number, now: number) => {
    at[relay] = now;
    for (const other of listeners[relay]!)
      if (at[other]! > now) agenda.push(now + latencyOf(), other * 2 * ASKED + relay * 2);
  };
  have(from, 0);
  while (agenda.size > 0) {
    const [now, event] = agenda.pop();
    const relay = Math.floor(event / (2 * ASKED));
    const source = Math.floor((event % (2 * ASKED)) / 2);
    if (at[relay]! <= now) continue;
    // The body has arrived and is checked.
    if (event % 2 === 1) {
      have(relay, now);
      continue;
    }
    // An announcement: the body is asked of its source, unless another is being asked.
    if (asking[relay]! > now) {
      agenda.push(asking[relay]! + random(), event);
      continue;
    }
    if (isBad[source] && source !== from) {
      asking[relay] = now + ASK_MS;
      silent += 1;
      continue;
    }
    const arrives = now + 2 * latencyOf() + transfer + work * (0.5 + random());
    asking[relay] = arrives;
    fetches += 1;
    agenda.push(arrives, event + 1);
  }
  return { at, fetches, silent };
}

interface Join {
  /** Milliseconds from the node's request to its secret. */
  time: number;
  answers: number;
  seals: number;
  fetches: number;
  silent: number;
  spreadMs: number;
}

let clock = 0;
const keys = Array.from({ length: RELAYS }, (_, relay) =>
  toHex(sha256(utf8(`relay ${values.seed} ${relay}`))),
);
const nextBlock = (time: number, confirmations = 0): number =>
  (Math.floor(time / BLOCK_MS) + 1 + confirmations) * BLOCK_MS;

/** Who acts for a request, when each may see the event at `event`: those whose turn comes before they hear of another's. */
function act(name: string, event: number, held: Float64Array, base: number, bytes: number, busy: number) {
  const hash = toHex(sha256(utf8(`${name} ${values.seed}`)));
  const turns = keys.map((ownKey, relay) => {
    const delay = new AnswerTurns({
      ownKey,
      nodes: () => RELAYS,
      latency: () => 150,
      pollInterval: POLL_MS,
      now: () => clock,
    });
    // Blocks of the chain are seen to come slowly.
    delay.saw(0);
    clock += 10 * BLOCK_MS;
    delay.saw(10);
    clock -= 10 * BLOCK_MS;
    const seen = Math.max(event + random() * POLL_MS, base + held[relay]!);
    return { relay, at: seen + delay.delay(hash, WINDOW) + GUEST_MS / Math.max(0.02, 1 - busy) };
  });
  turns.sort((a, b) => a.at - b.at);
  const heard = new Float64Array(RELAYS).fill(Number.POSITIVE_INFINITY);
  let [count, first, fetches, silent, spreadMs] = [0, Number.POSITIVE_INFINITY, 0, 0, 0];
  for (const { relay, at } of turns) {
    // The node is asked at its turn: what comes while it works is too late.
    if (heard[relay]! <= at - GUEST_MS || at === Number.POSITIVE_INFINITY) continue;
    if (first + 60_000 < at) break;
    count += 1;
    if (isBad[relay]) continue;
    const made = spread(relay, bytes, busy);
    fetches += count === 1 || first === Number.POSITIVE_INFINITY ? made.fetches : 0;
    silent += made.silent;
    if (at < first) {
      first = at;
      spreadMs = quantile([...made.at].filter(Number.isFinite), 0.99);
    }
    for (let other = 0; other < RELAYS; other += 1)
      heard[other] = Math.min(heard[other]!, at + made.at[other]!);
  }
  return { count, heard, fetches, silent, spreadMs };
}

function join(nth: number, busy: number): Join {
  let requester = whole(RELAYS);
  while (isBad[requester]) requester = whole(RELAYS);
  const start = random() * BLOCK_MS;
  const request = spread(requester, costs.sizes.withoutCollateral, busy);
  const registered = nextBlock(start + 500, CONFIRMATIONS);
  const answer = act(`answer ${nth}`, registered, request.at, start, costs.sizes.answer, busy);
  const onboarded = nextBlock(answer.heard[requester]! + 500, CONFIRMATIONS);
  const sealed = act(`seal ${nth}`, onboarded, request.at, start, costs.sizes.sealed, busy);
  return {
    time: sealed.heard[requester]! - start,
    answers: answer.count,
    seals: sealed.count,
    fetches: request.fetches + answer.fetches + sealed.fetches,
    silent: request.silent + answer.silent + sealed.silent,
    spreadMs: request.at.reduce((most, at) => (Number.isFinite(at) ? Math.max(most, at) : most), 0),
  };
}

function quantile(numbers: readonly number[], part: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.POSITIVE_INFINITY;
}
const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/** What one node pays for one join: three messages, the looks at the chain that a join costs it, its share of the answers. */
const perJoin = {
  cpuMs: 3 * costs.carryMs + costs.checkMs + 2,
  bytes: costs.sizes.withoutCollateral + costs.sizes.answer + costs.sizes.sealed + 3 * costs.talk,
  /** The request once to archive it, once before sealing: onboard-handler.ts, seal-handler.ts. */
  rpc: 2,
};
/** Calls to the endpoint however few join: the head at each look, a block's hash and logs, the network's view every 3 s. */
const idleRpcPerMinute = 60_000 / POLL_MS + (3 * 60_000) / BLOCK_MS + 2 * 20;

/** Joins a minute at which each part is full. */
const falls = {
  'a processor of a relay': 60_000 / perJoin.cpuMs,
  'a line of 20 Mbit/s': (LIMITS.bitsPerSecond / 8) * (60 / perJoin.bytes),
  'an endpoint that gives 10 calls a second': (LIMITS.rpcPerSecond * 60 - idleRpcPerMinute) / perJoin.rpc,
  'bodies that one peer may fetch': (PEER_RATES.bodiesPerSecond * 60) / 3,
  'bodies that one peer may send': (PEER_RATES.pushedPerSecond * 60) / 3,
  'gas of a block, half of it': ((LIMITS.blockGas / 2 / LIMITS.joinGas) * 60_000) / BLOCK_MS,
};

print(`${RELAYS} relays, ${100 * BAD} % of them bad, ${JOINS} joins for each row, seed ${values.seed}`);
print('joins/min  cpu %   kB/s  rpc/s  answers  seals  bodies  spread s  join p50 s  p99 s');
const rows = [10, 100, 200].map((rate) => {
  const busy = Math.min(0.98, (rate * perJoin.cpuMs) / 60_000);
  const joins = Array.from({ length: JOINS }, (_, nth) => join(nth, busy));
  const times = joins.map(({ time }) => time / 1000);
  const row = {
    joinsPerMinute: rate,
    cpuPercent: 100 * busy,
    kBPerSecond: (rate * perJoin.bytes) / 60_000,
    rpcPerSecond: (idleRpcPerMinute + rate * perJoin.rpc) / 60,
    answers: mean(joins.map(({ answers }) => answers)),
    seals: mean(joins.map(({ seals }) => seals)),
    bodies: mean(joins.map(({ fetches }) => fetches / 3 / RELAYS)),
    spreadSeconds: mean(joins.map(({ spreadMs }) => spreadMs / 1000)),
    joinP50: quantile(times, 0.5),
    joinP99: quantile(times, 0.99),
    lost: times.filter((time) => !Number.isFinite(time)).length,
  };
  const cells = [
    row.cpuPercent,
    row.kBPerSecond,
    row.rpcPerSecond,
    row.answers,
    row.seals,
    row.bodies,
    row.spreadSeconds,
    row.joinP50,
    row.joinP99,
  ];
  print(
    [String(rate).padStart(9), ...cells.map((cell) => cell.toFixed(cell < 10 ? 2 : 1).padStart(8))].join(''),
  );
  return row;
});
const [first] = Object.entries(falls).toSorted(([, a], [, b]) => a - b);
print('', 'each part is full at so many joins a minute:');
for (const [part, rate] of Object.entries(falls)) print(`  ${String(Math.round(rate)).padStart(7)}  ${part}`);
print(`first falls: ${first![0]}`);
printJson({
  simulation: 'gossip',
  relays: RELAYS,
  bad: BAD,
  costs,
  perJoin,
  falls,
  firstFalls: first![0],
  rows,
});
