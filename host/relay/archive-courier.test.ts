/** An archive that is made again from other relays' by records: all of it, nothing that the chain does not name, and nothing that is not what it says. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import type { AnswerMessage, RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { requestOf } from '../../lib/protocol/onboarding-messages.ts';
import {
  decodeArchived,
  decodeQuestion,
  encodeArchived,
  encodeNames,
  type RelayQuestion,
} from '../../lib/protocol/relay-questions.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { newAnswer, requestOver, SECRET, spoiledCopy } from '../../test/support/guest.ts';
import type { AskablePeer } from '../gossip/carrier.ts';
import { Archive, nameOf } from './archive.ts';
import { type ArchiveBounds, ArchiveCourier } from './archive-courier.ts';
import { RelayDesk } from './desk.ts';

const DOMAIN = { chainId: 1, contract: parseAddress(`0x${'1'.padStart(40, '0')}`) };
const block = { number: 7, hash: sha256(utf8('block')) };

interface Onboarding {
  request: RequestMessage;
  answer: AnswerMessage;
}
async function onboarding(): Promise<Onboarding> {
  const request = requestOver(DOMAIN, block, (await newKemKeyPair()).publicKey);
  return { request, answer: await newAnswer(DOMAIN, request) };
}
const onboarded = await Promise.all(Array.from({ length: 3 }, onboarding));
/** Nobody registered it. */
const stranger = await onboarding();
const allowed = utf8('{"network":"allowed"}');
const former = utf8('{"network":"of before, which the answers name"}');

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-archive-courier-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** What the contract shows. */
const chain = {
  domain: DOMAIN,
  foresee() {},
  recent: async () => ({
    view: { networkKey: networkKey(SECRET, 1).address, epoch: 1, requestWindow: 50, onboarded: true },
    head: 9,
  }),
  async request(hash: string): Promise<RequestView> {
    const found = onboarded.find(({ request }) => toHex(requestOf(request).hash) === hash);
    return {
      state: found === undefined ? 'none' : 'answered',
      node: DOMAIN.contract,
      blockNumber: 7n,
      expiresAfter: 57n,
      epoch: 1,
      answerHash: found?.answer.answerHash ?? parseHex('00'.repeat(32)),
    };
  },
  isConfigAllowed: async (config: string) => config === toHex(sha256(allowed)),
};

function archiveOf(name: string, onboardings: readonly Onboarding[] = []): Archive {
  const archive = new Archive(join(root, name));
  for (const { request, answer } of onboardings) {
    archive.keep(request);
    archive.keep(answer);
  }
  return archive;
}

type Change = (answer: Uint8Array, question: RelayQuestion) => Uint8Array;
function relay(name: string, archive: Archive, change: Change = (answer) => answer) {
  const desk = new RelayDesk({ archive, files: undefined });
  const asked: RelayQuestion[] = [];
  const peer: AskablePeer & { asked: RelayQuestion[] } = {
    peer: `records://${name}`,
    asked,
    async ask(what) {
      const question = decodeQuestion(what);
      asked.push(question);
      return change((await desk.answer(what)) ?? new Uint8Array(), question);
    },
  };
  return peer;
}

function courier(
  archive: Archive,
  peers: readonly AskablePeer[],
  bounds: Partial<ArchiveBounds> = {},
  network = chain,
) {
  const outcomes: string[] = [];
  const one = new ArchiveCourier({
    archive,
    network,
    askable: () => peers,
    metrics: { count: (_, __, labels) => void outcomes.push(labels!.outcome!) },
    log: { info() {}, warn() {} },
    bounds,
  });
  return { look: () => one.look(), outcomes };
}

const requestName = ({ request }: Onboarding): string => nameOf(request);

test('what others have is here afterwards, byte for byte: requests, answers and what the chain names of the rest', async () => {
  const a = archiveOf('a', onboarded.slice(0, 2));
  const b = archiveOf('b', onboarded.slice(1));
  a.keepConfig(allowed);
  const c = archiveOf('c');
  const peers = [relay('a', a), relay('b', b)];
  const { look, outcomes } = courier(c, peers);
  await look();
  const all = [...new Set([...a.list(), ...b.list()])].sort();
  expect(c.list()).toEqual(all);
  expect(outcomes).toEqual(all.map(() => 'taken'));
  for (const name of all) expect(c.read(name)).toBe(a.read(name) ?? b.read(name));
  // They are asked again after an hour.
  const before = peers.map(({ asked }) => asked.length);
  await look();
  expect(peers.map(({ asked }) => asked.length)).toEqual(before);
});

