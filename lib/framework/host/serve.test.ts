/** Handlers of an author that wait for what never comes. */
import { expect, test } from 'vitest';
import { parseAddress, parseHex } from '../../protocol/hex.ts';
import type { ContractLog, Verdict } from '../handler.ts';
import { openStore } from '../store.ts';
import type { ContractHandler } from './host.ts';
import { serve } from './serve.ts';

const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const word = (n: number) => parseHex(`0x${n.toString(16).padStart(64, '0')}`);
const event: ContractLog = {
  ...{
    blockNumber: 1,
    blockHash: word(1),
    transactionHash: word(1),
    logIndex: 0,
    topics: [word(7)],
    data: '0x',
  },
};

/** With methods of its own class, not of each object. */
class Hanging implements ContractHandler<string> {
  readonly contract = contract;
  readonly name = 'hanging';
  readonly topic = word(7);
  #began = 0;
  get began(): number {
    return this.#began;
  }
  decode(): string {
    return 'event';
  }
  request(): Promise<Verdict> {
    this.#began += 1;
    return new Promise(() => {});
  }
  settle(): Promise<[]> {
    return Promise.resolve([]);
  }
}

test('a handler that hangs does not keep the host from ending', async () => {
  const store = openStore(':memory:');
  const hanging = new Hanging();
  const chain = {
    chainId: 1,
    logsOf: () => ({
      head: async () => ({ number: 2, hash: word(2) }),
      blockHash: async (block: number) => word(block),
      logs: async () => [event],
    }),
  };
  const log = { info: () => {}, warn: () => {} };
  const enclave = { request: async () => ({}) };
  const serving = serve({
    ...{ store, log, enclave, startBlock: 0, pollInterval: 5, handlers: [hanging] },
    chain: chain as never,
  });
  await expect.poll(() => hanging.began).toBe(1);
  await serving.stop();
  expect(serving.status()[contract.toLowerCase()]?.open).toMatchObject([{ handler: 'hanging' }]);
  store.close();
});
