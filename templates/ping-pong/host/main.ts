/** The host: it watches the contract, brings the enclave what it has to know, and pays for what it answers. It decides nothing. */
import { runHost } from 'dstack/framework';

await runHost(({ app: { contract } }) => ({ apps: [{ contract }] }));
