/** The host: it watches the contract, brings the enclave what it has to know, and pays for what it answers. It decides nothing. */
import { runHost } from 'dstack/framework';
import { newestState } from './newest-state.ts';

await runHost(({ app: { contract }, chain }) => {
  const state = () => newestState(chain, contract);
  return { apps: [{ contract, assemble: { deposit: state, transfer: state, withdraw: state } }] };
});
