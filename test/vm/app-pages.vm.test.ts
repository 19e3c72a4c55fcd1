/**
 * docs/first-app.md and docs/compose-app.md from their first command to their last, but for those in a container, which has no shell: what
 * these print is on the pages that the container serves. By hand, `npm run test:app`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  bootstrapFirst,
  deployNetwork,
  owner,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, stopAll } from '../../scripts/demo/processes.ts';
import { blocksOf, reader } from '../support/page.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-pages-'));
let network: DemoNetwork;
let host: DemoHost;

beforeAll(async () => {
  network = await deployNetwork(join(repository, '.state/pages'));
  host = new DemoHost({
    ...{ name: 'a', network, gasKey: relayKeys[0], peers: [] },
    disk: true,
    diskMiB: 64,
  });
  await prepareNetwork(network, host, []);
  await bootstrapFirst(network, host);
}, 600_000);

afterAll(async () => {
  await stopAll();
  rmSync(folder, { recursive: true });
}, 60_000);

test.each(['docs/first-app.md', 'docs/compose-app.md'])(
  'every command of %s',
  { timeout: 1_200_000 },
  async (page) => {
    const here = reader(folder);
    const env = {
      ...owner(network),
      ...{ RELAY: host.gossipUrl, VOLUME: host.volume },
      ...{ HOST_ENV: host.operatorFile(), SITE_PORT: String(host.tlsPort) },
    };
    try {
      for (const block of blocksOf(page)) {
        if (block.needs !== 'docker' && block.needs !== 'container') await here.run(block, env);
      }
    } finally {
      here.leave();
    }
  },
);