test('what the chain does not name is not taken, and who names too much of it is gone through no further', async () => {
  const a = archiveOf('a', [...onboarded, stranger]);
  a.keepConfig(utf8('{"network":"another"}'));
  const b = archiveOf('b');
  const first = courier(b, [relay('a', a)]);
  await first.look();
  expect(b.list()).toHaveLength(6);
  expect(b.list()).not.toContain(nameOf(stranger.request));
  // Its list never ends.
  let count = 0;
  const madeUp = () => `request-${String(count++).padStart(64, '0')}-${'0'.repeat(16)}.json`;
  const liar = relay('liar', archiveOf('liar'), (answer, question) =>
    question.kind === 'names' ? encodeNames(Array.from({ length: 100 }, madeUp)) : answer,
  );
  const second = courier(archiveOf('c'), [liar], { strangers: 50 });
  await second.look();
  await second.look();
  expect(second.outcomes).toEqual(['ARCHIVE_STRANGERS']);
  expect(liar.asked).toHaveLength(1);
});

test('who names versions of one thing without end is gone through no further', async () => {
  let count = 0;
  const prefix = requestName(onboarded[0]!).slice(0, -'0123456789abcdef.json'.length);
  const version = () => `${prefix}${(count++).toString(16).padStart(16, '0')}.json`;
  const liar = relay('liar', archiveOf('liar'), (answer, question) => {
    if (question.kind !== 'names') return answer;
    // No later than this a list that is gone through for ever is told from one that is not.
    return encodeNames(count > 10_000 ? [] : Array.from({ length: 100 }, version));
  });
  const { look, outcomes } = courier(archiveOf('b'), [liar], { strangers: 50 });
  await look();
  expect(outcomes).toEqual(['ARCHIVE_STRANGERS']);
});

test('a relay that gives a name now and then keeps this one from asking others for no longer than so long', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const a = archiveOf('a', onboarded);
    let count = 0;
    const slow = relay('slow', archiveOf('slow'), (answer, question) => {
      vi.advanceTimersByTime(20_000);
      if (question.kind !== 'names' || count > 1_000) return answer;
      return encodeNames([`answer-${String(count++).padStart(64, '0')}-${'0'.repeat(16)}.json`]);
    });
    const b = archiveOf('b');
    const { look, outcomes } = courier(b, [slow, relay('a', a)]);
    await look();
    expect(slow.asked.length).toBeLessThan(50);
    expect(outcomes[0]).toBe('ARCHIVE_SLOW');
    expect(b.list()).toEqual(a.list());
  } finally {
    vi.useRealTimers();
  }
});

test('a file that comes in parts of a byte is refused at the first', async () => {
  const a = archiveOf('a', [victim]);
  const peer = relay('a', a, (answer, question) => {
    if (question.kind !== 'archived') return answer;
    const { length, bytes } = decodeArchived(answer);
    return encodeArchived({ length, bytes: bytes.subarray(0, 1) });
  });
  const { look, outcomes } = courier(archiveOf('b'), [peer]);
  await look();
  expect(outcomes).toEqual(['RELAY_ANSWER']);
  expect(peer.asked.filter(({ kind }) => kind === 'archived').length).toBeLessThan(5);
});

test('of the network.jsons that a relay names the chain is asked of a few', async () => {
  let asked = 0;
  const counted = {
    ...chain,
    isConfigAllowed: async (config: string) => {
      asked += 1;
      return chain.isConfigAllowed(config);
    },
  };
  const a = archiveOf('a');
  for (let i = 0; i < 5; i += 1) a.keepConfig(utf8(`{"network":"made up ${i}"}`));
  await courier(archiveOf('b'), [relay('a', a)], { configs: 2 }, counted).look();
  expect(asked).toBe(2);
});

test('a network.json that is allowed no more is taken because answers name it', async () => {
  const config = toHex(sha256(former));
  const answer = { ...onboarded[0]!.answer, config: parseHex(config) };
  const a = archiveOf('a');
  a.keepConfig(former);
  const b = archiveOf('b');
  await courier(b, [relay('a', a)]).look();
  expect(b.list()).toEqual([]);
  b.keep(answer);
  await courier(b, [relay('a', a)]).look();
  expect(b.list()).toContain(`config-${config}.json`);
});

const replaced =
  (name: string, text: string): Change =>
  (answer, question) => {
    if (question.kind !== 'archived' || question.name !== name || answer.length === 0) return answer;
    return encodeArchived({ length: utf8(text).length, bytes: utf8(text) });
  };
const victim = onboarded[0]!;
const altered = (change: Partial<RequestMessage>): string => JSON.stringify({ ...victim.request, ...change });

