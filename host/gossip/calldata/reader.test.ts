/** What publications can make a relay do, by an endpoint and publishers that are anything but honest. */
import { beforeEach, expect, test } from 'vitest';
import type { ContractLog } from '../../../lib/framework/handler.ts';
import { openStore } from '../../../lib/framework/store.ts';
import { to0x } from '../../../lib/protocol/encoding.ts';
import { DstackError, Retryable } from '../../../lib/protocol/errors.ts';
import { type Address, chainHex, parseAddress, parseHex } from '../../../lib/protocol/hex.ts';
import { encodePublish, publicationsAddress } from '../../../lib/protocol/publications-contract.ts';
import type { Exchange } from '../carrier.ts';
import { PublicationFinder } from './finder.ts';
import { Ledger } from './ledger.ts';
import { decodeMessage, encodeMessage } from './message-bytes.ts';
import { type Publication, Publications, type PublicationsRpc } from './publications.ts';
import { PublicationReader } from './reader.ts';

const word = (value: number) => parseHex(value.toString(16).padStart(64, '0'));
const account = (value: number) => parseAddress(`0x${value.toString(16).padStart(40, '0')}`);
const OWN = account(0xffff);
const SUBJECT = word(7);

/** An endpoint with publications in its blocks, that counts what it is asked. */
class Endpoint {
  readonly inputs = new Map<string, { to: Address; input: string }>();
  readonly logs: ContractLog[] = [];
  asked = { logs: 0, transactions: 0 };
  quiet = false;
  breaks = 0;

  publish(block: number, by: number, message = '0x01', subject = SUBJECT, to: Address = publicationsAddress) {
    const transactionHash = chainHex(word(1000 + this.logs.length));
    const input = encodePublish({
      subject: chainHex(subject),
      message: message as `0x${string}` & typeof SUBJECT,
    });
    this.inputs.set(transactionHash, { to, input });
    const publisher = chainHex(parseHex(by.toString(16).padStart(64, '0')));
    const topics = [chainHex(word(1)), chainHex(subject), publisher];
    this.logs.push({
      blockNumber: block,
      blockHash: chainHex(word(block)),
      transactionHash,
      logIndex: 0,
      topics,
      data: '0x',
    });
    return transactionHash;
  }

  get rpc(): PublicationsRpc {
    return {
      head: async () => ({ number: 0, hash: '' }) as Awaited<ReturnType<PublicationsRpc['head']>>,
      rest: 0,
      logsOf: async (_contract, from, to, topics) => {
        this.asked.logs += 1;
        return this.logs.filter(
          ({ blockNumber, topics: [, subject] }) =>
            blockNumber >= from && blockNumber <= to && topics[1]!.includes(subject!),
        );
      },
      transaction: async (hash) => {
        this.asked.transactions += 1;
        return this.inputs.get(hash);
      },
      code: async () => '0x',
      heads: { isQuiet: () => this.quiet, breaks: this.breaks },
    };
  }
}

let endpoint: Endpoint;
let useless: string[];
beforeEach(() => {
  endpoint = new Endpoint();
  useless = [];
});

function exchangeOf(accept: (value: unknown) => string): Exchange {
  const parts = { atHand: () => ({ whole: ({ message }: { message: unknown }) => message }) };
  const taken = async (value: unknown, source: string) => ({
    entry: { sequence: 1, id: source, message: { type: accept(value) } },
    fresh: true,
  });
  return {
    parts,
    accept: taken,
    subjectOf: (value: { about?: string }) => value.about ?? SUBJECT,
    isEarly: (_value: unknown, code: string) => code === 'GOSSIP_SEALED',
  } as unknown as Exchange;
}

const readerOf = (
  accept: (value: unknown) => string = () => 'answer',
  store = openStore(':memory:'),
  limits = {},
) => {
  const reader = new PublicationReader({
    exchange: exchangeOf(accept),
    publications: new Publications(endpoint.rpc),
    ledger: new Ledger(store),
    own: OWN,
    onUseless: (code) => useless.push(code),
    limits,
  });
  return { reader, store };
};
const asFound = (): Publication[] =>
  endpoint.logs.map(({ topics, transactionHash }) => ({
    subject: topics[1]!.slice(2),
    publisher: parseAddress(`0x${topics[2]!.slice(-40)}`),
    transaction: transactionHash,
  }));
const read = (reader: PublicationReader, head: number) => reader.read(head, undefined, () => false);
const isOpen = () => true;
const GOOD = encodeMessage({ message: { type: 'answer' } });

test('junk costs a call each, so many a block, and is read once, also by the process after', async () => {
  for (let nth = 0; nth < 100; nth += 1) endpoint.publish(1, 10 + nth);
  const { reader, store } = readerOf(undefined, undefined, { perBlock: 32, perSubject: 8 });
  reader.keep(asFound(), isOpen);
  await read(reader, 1);
  await read(reader, 1);
  expect(endpoint.asked.transactions).toBe(8);
  expect(useless).toEqual(Array.from({ length: 8 }, () => 'CALLDATA_MALFORMED'));
  for (let head = 2; head < 20; head += 1) await read(reader, head);
  expect(endpoint.asked.transactions).toBe(100);
  const again = readerOf(undefined, store).reader;
  again.keep(asFound(), isOpen);
  await read(again, 20);
  expect(endpoint.asked.transactions).toBe(100);
});

