/** By hand, `npm run test:app`: one VM, the website, and a hostile app. */
import { join } from 'node:path';
import { afterAll, test } from 'vitest';
import { DemoHost } from '../../scripts/demo/host.ts';
import {
  bootstrapFirst,
  buildApps,
  deployNetwork,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, stopAll } from '../../scripts/demo/processes.ts';
import { hostileApp } from './hostile-app.ts';

afterAll(stopAll, 60_000);

test('what a hostile app does is its own trouble', { timeout: 1_500_000 }, async () => {
  const [archive] = await buildApps();
  const network = await deployNetwork(join(repository, '.state/hostile'));
  const host = new DemoHost({ name: 'a', network, gasKey: relayKeys[0], peers: [], disk: true, diskMiB: 64 });
  await prepareNetwork(network, host, [archive!]);
  await bootstrapFirst(network, host);
  await host.page('1');
  await hostileApp(network, host);
});
