/**
 * Makes `auditing/simulated` anew: a network of two nodes without VMs on an anvil of its own, published as an owner would. To be run after a
 * change of the contract or of what nodes say: `rm -r auditing/simulated && node test/support/publish-example.ts`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Archive } from '../../host/relay/archive.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { encodeRollout } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { dstackOk } from './cli.ts';
import { eventually, startTestNetwork } from './network.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-example-'));
const network = await startTestNetwork();
try {
  const archive = new Archive(folder);
  const first = await network.start({ role: 'bootstrap' });
  await network.allow(first);
  archive.keepBootstrap(await network.bootstrap(first));
  archive.keepConfig(utf8(network.networkJson));
  const second = await network.start({ role: 'join' });
  await eventually(async () => (await second.status()).state === 'requesting', 'the node to ask');
  const request = await second.post<RequestMessage>(nodePaths.request);
  await network.register(request);
  const answer = await first.post<AnswerMessage>(nodePaths.onboard, request);
  await network.postOnboard(answer);
  archive.keep(request);
  archive.keep(answer);
  await network.send(encodeRollout({ app: to0x(appId('greeting')), manifestHash: `0x${'5a'.repeat(32)}` }));
  const args = ['--contract', network.contract, '--rpc', network.anvil.url, '--archive', folder];
  const out = join(import.meta.dirname, '../../auditing/simulated');
  const said = await dstackOk([
    'network',
    'publish',
    ...args,
    '--out',
    out,
    '--flavour',
    'sim',
    '--depth',
    '0',
  ]);
  print(...said.trim().split('\n'));
} finally {
  await network.stop();
  rmSync(folder, { recursive: true, force: true });
}
