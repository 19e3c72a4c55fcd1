/** The host: it watches the contract, brings the enclave what it has to know, and pays for what it answers. It decides nothing. */
import { runHost } from 'dstack/framework';
import { BidBook } from './bid-book.ts';

await runHost(({ app: { contract }, store }) => {
  const book = new BidBook(store, contract);
  return {
    apps: [{ contract, assemble: { close: (_, chain) => book.all(chain) } }],
    handlers: [book.handler()],
  };
});
const book = new BidBook(store, app.contract, startBlock);
const serving = serve({
  chain,
  enclave: enclaveAt(settings.enclaveUrl),
  store,
  log,
  apps: [{ contract: app.contract, assemble: { close: async (_, chain) => book.all(chain) } }],
  handlers: [book.handler()],
  startBlock,
  confirmations,
  pollInterval,
});
chain.start();
log.info({ contract: app.contract, payer: chain.address }, 'serving');
await stopSignal();
await serving.stop();
await chain.stop();
store.close();
