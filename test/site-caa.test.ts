/**
 * Whether a host could have a certificate, from the DNS to the node's own word: the real acme daemon with a real authority (pebble)
 * and two real resolvers; and `site dns`, which says what to put into the DNS.
 */
import { afterEach, expect, test, vi } from 'vitest';
import { zoneLines } from '../lib/site/caa.ts';
import { AcmeNode } from './support/acme-node.ts';
import { startPebble } from './support/pebble.ts';
import { TestResolver } from './support/resolver.ts';

const PATIENCE = { timeout: 120_000, interval: 100 };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test('the account that the daemon found, and the records made for it: the replicator is told', async () => {
  const authority = await startPebble();
  cleanups.push(() => authority.stop());
  const resolvers = [
    await TestResolver.start(authority.authority),
    await TestResolver.start(authority.authority),
  ];
  cleanups.push(...resolvers.map((resolver) => () => resolver.stop()));
  const node = await new AcmeNode({
    site: {
      domains: ['site.example', 'www.site.example'],
      // This pebble's directory names no issuer.
      acme: {
        directory: authority.directory,
        issuers: ['pebble.example'],
        challenges: ['http-01'],
        firstWithin: 600,
      },
      resolvers: resolvers.map(({ url }) => url),
      roots: authority.roots,
    },
  }).start();
  cleanups.push(() => node.stop());
  await vi.waitFor(() => expect(node.shown?.status.account, node.said).toBeDefined(), PATIENCE);
  const { account, issuers, methods } = node.shown!.status;
  await vi.waitFor(
    () => expect(node.shown!.status).toMatchObject({ hostImpersonable: true, caa: { code: 'CAA_MISSING' } }),
    PATIENCE,
  );
  expect(node.told).not.toContain(false);
  // The records of the name above count for both.
  const policy = { account: account!, issuers: issuers!, methods: methods! };
  const records = zoneLines('site.example', policy).map((line) => {
    const [, tag, value] = / CAA 0 (\w+) "(.*)"$/.exec(line)!;
    return [tag!, value!] as const;
  });
  for (const resolver of resolvers) await resolver.setCaa('site.example', ...records);
  // It looks again within a minute; a new process looks at once.
  await node.kill();
  node.startDaemon();
  await vi.waitFor(() => expect(node.told.at(-1), node.said).toBe(false), PATIENCE);
  await vi.waitFor(() => expect(node.shown!.status.hostImpersonable).toBe(false), PATIENCE);
  expect(node.shown!.status.caa).toBeUndefined();
});
