/**
 * docs/first-app.md and docs/compose-app.md, all but what needs containers that run: on a chain with a network's contract, a real
 * replicator and a real agent. test/vm runs the whole pages.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startAgent, type TestAgent, type TestApp } from './support/agent.ts';
import { OWNER_KEY, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';
import { blocksOf, type Reader, reader } from './support/page.ts';

/** The app of the first page, as its manifest grants it. */
const hello: TestApp = { app: 'hello', address: '127.0.0.2', api: ['info', 'sign'] };

let network: TestNetwork;
let node: TestNode;
let agent: TestAgent;
let here: Reader;
let env: Record<string, string>;
const folder = mkdtempSync(join(tmpdir(), 'dstack-pages-'));

beforeAll(async () => {
  network = await startTestNetwork();
  node = await network.start({ role: 'bootstrap' });
  await network.allow(node);
  await network.bootstrap(node);
  agent = await startAgent(node, [hello]);
  const key = join(folder, 'owner.key');
  writeFileSync(key, OWNER_KEY, { mode: 0o600 });
  env = {
    ...{ DSTACK_RPC_URL: network.anvil.url, DSTACK_CHAIN_ID: '31337', DSTACK_CONTRACT: network.contract },
    ...{ DSTACK_OWNER_KEY_FILE: key, RELAY: node.url, VOLUME: join(folder, 'volume') },
  };
  // As in the container: the name leads to the agent.
  const curl = `exec /usr/bin/curl --connect-to dstack-guest:80:127.0.0.1:${agent.port} --interface ${hello.address} "$@"`;
  here = reader(folder, { curl });
});
afterAll(async () => {
  here?.leave();
  agent?.stop();
  await network?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe.each(['docs/first-app.md', 'docs/compose-app.md'])('%s', (page) => {
  const blocks = blocksOf(page);
  const runs = blocks.filter(({ needs }) => needs !== 'node' && needs !== 'docker');

  test('has blocks of each kind, and what is built has both ways', () => {
    const ways = (needs: string) => blocks.filter((block) => block.needs === needs).length;
    expect(runs.length).toBeGreaterThan(6);
    expect(ways('docker')).toBe(ways('buildah'));
    expect(ways('node')).toBeGreaterThan(1);
  });

  test.each(runs.map((block): [string, typeof block] => [block.script.split('\n')[0]!, block]))(
    '%s',
    async (_, block) => {
      await here.run(block, env);
    },
  );
});
