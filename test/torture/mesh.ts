/**
 * One round of the section `mesh`, as a process: `node test/torture/mesh.ts SEED`. Relays' gossip alone, many in this process, over real HTTP:
 * they know a few others at random; parts of them are cut off from each other and come back, and among their peers are liars of every
 * kind. When all is whole again, every relay has every message, checked once. The last line is the verdict as JSON.
 */
import { type FalsePeer, startFalsePeer } from '../../host/gossip/false-peer.fixture.ts';
import { numberOf, someKinds, someRequest } from '../../host/gossip/gossip.fixture.ts';
import { newMesh } from '../../host/gossip/mesh.fixture.ts';
import { messageId } from '../../host/gossip/message-kind.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { Random } from './random.ts';

export interface MeshVerdict {
  converged: boolean;
  /** Times that a part was cut off; messages that liars had a hand in. */
  partitions: number;
  lies: number;
  problems: string[];
}

const ASK_MS = 1_000;
/** Messages that no relay may take begin here. */
const FORGED = 1_000_000;
const PATIENCE_MS = 150_000;

export async function meshRound(seed: number, scale = 1): Promise<MeshVerdict> {
  const random = new Random(seed);
  const relays = random.between(6, Math.max(6, Math.round(14 * scale)));
  const count = Math.max(10, Math.round(random.between(30, 50) * scale));
  const liars = await Promise.all(
    Array.from({ length: random.between(1, Math.max(1, Math.round(5 * scale))) }, () => newLiar(random)),
  );
  /** Which part each relay is in at present. */
  let part = Array.from({ length: relays }, () => 0);
  const checked = new Map<string, number>();
  const graph = graphOf(relays, random);
  const toldOf = liars.map(
    () => new Set(Array.from({ length: relays }, (_, nth) => nth).filter(() => random.chance(0.4))),
  );
  const mesh = await newMesh({
    relays,
    kinds: someKinds(async (message) => {
      const n = numberOf(message);
      checked.set(messageId(message), 1 + (checked.get(messageId(message)) ?? 0));
      if (n >= FORGED) throw new DstackError('GOSSIP_SIGNATURE', 'not signed by the node');
      return message;
    }),
    peersOf: (nth) => graph[nth]!,
    furtherPeers: (nth) => liars.flatMap(({ peer }, liar) => (toldOf[liar]!.has(nth) ? [peer.url] : [])),
    isCut: (one, other) => part[one] !== part[other],
    carrier: { askMs: ASK_MS, lazyMs: 1_000 },
  });
  const verdict: MeshVerdict = { converged: false, partitions: 0, lies: 0, problems: [] };
  try {
    for (const { gossip } of mesh.hosts) gossip.start();
    for (let n = 1; n <= count; n += 1) {
      if (random.chance(0.15)) {
        part = part.map(() => random.between(0, 1));
        verdict.partitions += 1;
      } else if (random.chance(0.2)) part = part.map(() => 0);
      const message = someRequest(n);
      // A liar hears of it before anybody else does.
      for (const { hear } of liars) if (random.chance(0.7)) verdict.lies += hear(message);
      await random.pick(mesh.hosts).gossip.publish(message);
      await new Promise((resolve) => setTimeout(resolve, random.between(0, 200)));
    }
    part = part.map(() => 0);
    const held = () =>
      mesh.hosts.map(
        ({ gossip }) => new Set(gossip.messages.after(0, 10_000).map(({ message }) => numberOf(message))),
      );
    const isWhole = () => held().every((numbers) => numbers.size === count);
    for (const deadline = Date.now() + PATIENCE_MS; !isWhole() && Date.now() < deadline; )
      await new Promise((resolve) => setTimeout(resolve, 100));
    verdict.converged = isWhole();
    for (const [nth, numbers] of held().entries()) {
      const lacks = Array.from({ length: count }, (_, n) => n + 1).filter((n) => !numbers.has(n));
      if (lacks.length > 0) verdict.problems.push(`relay ${nth} lacks ${lacks.join(' ')}`);
      if ([...numbers].some((n) => n >= FORGED)) verdict.problems.push(`relay ${nth} took what was forged`);
    }
    // By each relay once, also by the one that publishes it, however many bodies cuts and liars cost.
    const most = Math.max(...checked.values());
    if (most > relays) verdict.problems.push(`a message was checked ${most} times by ${relays} relays`);
    return verdict;
  } finally {
    await mesh.close();
    await Promise.all(liars.map(({ peer }) => peer.close()));
  }
}

/** A ring, so that all can hear of everything once nothing is cut, and some further links. */
function graphOf(relays: number, random: Random): number[][] {
  return Array.from({ length: relays }, (_, nth) => {
    const others = new Set([(nth + 1) % relays]);
    while (random.chance(0.6)) others.add(random.between(0, relays - 1));
    others.delete(nth);
    return [...others];
  });
}

interface Liar {
  peer: FalsePeer;
  /** A message has been made; returns how many lies it will tell about it. */
  hear(message: ReturnType<typeof someRequest>): number;
}

/** One of the ways to lie, for as long as the round lasts. */
async function newLiar(random: Random): Promise<Liar> {
  const way = random.pick(['silent', 'missing', 'other', 'forged', 'one', 'ghosts', 'garbage'] as const);
  const ids: string[] = [];
  const messages: ReturnType<typeof someRequest>[] = [];
  const bodies = (asked: readonly string[]): { messages: unknown[]; missing: string[] } | undefined => {
    const known = messages.filter((message) => asked.includes(messageId(message)));
    const sent = known.map((message) => ({ message }));
    if (way === 'silent') return undefined;
    if (way === 'missing' || way === 'ghosts') return { messages: [], missing: [...asked] };
    if (way === 'other')
      return { messages: asked.map(() => ({ message: someRequest(FORGED - 1) })), missing: [] };
    if (way === 'garbage')
      return { messages: [{ message: { type: 'request' } }, { message: null }], missing: [] };
    return { messages: way === 'one' ? sent.slice(0, 1) : sent, missing: [] };
  };
  const peer = await startFalsePeer({ ids, bodies });
  return {
    peer,
    hear(message) {
      const n = numberOf(message);
      const said =
        way === 'forged'
          ? [someRequest(FORGED + n), message]
          : way === 'ghosts'
            ? [someRequest(2 * FORGED + n), someRequest(3 * FORGED + n)]
            : [message];
      messages.push(...said);
      ids.push(...said.map(messageId));
      return said.length;
    },
  };
}

if (import.meta.main) {
  const verdict = await meshRound(Number(process.argv[2] ?? '1'));
  console.log(JSON.stringify(verdict));
}
