/** The rounds of each section. Each starts a network, makes trouble, ends it, and then checks the outcome. */
import { type Lie, type LyingRpc, startLyingRpc } from '../support/lying-rpc.ts';
import { type Arena, type Host, tail } from './arena.ts';
import { evict, outsider, poverty, reorg, spike } from './chain-trouble.ts';
import { kills } from './kills.ts';
import { LIES } from './lies.ts';
import { strangers } from './strangers.ts';
import { judge, type Verdict } from './verdict.ts';

/** By name, as `--only` takes them. */
export const sections: Readonly<Record<string, (arena: Arena) => Promise<Verdict>>> = {
  kills,
  reorgs,
  rpc,
  races,
  orphans,
  fees,
  gossip,
};

/**
 * Two nodes join while blocks are replaced under them, faster than anything can become final; and when they have joined,
 * everything since the bootstrap is replaced at once.
 */
async function reorgs(arena: Arena): Promise<Verdict> {
  const first = await arena.firstHost();
  arena.start(first);
  const second = await arena.host({ peers: [first] });
  const third = await arena.host({ peers: [first, second] });
  for (const host of [second, third]) arena.start(host);
  const enough = arena.trouble([300, 1_500], () => reorg(arena, arena.random.chance(0.2) ? 40 : 6));
  await arena.until('enough of them', async () => arena.counts.reorgs >= arena.some(20), 45_000);
  await enough.end();
  await allJoined(arena, [second, third]);
  await reorg(arena, 1_000);
  await arena.calm();
  return judge(arena);
}

/** Every relay reaches the chain through an endpoint that misbehaves in one way after another. */
async function rpc(arena: Arena): Promise<Verdict> {
  const proxies: LyingRpc[] = [];
  const proxied = async (): Promise<{ rpcUrl: string }> => {
    const proxy = await startLyingRpc(arena.network.anvil.url);
    proxies.push(proxy);
    return { rpcUrl: proxy.url };
  };
  try {
    const first = await arena.host({ role: 'bootstrap', ...(await proxied()) });
    await arena.network.allow(first.node);
    await arena.network.bootstrap(first.node);
    await arena.startBlocks();
    arena.start(first);
    const second = await arena.host({ peers: [first], ...(await proxied()) });
    arena.start(second);
    for (const proxy of proxies) arena.trouble([50, 700], () => misbehave(arena, proxy));
    await arena.until('some lies', async () => arena.counts.lies >= arena.some(12), 30_000);
    await arena.calm();
    return await judge(arena);
  } finally {
    for (const proxy of proxies) proxy.stop();
  }
}

async function misbehave(arena: Arena, proxy: LyingRpc): Promise<void> {
  const { lie, swallows } = arena.random.pick(LIES)(arena.random);
  proxy.lie = lie;
  proxy.swallows = swallows ?? (() => false);
  arena.counts.lies += 1;
  await new Promise((resolve) => setTimeout(resolve, arena.random.between(200, 1_500)));
  proxy.lie = honest;
  proxy.swallows = () => false;
}
const honest: Lie = (_, reply) => reply;

/** Two nodes have the secret, and both see every request; relays of both sides die at random meanwhile. */
async function races(arena: Arena): Promise<Verdict> {
  const first = await arena.firstHost();
  arena.start(first);
  const second = await arena.host({ peers: [first] });
  arena.start(second);
  await allJoined(arena, [second]);
  const onboarders = [first, second];
  const requesters = await Promise.all(
    Array.from({ length: arena.some(5) }, () => arena.host({ peers: onboarders })),
  );
  for (const host of requesters) arena.start(host);
  arena.trouble([800, 3_000], () => arena.killAndRestart(arena.random.pick(arena.hosts)));
  await allJoined(arena, requesters);
  await arena.calm();
  arena.counts.races += racesBetween(first, second);
  return judge(arena);
}

/**
 * The node that answers dies for good between its answer and the sealed secret, mostly before the answer is on chain: another
 * one, whose relay was down then, makes the same bytes.
 */
async function orphans(arena: Arena): Promise<Verdict> {
  const first = await arena.firstHost();
  arena.start(first);
  const second = await arena.host({ peers: [first] });
  arena.start(second);
  await allJoined(arena, [second]);
  const requester = await arena.host({ peers: [first, second] });
  await second.relay.kill();
  arena.start(requester);
  const answers = () => first.relay.log().split('our own node answered a request').length;
  const before = answers();
  await arena.until('an answer', async () => answers() > before);
  const bury = async () => {
    await arena.until('the answer to be stored', async () =>
      requester.relay.log().includes('an answer arrived'),
    );
    await arena.bury(first);
    if (arena.random.chance(0.5)) await arena.killAndRestart(requester);
  };
  if (arena.random.chance(0.8)) await arena.withoutBlocks(bury);
  else await bury();
  arena.start(second);
  await allJoined(arena, [requester]);
  await arena.calm();
  return judge(arena);
}

/** Requests that both handed to their own nodes. */
function racesBetween(one: Host, other: Host): number {
  const handed = (host: Host): Set<string> =>
    new Set(
      [...host.relay.log().matchAll(/"request":"(0x[0-9a-f]{64})"[^\n]*handing a request/g)].map(
        (match) => match[1]!,
      ),
    );
  return handed(one).intersection(handed(other)).size;
}

/** Fees jump, pools drop transactions, money runs out, and someone else uses the gas keys. */
async function fees(arena: Arena): Promise<Verdict> {
  const first = await arena.firstHost();
  arena.start(first);
  const second = await arena.host({ peers: [first] });
  const third = await arena.host({ peers: [first, second] });
  for (const host of [second, third]) arena.start(host);
  const payers = [second, third];
  arena.trouble([200, 1_500], () => spike(arena));
  arena.trouble([100, 900], () => evict(arena));
  arena.trouble([500, 3_000], () => outsider(arena, arena.random.pick(payers)));
  arena.trouble([1_000, 4_000], () => poverty(arena, arena.random.pick(payers)));
  arena.trouble([1_000, 4_000], () => reorg(arena, 4));
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  await arena.calm();
  return judge(arena);
}

/** Strangers do all that they can to every relay, from before the first request on; nodes join all the same, while it lasts. */
async function gossip(arena: Arena): Promise<Verdict> {
  const first = await arena.firstHost();
  arena.start(first);
  const trouble = strangers(arena);
  const second = await arena.host({ peers: [first] });
  const third = await arena.host({ peers: [second] });
  for (const host of [second, third]) arena.start(host);
  try {
    await allJoined(arena, [second, third]);
    const late = await arena.host({ peers: [third] });
    arena.start(late);
    await allJoined(arena, [late]);
    await arena.until('enough of them', async () => arena.counts.strangers >= arena.some(300), 45_000);
    await arena.calm();
    return await judge(arena);
  } finally {
    trouble.end();
  }
}

async function allJoined(arena: Arena, hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) {
    const joined = await arena.until(`${host.name} to join`, () => arena.isJoined(host));
    if (!joined) console.error(tail(host));
  }
}
