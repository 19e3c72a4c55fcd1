/** The host: it watches the contract, brings the enclave what it has to know, and pays for what it answers. It decides nothing. */
import { runHost } from 'dstack/framework';
import { BidBook } from './bid-book.ts';

await runHost(({ app: { contract }, store, startBlock }) => {
  const book = new BidBook(store, contract, startBlock);
  return {
    apps: [{ contract, assemble: { close: (_, chain) => book.all(chain) } }],
    handlers: [book.handler()],
  };
});
