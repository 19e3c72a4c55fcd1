/** What a host pays for: when, how often, and for whom. */
import { beforeEach, expect, test } from 'vitest';
import type { TransactionRequest } from '../../../lib/framework/handler.ts';
import { openStore } from '../../../lib/framework/store.ts';
import { parseAddress, parseHex } from '../../../lib/protocol/hex.ts';
import {
  decodePublish,
  publicationsAddress,
  publicationsDeployer,
} from '../../../lib/protocol/publications-contract.ts';
import type { Exchange } from '../carrier.ts';
import type { Message } from '../message-kind.ts';
import { Ledger } from './ledger.ts';
import { decodeMessage } from './message-bytes.ts';
import { type OwnRequest, PublicationSender } from './sender.ts';

const word = (value: number) => parseHex(value.toString(16).padStart(64, '0'));
const OWN: OwnRequest = { subject: word(1), message: { type: 'request', collateral: 'much' } };

let submitted: TransactionRequest[];
let isDeployed: boolean;
/** What is held, by what it is about; and what others have published. */
let held: Map<string, Message[]>;
let published: Map<string, Set<string>>;
let ownBefore: Set<string>;
beforeEach(() => {
  submitted = [];
  isDeployed = true;
  held = new Map();
  published = new Map();
  ownBefore = new Set();
});

function senderOf(after: number, store = openStore(':memory:'), { nodes = 1, account = 0x11 } = {}) {
  const exchange = {
    idsAbout: (subject: string) => (held.get(subject) ?? []).map((_, at) => `${subject} ${at}`),
    get: (id: string) => {
      const [subject, at] = id.split(' ');
      return { message: held.get(subject!)![Number(at)]! };
    },
    parts: {
      note() {},
      atHand: () => ({ names: () => ['aaaaaaaaaaaaaaaa'] }),
      without: ({ collateral: _, ...rest }: Message) => ({
        message: rest,
        without: { collateral: 'aaaaaaaaaaaaaaaa' },
      }),
    },
  } as unknown as Exchange;
  return new PublicationSender({
    exchange,
    publications: { isDeployed: async () => isDeployed },
    reader: {
      published: (subject) => published.get(subject) ?? new Set(),
      subjects: () => [...published.keys()],
    },
    ledger: new Ledger(store),
    transactions: {
      submit: (request) => void submitted.push(request),
      status: () => undefined,
      address: parseAddress(`0x${account.toString(16).padStart(40, '0')}`),
    },
    nodes: () => nodes,
    isOwn: (subject) => ownBefore.has(subject),
    contract: parseAddress(`0x${'22'.repeat(20)}`),
    after,
    log: { info() {}, warn() {} },
  });
}
const at = (head: number, own: OwnRequest | undefined, open = [...published.keys()]) => ({
  head,
  window: 100,
  own,
  open: new Set([...(own === undefined ? [] : [own.subject]), ...open]),
});
/** What was submitted, by type. */
const sent = () =>
  submitted.map(({ to, data }) => {
    if (to === publicationsDeployer) return 'the contract';
    expect(to).toBe(publicationsAddress);
    const { message } = decodeMessage(decodePublish(data).message);
    const { type, collateral } = message as Message;
    return `${String(type)}${collateral === undefined ? '' : ', whole'}`;
  });

test('the own request is paid for when others had their time, once, also across restarts', async () => {
  const store = openStore(':memory:');
  const sender = senderOf(5, store);
  for (let head = 100; head < 105; head += 1) await sender.send(at(head, OWN));
  expect(sent()).toEqual([]);
  for (let head = 105; head < 120; head += 1) await sender.send(at(head, OWN));
  expect(sent()).toEqual(['request']);
  const again = senderOf(5, store);
  for (let head = 120; head < 140; head += 1) await again.send(at(head, OWN));
  expect(sent()).toEqual(['request']);
});

test('it is published with all its parts where nobody has answered for half a window, and not otherwise', async () => {
  const sender = senderOf(0);
  for (let head = 100; head <= 200; head += 1) await sender.send(at(head, OWN));
  expect(sent()).toEqual(['request', 'request, whole']);
  submitted = [];
  // A copy of the request, by whoever likes, is no answer.
  published.set(OWN.subject, new Set(['request']));
  const copied = senderOf(0);
  for (let head = 100; head <= 200; head += 1) await copied.send(at(head, OWN, []));
  expect(sent()).toEqual(['request', 'request, whole']);
  submitted = [];
  const answered = senderOf(0);
  published.set(OWN.subject, new Set(['answer']));
  ownBefore.add(OWN.subject);
  for (let head = 100; head <= 200; head += 1) await answered.send(at(head, OWN));
  expect(sent()).toEqual(['request']);
});

