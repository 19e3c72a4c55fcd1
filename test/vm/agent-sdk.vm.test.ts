/**
 * By hand, `npm run test:app`: the ecosystem's client, unmodified, in a Node container of a VM, before and after the agent was killed. The
 * image is the dev flavour's, whose shell kills it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { JsonRpcProvider } from 'ethers';
import { afterAll, expect, test } from 'vitest';
import type { Vm } from '../../host/vm/vm.ts';
import { signerOfKeyChain, verifySignature } from '../../lib/protocol/app-keys.ts';
import { fromHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { publicKeyOf } from '../../lib/protocol/secp256k1.ts';
import { DemoHost } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApp,
  deployNetwork,
  packAs,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, stopAll } from '../../scripts/demo/processes.ts';
import { waitFor } from '../../scripts/demo/steps.ts';
import { installSdk, type SdkResults } from '../support/sdk.ts';
import { inShell } from './dev-vm.ts';
import { laySdkApp } from './sdk-app.ts';

const files = mkdtempSync(join(tmpdir(), 'dstack-sdk-app-'));
afterAll(async () => {
  await stopAll();
  rmSync(files, { recursive: true, force: true });
}, 60_000);

test('every call of the client in a container, before and after the agent was killed', {
  timeout: 1_500_000,
}, async () => {
  await installSdk();
  laySdkApp(files);
  const archive = await buildApp('sdk', '--version', '1', '--files', files);
  const network = await deployNetwork(join(repository, '.state/sdk'));
  const host = new DemoHost({
    ...{ name: 'a', network, gasKey: relayKeys[0], peers: [], disk: false, flavour: 'dev' },
  });
  const options = { flavour: 'dev', rawQuotes: 'sdk' } as const;
  await prepareNetwork(network, host, [], options);
  const api = ['info', 'key', 'attest', 'sign', 'quote'].flatMap((word) => ['--api', word]);
  const fields = ['memoryMiB=256', 'user=1000:1000'].flatMap((field) => ['--set', field]);
  const manifest = await packAs('sdk', network, host, archive, '--port', '8080', ...api, ...fields);
  await asOwner(network, 'app', 'rollout', 'sdk', manifest);
  await bootstrapFirst(network, host, options.flavour);

  const ask = async (path: string): Promise<string | undefined> => {
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const site = { host: '127.0.0.1', port: host.tlsPort, path, rejectUnauthorized: false, timeout: 120_000 };
    get(site, (page) =>
      text(page).then(page.statusCode === 200 ? resolve : () => resolve(undefined), () => resolve(undefined)),
    )
      .on('timeout', () => resolve(undefined))
      .on('error', () => resolve(undefined));
    return promise;
  };
  const place = await waitFor(
    'the app',
    () => ask('/'),
    600,
    () => '',
    () => host.alive(),
  );
  // It runs as a user that is nobody to the agent, connects all the same, and puts nothing of its own there.
  expect(JSON.parse(place)).toEqual({ uid: 1000, owner: 65534, mode: 0o666, written: 'EROFS' });

  // On a slow machine they take longer than the front waits for an answer.
  const calls = async (round: string) => {
    const path = `/calls/${round}`;
    const made = await waitFor(
      `the calls ${round}`,
      () => ask(path),
      300,
      () => '',
      () => host.alive(),
    );
    return JSON.parse(made) as SdkResults;
  };
  const before = await calls('before');
  expect(Object.keys(before).filter((name) => 'rejected' in before[name]!)).toEqual(['emitEvent']);
  const domain = { chainId: network.chainId, contract: parseAddress(network.contract) };
  const { networkKey } = await host.status();
  const chainOf = (name: string) => (before[name]!.signature_chain as string[]).map((link) => fromHex(link));
  const publicKey = publicKeyOf(fromHex(before.getKey!.key as string));
  const link = { app: 'sdk', purpose: 'eth', publicKey, chain: chainOf('getKey') };
  expect(signerOfKeyChain(domain, link)).toBe(networkKey);
  const signedBy = fromHex(before.sign!.public_key as string);
  const [signature, ...chain] = chainOf('sign');
  expect(verifySignature('secp256k1', utf8('hello dstack'), signature!, signedBy)).toBe(true);
  expect(signerOfKeyChain(domain, { app: 'sdk', purpose: 'signing', publicKey: signedBy, chain })).toBe(
    networkKey,
  );
  // What the firmware, the kernel and the attestor measured leads to the registers of the quote.
  const info = before.info as unknown as {
    tcb_info: Record<string, string>;
    composeHash: string;
    compose_hash: string;
  };
  const registers = ['rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'].map((name) => info.tcb_info[name]);
  expect(before.getQuote!.replayRtmrs).toEqual(registers);
  const quote = before.getQuote!.quote as string;
  for (const register of [...registers, info.tcb_info.mrtd]) expect(quote).toContain(register);
  expect([info.composeHash, `0x${info.compose_hash}`]).toEqual([info.compose_hash, manifest]);
  const rpc = new JsonRpcProvider(network.rpcUrl);
  const data = `0x${before.attest!.attestation}`;
  expect(BigInt(await rpc.call({ to: network.contract, data }))).toBe(1n);
  rpc.destroy();

  const vm = { shellSocket: join(host.folder, 'vm/shell.sock') } as Vm;
  const line =
    "stat -c 'folder %a %U' /run/dstack/agent/apps; systemctl kill -s KILL dstack-agent; echo killed-$((1+1))";
  const said = await inShell(vm, line, (output) => output.includes('killed-2'), 60_000);
  expect(said).toContain('folder 700 dstack-agent');
  let round = 0;
  const after = await waitFor(
    'the client to find the agent again',
    async () => {
      const found = await calls(`after-${++round}`);
      return found.version?.version === '0.5.8' && !('rejected' in found.info!) ? found : undefined;
    },
    300,
    () => '',
    () => host.alive(),
  );
  expect(Object.keys(after).filter((name) => 'rejected' in after[name]!)).toEqual(['emitEvent']);
  for (const name of ['getKey', 'getKeyEd25519', 'sign', 'signEd25519', 'deriveKey'])
    for (const field of ['key', 'signature', 'signature_chain'])
      expect(after[name]![field]).toEqual(before[name]![field]);
});
