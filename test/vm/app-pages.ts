/**
 * docs/first-app.md and docs/compose-app.md from their first command to their last, but for those in a container, which has no shell: what
 * these print is on the pages that the container serves. For a test that has a node at hand; by itself it boots one:
 *
 *     node test/vm/app-pages.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  bootstrapFirst,
  deployNetwork,
  owner,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, stopAll } from '../../scripts/demo/processes.ts';
import { say, seconds } from '../../scripts/demo/steps.ts';
import { blocksOf, reader } from '../support/page.ts';

export async function appPages(network: DemoNetwork, host: DemoHost): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-pages-'));
  const here = reader(folder);
  const env = {
    ...owner(network),
    ...{ RELAY: host.gossipUrl, VOLUME: host.volume },
    ...{ HOST_ENV: host.operatorFile(), SITE_PORT: String(host.tlsPort) },
  };
  try {
    for (const page of ['docs/first-app.md', 'docs/compose-app.md']) {
      const began = performance.now();
      for (const block of blocksOf(page)) {
        if (block.needs !== 'docker' && block.needs !== 'container') await here.run(block, env);
      }
      say(`${page} took ${seconds(began)} s`);
    }
  } finally {
    here.leave();
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  try {
    const network = await deployNetwork(join(repository, '.state/pages'));
    const a = new DemoHost({
      ...{ name: 'a', network, gasKey: relayKeys[0], peers: [] },
      disk: true,
      diskMiB: 64,
    });
    await prepareNetwork(network, a, []);
    await bootstrapFirst(network, a);
    await appPages(network, a);
  } catch (error) {
    process.exitCode = 1;
    say((error as Error).message);
  } finally {
    await stopAll();
  }
}