test.each<[string, string]>([
  ['a request with another quote', altered({ quote: spoiledCopy(victim.request).quote })],
  ['a request of another network', altered({ chainId: 2 })],
  ['another request', JSON.stringify(onboarded[1]!.request)],
  ['no JSON', 'nothing'],
])(
  '%s in the place of one is refused, its relay is left, and another gives the good one',
  async (_, text) => {
    const a = archiveOf('a', onboarded);
    const liar = relay('liar', a, replaced(requestName(victim), text));
    const b = archiveOf('b');
    const { look, outcomes } = courier(b, [liar, relay('a', a)]);
    await look();
    expect(outcomes).toContain('ARCHIVE_ITEM');
    expect(b.list()).toEqual(a.list());
    for (const name of a.list()) expect(b.read(name)).toBe(a.read(name));
    const before = liar.asked.length;
    await look();
    expect(liar.asked).toHaveLength(before);
  },
);

test('a version that is what its name says, and not what admission lets in, is refused too', async () => {
  const spoiled = spoiledCopy(victim.request);
  const a = archiveOf('a');
  a.keep(spoiled);
  const forged = { ...victim.answer, signature: onboarded[1]!.answer.signature };
  const other = archiveOf('other');
  other.keep(forged);
  const b = archiveOf('b');
  const { look, outcomes } = courier(b, [relay('a', a), relay('other', other)]);
  await look();
  expect(outcomes).toEqual(['GOSSIP_QUOTE', 'GOSSIP_SIGNATURE']);
  expect(b.list()).toEqual([]);
});

test('what a relay names and does not give is said, and all else is taken', async () => {
  const a = archiveOf('a', onboarded);
  const withheld = requestName(victim);
  const peer = relay('a', a, (answer, question) =>
    question.kind === 'archived' && question.name === withheld ? new Uint8Array() : answer,
  );
  const b = archiveOf('b');
  const { look, outcomes } = courier(b, [peer]);
  await look();
  expect(outcomes.filter((one) => one === 'ARCHIVE_WITHHELD')).toHaveLength(1);
  expect(b.list()).toEqual(a.list().filter((name) => name !== withheld));
});

test('of one thing a relay gives two versions at most', async () => {
  const a = archiveOf('a');
  const bytes = JSON.stringify(victim.answer);
  for (let i = 0; i < 5; i += 1) {
    const signed = await newAnswer(DOMAIN, victim.request);
    a.keep({ ...signed, measurement: parseHex(`${i}`.padStart(64, '0')) });
  }
  expect(bytes.length).toBeGreaterThan(0);
  const asked = relay('a', a);
  await courier(archiveOf('b'), [asked]).look();
  expect(asked.asked.filter(({ kind }) => kind === 'archived')).toHaveLength(2);
});

test('forged answers of a former epoch, whose key is in events only, leave room for the good one of another relay', async () => {
  const former = {
    ...chain,
    recent: async () => {
      const { view, head } = await chain.recent();
      return { view: { ...view, epoch: 2 }, head };
    },
  };
  const forger = archiveOf('forger');
  for (let i = 0; i < 20; i += 1)
    forger.keep({ ...victim.answer, measurement: parseHex(`${i}`.padStart(64, '0')) });
  const peers = [relay('forger', forger)];
  const b = archiveOf('b');
  const { look } = courier(b, peers, { again: 0 }, former);
  for (let hours = 0; hours < 10; hours += 1) await look();
  expect(b.list()).toHaveLength(2);
  peers.push(relay('a', archiveOf('a', [victim])));
  await look();
  expect(b.list()).toContain(nameOf(victim.answer));
});

test('a file of many parts comes whole, and one that grows on its way is refused', async () => {
  const a = archiveOf('a', [victim]);
  const [name] = a.list('request-') as [string];
  // As an earlier release, or a person, may have spelt it.
  const text = `${readFileSync(join(root, 'a', name), 'utf8')}${' '.repeat(200_000)}`;
  writeFileSync(join(root, 'a', name), text);
  const b = archiveOf('b');
  await courier(b, [relay('a', a)]).look();
  expect(readdirSync(join(root, 'b'))).toHaveLength(2);
  let calls = 0;
  const grows = relay('grows', a, (answer, question) =>
    question.kind !== 'archived' || question.name !== name
      ? answer
      : encodeArchived({ ...decodeArchived(answer), length: text.length + calls++ }),
  );
  const second = courier(archiveOf('c'), [grows]);
  await second.look();
  expect(second.outcomes).toContain('RELAY_ANSWER');
});
