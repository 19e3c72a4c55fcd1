/** The certificate of the store for clients outside, as the replicator gives it at the store's socket, and what it refuses to give. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { StoreCertificateReply, sockets } from '../../lib/protocol/sockets.ts';
import { newKey, spkiOf } from '../../test/support/authority.ts';
import { authorityCertificate } from './app-certificate.ts';
import { keyring } from './keyring.ts';
import { secretHolder } from './secret.ts';
import { type Joined, serveSiblings } from './siblings.ts';
import { storeNames } from './store-names.ts';

const NOW = 1_800_000_000;
const run = mkdtempSync(join(tmpdir(), 'dstack-store-certificate-'));
const domain = { chainId: 1, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const keys = secretHolder(keyring(new Map([[1, new Uint8Array(32).fill(5)]])), domain);
const store = { clients: { orders: { names: ['orders.example', 'localhost'], authorities: [] } } };
const key = newKey();
let isStale = false;
let servers: Server[];

beforeAll(async () => {
  const joined = {
    keys,
    storeNames: (app: string) => storeNames(store, app),
    requireFresh: () => {
      if (isStale) throw new DstackError('CHAIN_STALE', 'no block for an hour');
      return NOW;
    },
  };
  servers = await serveSiblings(run, Promise.resolve(joined as unknown as Joined), run);
});
afterAll(() => {
  for (const server of servers) server.close();
  rmSync(run, { recursive: true, force: true });
});

const ask = (body: object, path: string = sockets.replicatorForKv) =>
  callUnix({
    path: join(run, path),
    ...{ method: 'POST', route: '/v1/store-certificate', body, reply: StoreCertificateReply },
  });
const publicKey = toHex(spkiOf(key));

test("it is by the app's authority, for the names of network.json, and to serve alone", async () => {
  const { chain } = await ask({ app: 'orders', publicKey });
  const [own, root] = chain.map((hex) => new X509Certificate(fromHex(hex))) as [
    X509Certificate,
    X509Certificate,
  ];
  expect(own.subjectAltName).toBe('DNS:orders.example, DNS:localhost');
  expect(own.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  expect(own.ca).toBe(false);
  expect(own.checkIssued(root) && own.verify(root.publicKey)).toBe(true);
  expect(toHex(new Uint8Array(own.publicKey.export({ type: 'spki', format: 'der' })))).toBe(publicKey);
  // The authority that the app itself knows: of the same key and name.
  expect(toHex(root.raw)).toBe(toHex(authorityCertificate(keys, 'orders')));
});

test.each(['news', '__proto__', 'constructor'])(
  'nothing for %s, which network.json does not open',
  async (app) => {
    await expect(ask({ app, publicKey })).rejects.toMatchObject({
      code: expect.stringMatching(/^(NO_STORE_CLIENTS|BAD_REQUEST)$/),
    });
  },
);

test('nothing while the chain is stale, nothing for what is no key, and nothing to other daemons', async () => {
  isStale = true;
  await expect(ask({ app: 'orders', publicKey })).rejects.toMatchObject({ code: 'CHAIN_STALE' });
  isStale = false;
  await expect(ask({ app: 'orders', publicKey: 'ab' })).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  for (const other of [
    sockets.replicatorForAgent,
    sockets.replicatorForTls,
    sockets.replicatorForKubernethes,
  ])
    await expect(ask({ app: 'orders', publicKey }, other)).rejects.toMatchObject({ code: 'NO_ROUTE' });
});
