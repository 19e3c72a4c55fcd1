/**
 * What stops a validator's signer on a node, from the contract to the validator's side: a real chain, the real replicator, kubernethes and
 * signer as processes, the real store with a real etcd; podman alone is none, and nobody has to run a container.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { SignerWatch } from '../../host/relay/signer-watch.ts';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { listenUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { appId, formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { encodeRollout } from '../../lib/protocol/network-contract.ts';
import { type AnswerMessage, nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { type DiskStatusReply, sockets } from '../../lib/protocol/sockets.ts';
import { type FakePodman, startFakePodman } from '../support/fake-podman.ts';
import { pause, resume } from '../support/faults.ts';
import { forgeRequest } from '../support/forge.ts';
import { startKv, type TestKv } from '../support/kv.ts';
import { startTestNetwork, type TestNetwork, type TestNode as Vm } from '../support/network.ts';
import { TestNode } from './support/node.ts';
import { PATIENCE, prevote, prevoteOnce } from './support/prevote.ts';

const CHAIN = 'stopped-1';
const DISK = parseHex('0123456789abcdef0123456789abcdef');
/** A boot clock that goes on by more than an hour when it is told to. */
const CLOCK = join(import.meta.dirname, '../support/hour-later.ts');

let network: TestNetwork;
let vm: Vm;
let podman: FakePodman;
let kv: TestKv;
let disk: Server;
let kubernethes: ChildProcess;
let validator: TestNode;
const metrics = new Metrics();
const watch = new SignerWatch({
  node: { signer: () => vm.get<SignerStatus>(nodePaths.signer) },
  metrics,
  log: { warn: () => {} },
});

beforeAll(async () => {
  network = await startTestNetwork();
  vm = await network.start({ role: 'bootstrap', execArgv: ['--import', CLOCK] });
  await network.allow(vm);
  await network.bootstrap(vm);
  for (const folder of ['run/dstack/disk', 'run/dstack/kv', 'run/podman', 'mnt/host_volume/manifests'])
    mkdirSync(at(folder), { recursive: true });
  podman = await startFakePodman(at('run/podman/podman.sock'));
  disk = await serveUnix({
    path: at('run/dstack', sockets.diskStatus),
    routes: { 'GET /v1/status': (): DiskStatusReply => ({ state: 'ready', diskId: DISK }) },
  });
  kv = await startKv();
  const callerOf = () => ({ prefix: utf8('d/signer/'), name: 'signer', owner: false });
  await listenUnix(kv.running.door({ callerOf }).server, { path: at('run/dstack', sockets.kvForSigner) });
  validator = await TestNode.listen();
  const validators = [{ chain: CHAIN, address: '127.0.0.1', port: validator.port }];
  writeFileSync(at('run/dstack/host.json'), JSON.stringify({ validators }));
  await rollOut();
  kubernethes = vm.daemon('kubernethes', []);
  vm.daemon('signer', []);
});
afterAll(async () => {
  podman?.stop();
  disk?.close();
  await network?.stop();
  await Promise.all([validator?.close(), kv?.stop()]);
});

const at = (...path: string[]): string => join(vm.directory, ...path);

/** A signer whose manifest leaves out `minimumNodes`. */
async function rollOut(): Promise<void> {
  const manifest = formatManifest({
    ...{ version: 2, app: 'validator', containers: [] },
    signer: {
      ...{ disk: DISK, acceptHostRollback: true },
      chains: [{ id: CHAIN, protocol: 'v0.38', key: 'derived', afterHeight: 0 }],
    },
  });
  const hash = toHex(manifestHash(manifest));
  writeFileSync(at('mnt/host_volume/manifests', `${hash}.json`), manifest);
  await network.send(encodeRollout({ app: to0x(appId('validator')), manifestHash: `0x${hash}` }));
}

/** As the relay asks its node, and as its metrics then are. */
async function seen(): Promise<{ code: string | undefined; stopped: string[]; status: SignerStatus }> {
  await watch.look();
  watch.measure();
  const status = watch.status();
  if (status === undefined) throw new Error('the node does not say how its signer stands');
  const lines = metrics.text().matchAll(/^dstack_relay_signer_stopped\{code="(\w+)"\} 1$/gm);
  return { code: status.stopped?.code, stopped: [...lines].map(([, code]) => code!), status };
}
/** Undefined: by nothing. */
const isStoppedBy = (code: string | undefined) =>
  vi.waitFor(async () => {
    const { stopped, code: said } = await seen();
    expect({ said, stopped }).toEqual({ said: code, stopped: code === undefined ? [] : [code] });
  }, PATIENCE);

const SIGNATURE = /^[0-9a-f]{128}$/;
let hasTwo = false;

/** Once a second node has joined. */
async function signsInTwo(height: number): Promise<void> {
  if (!hasTwo) {
    const { message } = await forgeRequest(network);
    await network.register(message);
    await network.postOnboard(await vm.post<AnswerMessage>(nodePaths.onboard, message));
    hasTwo = true;
  }
  await isStoppedBy(undefined);
  expect(await prevote(validator, CHAIN, height)).toMatch(SIGNATURE);
}

/** By the connection that there is, which has to stay. */
const asked = (height: number): Promise<string> =>
  prevoteOnce(validator, CHAIN, height).catch((error: Error) => error.message);

test('in a network of one the validator is told so, and nothing is recorded; when another node has joined, it signs', async () => {
  await validator.accept(PATIENCE.timeout);
  await isStoppedBy('NETWORK_TOO_SMALL');
  expect(await asked(1)).toMatch(/^NETWORK_TOO_SMALL: no second node has joined/);
  expect((await seen()).status.chains).toMatchObject([
    { id: CHAIN, height: '0', signatures: 0, refusals: 1 },
  ]);
  await signsInTwo(1);
});

test('an hour without a block: the validator is told so, by the connection that it has; with the next block, it signs', async () => {
  await signsInTwo(1);
  const [before] = (await seen()).status.chains;
  kubernethes.kill('SIGUSR2');
  await isStoppedBy('CHAIN_STALE');
  expect(await asked(2)).toMatch(/^CHAIN_STALE: the newest accepted block is from /);
  // Not even what was signed before.
  expect(await asked(1)).toMatch(/^CHAIN_STALE: /);
  const { refusals: _, ...rest } = before!;
  expect((await seen()).status.chains).toMatchObject([{ ...rest, height: '1', step: 2 }]);

  await network.rpc.send('evm_increaseTime', ['0x1068']);
  await network.confirm();
  await isStoppedBy(undefined);
  expect(await prevote(validator, CHAIN, 2)).toMatch(SIGNATURE);
});

test('while the daemon that reads the contract is away, and until it has read it, nothing is signed; the connection stays', async () => {
  await signsInTwo(2);
  kubernethes.kill('SIGKILL');
  await once(kubernethes, 'exit');
  await isStoppedBy('SIGNER_UNTOLD');
  expect(await asked(3)).toMatch(/^SIGNER_UNTOLD: /);
  // It begins where the chain cannot be read.
  await pause(network.anvil.pid);
  kubernethes = vm.daemon('kubernethes', []);
  await isStoppedBy('CONTRACT_UNREAD');
  expect(await asked(3)).toMatch(/^CONTRACT_UNREAD: /);
  resume(network.anvil.pid);
  await isStoppedBy(undefined);
  expect(validator.isConnected).toBe(true);
  expect(await prevote(validator, CHAIN, 3)).toMatch(SIGNATURE);
});
