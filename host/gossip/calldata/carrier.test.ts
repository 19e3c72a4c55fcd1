/** The carrier's rounds, over an endpoint that does not give all that there is. */
import { afterEach, expect, test } from 'vitest';
import type { TransactionRequest } from '../../../lib/framework/handler.ts';
import { openStore } from '../../../lib/framework/store.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { chainHex, parseAddress, parseHex } from '../../../lib/protocol/hex.ts';
import { publishedTopic } from '../../../lib/protocol/publications-contract.ts';
import type { Exchange } from '../carrier.ts';
import { CalldataCarrier } from './carrier.ts';

const word = (value: number) => parseHex(value.toString(16).padStart(64, '0'));
const account = (value: number) => parseAddress(`0x${value.toString(16).padStart(40, '0')}`);
const OWN = { subject: word(1), message: { type: 'request' } };

let carrier: CalldataCarrier | undefined;
afterEach(async () => carrier?.close());

test('a publication that the endpoint never gives keeps the own request from nobody', async () => {
  const submitted: TransactionRequest[] = [];
  let asked = 0;
  carrier = new CalldataCarrier({
    after: 0,
    domain: { chainId: 1, contract: account(2) },
    store: openStore(':memory:'),
    log: { info() {}, warn() {} },
    chain: {
      rpc: {
        head: async () => ({ number: 10, hash: chainHex(word(10)) }) as never,
        rest: 0,
        logsOf: async () => [
          {
            ...{ blockNumber: 9, blockHash: chainHex(word(9)), logIndex: 0, data: '0x' },
            transactionHash: chainHex(word(90)),
            topics: [parseHex(publishedTopic), chainHex(OWN.subject), chainHex(word(3))],
          },
        ],
        transaction: async () => {
          asked += 1;
          throw new DstackError('RPC_REPLY', 'the reply is too large');
        },
        code: async () => '0x01',
        heads: { isQuiet: () => false, breaks: 0 },
      },
      transactions: {
        submit: (request) => void submitted.push(request),
        status: () => undefined,
        address: account(4),
      },
      nodes: () => 1,
      requestWindow: async () => 100,
      own: () => OWN as never,
      isOwn: () => true,
      pollMs: 60_000,
    },
  });
  carrier.attach({
    last: 0,
    onChain: () => [],
    idsAbout: () => [],
    parts: {
      note() {},
      atHand: () => ({ names: () => [] }),
      without: (message: object) => ({ message }),
    },
  } as unknown as Exchange);
  carrier.start();
  await expect.poll(() => submitted.length).toBe(1);
  expect(asked).toBe(1);
});
