/**
 * docs/first-app.md and docs/compose-app.md from their first command to their last, but for those in a container, which has no shell: what
 * these print is on the pages that the container serves. For a test that has a node at hand; by itself it boots one:
 *
 *     node test/vm/app-pages.ts [PAGE …]
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

const PAGES = ['docs/first-app.md', 'docs/compose-app.md'];

export async function appPages(network: DemoNetwork, host: DemoHost, pages = PAGES): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-pages-'));
  const here = reader(folder);
  const env = {
    ...owner(network),
    ...{ RELAY: host.gossipUrl, VOLUME: host.volume },
    ...{ HOST_ENV: host.operatorFile(), SITE_PORT: String(host.tlsPort) },
  };
  try {
    for (const page of pages) {
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
    const pages = process.argv.slice(2);
    await appPages(network, a, pages.length > 0 ? pages : undefined);
  } catch (error) {
    process.exitCode = 1;
    say((error as Error).message);
  } finally {
    await stopAll();
  }
}
