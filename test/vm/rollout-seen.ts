/** What an operator learns of a rollout that fails, by the three ways there are: the command line, the relay's metrics, and the log of the app. */
import { expect } from 'vitest';
import type { DemoHost } from '../../scripts/demo/host.ts';
import { dstack } from '../../scripts/demo/processes.ts';
import { waitFor } from '../../scripts/demo/steps.ts';

/**
 * @param serving the manifest that goes on serving
 * @param failing the one in force, which is never healthy; both 0x-prefixed
 */
export async function rolloutIsSeen(host: DemoHost, serving: string, failing: string): Promise<void> {
  const [old, sick] = [serving.slice(2), failing.slice(2)];
  const metrics = await waitFor(
    'the trouble in the metrics',
    async () => {
      const text = await (await fetch(`${host.adminUrl}/metrics`)).text();
      return /^dstack_relay_app_trouble\{.*app="greeting",code="APP_UNHEALTHY"\} [1-9]/m.test(text)
        ? text
        : undefined;
    },
    600,
  );
  expect(metrics).toMatch(/^dstack_relay_app_serving\{.*app="greeting"\} 0$/m);
  // It is tried again and again, and may once be too slow to answer anything.
  const status = await waitFor(
    'what failed in the status',
    async () => {
      const said = await dstack(host.operator(), 'app', 'status');
      return said.includes('APP_UNHEALTHY: container greeting answers /missing with status 404')
        ? said
        : undefined;
    },
    600,
  );
  expect(status).toContain(`  chain: ${sick} in force since`);
  expect(status).toContain(`  node:  behind: ${old} serves, which ends at `);
  expect(status).toContain(`DIFFERS: the chain has ${sick} in force, the node serves ${old}`);
  expect(status).toMatch(new RegExp(`${sick} refused APP_UNHEALTHY$`, 'm'));
  // This app writes nothing: what failed is all that there is.
  expect(await dstack(host.operator(), 'app', 'logs', 'greeting')).toMatch(/^greeting: APP_UNHEALTHY: /);
}