test('a publisher who floods is read as often as one who does not', async () => {
  for (let nth = 0; nth < 500; nth += 1) endpoint.publish(1, 10);
  endpoint.publish(2, 11, GOOD);
  const { reader } = readerOf();
  reader.keep(asFound(), isOpen);
  await read(reader, 2);
  expect([...reader.published(SUBJECT)]).toEqual(['answer']);
});

test('whoever has many requests, each with much junk, keeps none of another from being read', async () => {
  for (let subject = 100; subject < 140; subject += 1)
    for (let nth = 0; nth < 20; nth += 1) endpoint.publish(1, 10, '0x01', word(subject));
  endpoint.publish(2, 11, GOOD);
  const { reader } = readerOf();
  reader.keep(asFound(), isOpen);
  // All of them have a turn before any has a second one.
  await read(reader, 2);
  await read(reader, 3);
  expect([...reader.published(SUBJECT)]).toEqual(['answer']);
});

test('what is beyond the room for all is left out, and counted', async () => {
  for (let nth = 0; nth < 50; nth += 1) endpoint.publish(1, nth);
  const { reader } = readerOf(undefined, undefined, { waiting: 20 });
  reader.keep(asFound(), isOpen);
  reader.keep(asFound(), isOpen);
  expect(reader.waiting).toBe(20);
  expect(reader.counts.left).toBe(60);
  reader.keep([], () => false);
  expect(reader.waiting).toBe(0);
});

test('a message about something else than its event says is not looked at, nor one by another contract', async () => {
  endpoint.publish(1, 10, encodeMessage({ message: { type: 'answer', about: word(8) } }));
  endpoint.publish(1, 11, GOOD, SUBJECT, account(5));
  const hash = endpoint.publish(1, 12, GOOD);
  endpoint.inputs.set(hash, {
    to: publicationsAddress,
    input: encodePublish({ subject: chainHex(word(9)), message: GOOD }),
  });
  let accepted = 0;
  const { reader } = readerOf(() => {
    accepted += 1;
    return 'answer';
  });
  reader.keep(asFound(), isOpen);
  await read(reader, 1);
  expect(accepted).toBe(0);
  expect(useless).toEqual(['CALLDATA_OTHER', 'CALLDATA_OTHER', 'CALLDATA_OTHER']);
});

test('what the endpoint withholds, and what comes too early, is tried again, so often', async () => {
  const hash = endpoint.publish(1, 10, GOOD);
  const input = endpoint.inputs.get(hash)!;
  endpoint.inputs.delete(hash);
  let isEarly = true;
  const { reader } = readerOf(() => {
    if (isEarly) throw new DstackError('GOSSIP_SEALED', 'no answer is known');
    return 'sealed';
  });
  reader.keep(asFound(), isOpen);
  await read(reader, 1);
  endpoint.inputs.set(hash, input);
  await read(reader, 2);
  isEarly = false;
  await read(reader, 3);
  expect([...reader.published(SUBJECT)]).toEqual(['sealed']);
  expect(useless).toEqual([]);

  endpoint.publish(1, 11, GOOD);
  isEarly = true;
  reader.keep(asFound(), isOpen);
  for (let head = 4; head < 40; head += 1) await read(reader, head);
  expect(useless).toEqual(['CALLDATA_EARLY']);
});

test('while the chain can’t be read nothing is given up', async () => {
  endpoint.publish(1, 10, GOOD);
  let isDown = true;
  const { reader } = readerOf(() => {
    if (isDown) throw new Retryable('RPC_UNREACHABLE', 'no answer');
    return 'answer';
  });
  reader.keep(asFound(), isOpen);
  for (let head = 1; head < 20; head += 1) await expect(read(reader, head)).rejects.toThrow('no answer');
  isDown = false;
  await read(reader, 20);
  expect([...reader.published(SUBJECT)]).toEqual(['answer']);
});

test('own publications are not read', async () => {
  endpoint.publish(1, 0xffff, GOOD);
  const { reader } = readerOf();
  reader.keep(asFound(), isOpen);
  expect(reader.waiting).toBe(0);
});

test('a message that unpacks to more than any may have is refused before it does', () => {
  const bomb = encodeMessage({ message: { text: 'a'.repeat(10_000_000) } });
  expect(bomb.length).toBeLessThan(1_000);
  expect(() => decodeMessage(bomb)).toThrowError(/does not unpack/);
  expect(() => decodeMessage(to0x(Uint8Array.of(2, 1)))).toThrowError(
    expect.objectContaining({ code: 'CALLDATA_MALFORMED' }),
  );
});

test('quiet blocks are not asked about but now and then; a re-organisation is', async () => {
  const finder = new PublicationFinder(new Publications(endpoint.rpc));
  const subjects = new Set<string>([SUBJECT]);
  endpoint.quiet = true;
  endpoint.publish(90, 10, GOOD);
  endpoint.publish(90, 10, GOOD, word(8));
  expect(await finder.look(subjects, 100, 50)).toHaveLength(1);
  for (let head = 101; head <= 164; head += 1) await finder.look(subjects, head, 50);
  expect(endpoint.asked.logs).toBeLessThan(10);
  expect(endpoint.asked.logs).toBeGreaterThan(3);
  endpoint.publish(160, 11, GOOD);
  expect(await finder.look(subjects, 163, 50)).toHaveLength(1);
});
