import { expect, test } from 'vitest';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { SignerWatch } from './signer-watch.ts';

const chain: SignerStatus['chains'][number] = {
  ...{ id: 'chain-1', protocol: 'v0.38', publicKey: `${'A'.repeat(43)}=`, address: 'AB'.repeat(20) },
  ...{ height: '7', round: 1, step: 3, signatures: 12, refusals: 2 },
};
const connection: SignerStatus['connections'][number] = {
  ...{ chain: 'chain-1', address: 'tcp://10.0.2.2:1', state: 'serving', seconds: 5, quiet: false },
  requests: 12,
};

function watch() {
  const metrics = new Metrics();
  const logged: string[] = [];
  let answer: () => Promise<SignerStatus | undefined> = async () => undefined;
  const watched = new SignerWatch({
    node: { signer: () => answer() },
    metrics: metrics.of({ contract: '0xc0' }),
    log: { warn: (_, message) => void logged.push(message) },
  });
  return {
    watched,
    logged,
    async seen(next: () => Promise<SignerStatus | undefined>): Promise<string[]> {
      answer = next;
      await watched.look();
      watched.measure();
      const lines = metrics.text().split('\n');
      return lines
        .filter((line) => line.startsWith('dstack_relay_signer_'))
        .map((line) => line.replace('dstack_relay_signer_', '').replace('contract="0xc0",', ''));
    },
  };
}

test('what a chain signed last, who asks, and why nothing is signed are in the metrics', async () => {
  const { seen } = watch();
  expect(await seen(async () => undefined)).toEqual([]);
  const of = '{chain="chain-1"}';
  const counted = [`height${of} 7`, `round${of} 1`, `step${of} 3`, `signatures${of} 12`, `refusals${of} 2`];
  const place = '{chain="chain-1",address="tcp://10.0.2.2:1"}';
  expect(await seen(async () => ({ dials: true, chains: [chain], connections: [connection] }))).toEqual([
    ...counted,
    `serving${place} 1`,
  ]);
  const stopped = { code: 'CHAIN_STALE', message: 'no block' };
  const silent = { ...connection, quiet: true };
  expect(await seen(async () => ({ stopped, dials: true, chains: [chain], connections: [silent] }))).toEqual([
    ...counted,
    `serving${place} 0`,
    'stopped{code="CHAIN_STALE"} 1',
  ]);
  // What is over goes to 0.
  const after = await seen(async () => ({ dials: false, chains: [], connections: [] }));
  expect(after).toContain('stopped{code="CHAIN_STALE"} 0');
  expect(after).toContain(`serving${place} 0`);
});

test('a node that does not say it: nothing is known, and that is said once', async () => {
  const { seen, watched, logged } = watch();
  await seen(async () => ({ dials: true, chains: [chain], connections: [connection] }));
  expect(watched.status()?.chains).toHaveLength(1);
  const away = () => Promise.reject(new DstackError('NODE_REPLY', 'no such route'));
  for (let n = 0; n < 3; n += 1) await seen(away);
  expect(watched.status()).toBeUndefined();
  expect(logged).toEqual(['the node does not say how its signer stands: no such route']);
});