test('what is held about a published request of another is published, once, and nothing that somebody has', async () => {
  const store = openStore(':memory:');
  published.set(word(2), new Set(['request', 'answer']));
  held.set(
    word(2),
    ['request', 'answer', 'sealed', 'sealed'].map((type) => ({ type })),
  );
  held.set(word(3), [{ type: 'answer' }]);
  const sender = senderOf(0, store);
  for (let head = 100; head < 110; head += 1) await sender.send(at(head, undefined));
  const again = senderOf(0, store);
  for (let head = 110; head < 120; head += 1) await again.send(at(head, undefined));
  expect(sent()).toEqual(['sealed']);
});

test('nothing is published about a request that is over, nor for others about an own one of before', async () => {
  for (const subject of [word(2), word(3)]) {
    published.set(subject, new Set(['request']));
    held.set(subject, [{ type: 'answer' }]);
  }
  ownBefore.add(word(3));
  const sender = senderOf(0);
  for (let head = 100; head < 110; head += 1) await sender.send(at(head, undefined, [word(3)]));
  expect(sent()).toEqual([]);
});

test('who publishes an answer has nobody pay for the request, nor for what nobody asked for in this way', async () => {
  published.set(word(2), new Set(['answer']));
  published.set(word(3), new Set(['answer', 'request']));
  for (const subject of [word(2), word(3)])
    held.set(
      subject,
      ['request', 'answer', 'sealed'].map((type) => ({ type })),
    );
  const sender = senderOf(0);
  for (let head = 100; head < 110; head += 1) await sender.send(at(head, undefined));
  expect(sent()).toEqual(['sealed']);
  submitted = [];
  published.set(word(3), new Set(['sealed']));
  published.set(word(4), new Set(['request']));
  held.set(word(4), [{ type: 'request', collateral: 'other' }]);
  for (let head = 110; head < 120; head += 1) await sender.send(at(head, undefined));
  expect(sent()).toEqual([]);
});

test('however many hosts there are, few pay for the same answer', async () => {
  const hosts = Array.from({ length: 100 }, (_, nth) =>
    senderOf(0, openStore(':memory:'), { nodes: 100, account: 1000 + nth }),
  );
  let most = 0;
  for (let nth = 2; nth < 12; nth += 1) {
    submitted = [];
    published = new Map([[word(nth), new Set(['request'])]]);
    held.set(word(nth), [{ type: 'answer' }]);
    let seenAt = Number.POSITIVE_INFINITY;
    for (let head = 100; head < 130; head += 1) {
      // What one block has, the others read two blocks later.
      if (head >= seenAt + 2) published.get(word(nth))!.add('answer');
      for (const host of hosts) await host.send(at(head, undefined));
      if (submitted.length > 0) seenAt = Math.min(seenAt, head);
    }
    expect(submitted.length).toBeGreaterThan(0);
    most = Math.max(most, submitted.length);
  }
  expect(most).toBeLessThan(12);
});

test('while what can be sent is waited for, nothing of what may be paid for others is used up', async () => {
  isDeployed = false;
  published.set(word(2), new Set(['request']));
  held.set(word(2), [{ type: 'answer' }]);
  const sender = senderOf(0);
  for (let head = 100; head < 130; head += 1) await sender.send(at(head, undefined));
  submitted = [];
  isDeployed = true;
  await sender.send(at(130, undefined));
  expect(sent()).toEqual(['answer']);
});

test('however many ask, a host pays for sixteen messages at once', async () => {
  for (let nth = 2; nth < 50; nth += 1) {
    published.set(word(nth), new Set(['request']));
    held.set(word(nth), [{ type: 'answer' }]);
  }
  const sender = senderOf(0);
  for (let head = 100; head < 110; head += 1) await sender.send(at(head, undefined));
  expect(sent()).toHaveLength(16);
});

test('nothing is sent to an address without code: the contract is created first', async () => {
  isDeployed = false;
  const sender = senderOf(0);
  await sender.send(at(100, OWN));
  expect(sent()).toEqual(['the contract']);
  isDeployed = true;
  await sender.send(at(101, OWN));
  expect(sent()).toEqual(['the contract', 'request']);
});
