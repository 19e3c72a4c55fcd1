/** The demo's relays with either carrier alone, without the VMs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DemoHost, type DemoNetwork, type Gossip, gossips } from './host.ts';
import { deployNetwork, relayKeys } from './network.ts';
import { demoOptions } from './options.mjs';
import { stopAll } from './processes.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-demo-gossip-'));
let network: DemoNetwork;
beforeAll(async () => {
  network = await deployNetwork(join(folder, 'network'));
}, 120_000);
afterAll(async () => {
  await stopAll();
  rmSync(folder, { recursive: true });
}, 60_000);

test.each<Gossip>([...gossips])(
  'a relay that is told of another by %s has it as its one peer',
  async (gossip) => {
    const host = (name: string, payer: 0 | 1, peers: readonly string[]) =>
      new DemoHost({
        name: `${name}-${gossip}`,
        network,
        gasKey: relayKeys[payer],
        gossip,
        peers,
        disk: false,
      });
    const a = host('a', 0, []);
    await a.startRelay();
    const address = gossip === 'http' ? /^http:\/\/127\.0\.0\.1:\d+$/ : /^[0-9a-f]{64}@127\.0\.0\.1:\d+$/;
    expect(a.peerAddress).toMatch(address);
    const b = host('b', 1, [a.peerAddress]);
    await b.startRelay();
    await expect
      .poll(async () => (await b.relayStatus()).peers, { timeout: 60_000 })
      .toEqual([
        {
          peer: expect.stringMatching(new RegExp(`^${gossip}://127\\.0\\.0\\.1:\\d+$`)),
          reachable: true,
        },
      ]);
    expect((await a.relayStatus()).recordsAddress !== undefined).toBe(gossip === 'records');
    for (const one of [b, a]) await one.stopRelay();
  },
  180_000,
);

describe('the demo', () => {
  test.each<[string[], object]>([
    [[], { once: false, setUpOnly: false, gossip: 'http' }],
    [['--once', '--gossip', 'records'], { once: true, setUpOnly: false, gossip: 'records' }],
    [['--gossip=http', '--set-up-only'], { once: false, setUpOnly: true, gossip: 'http' }],
  ])('takes %j', (args, options) => {
    expect(demoOptions(args)).toEqual(options);
  });

  test.each([[['--gossip']], [['--gossip', 'calldata']], [['--onec']], [['records']], [['--once=1']]])(
    'refuses %j, and says what it takes',
    (args) => {
      expect(() => demoOptions(args)).toThrow(/--gossip|the demo takes/);
    },
  );
});
