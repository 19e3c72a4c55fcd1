/**
 * By hand, `npm run test:signer`: a validator on the host has what it asks for signed in a VM, whose signer the network's contract names, and
 * so has one of another chain, by the key that it had before. The VM is killed, and its signer goes on where it was: what is past is signed no
 * more, and nothing a second time in another way.
 */
import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addressOf, cometJson, ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  deployNetwork,
  joinSecond,
  owner,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { dstack, jsonLines, repository, stopAll } from '../../scripts/demo/processes.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import { canonicalVote } from '../signer/support/definition.ts';
import { TestNode } from '../signer/support/node.ts';
import { setSecret } from './app-secret.ts';
import { descendants, isQemu } from './host-view/processes.ts';

/** Under emulation, on a machine that has other things to do. Seconds. */
const PATIENCE = 900;
const files = mkdtempSync(join(tmpdir(), 'dstack-signer-vm-'));
/** A validator on the host. */
interface Validator {
  readonly chain: string;
  readonly node: TestNode;
}
/** The first has a key of the network's, the second one that it brings along, which signed up to a height elsewhere. */
let first: Validator;
let second: Validator;
const importedSeed = new Uint8Array(randomBytes(32));
const SIGNED_ELSEWHERE = 500;
let network: DemoNetwork;
/** Stays as it is, so that the network's secret does; it has no data disk, and so no store. */
let a: DemoHost;
let b: DemoHost;

beforeAll(async () => {
  first = { chain: 'vm-1', node: await TestNode.listen() };
  second = { chain: 'vm-2', node: await TestNode.listen() };
  network = await deployNetwork(join(repository, '.state/signer'));
  a = new DemoHost({ network, name: 'a', gasKey: relayKeys[0], peers: [], disk: false });
  await prepareNetwork(network, a, [], { storeQuota: 64 });
  await bootstrapFirst(network, a);
  b = new DemoHost({
    ...{ network, name: 'b', gasKey: relayKeys[1], peers: [a.gossipUrl], disk: true, diskMiB: 512 },
    // The host's loopback, as the VM sees it.
    validators: [first, second].map(({ chain, node }) => `${chain}=10.0.2.2:${node.port}`).join(','),
  });
  await joinSecond(network, a, b);
  await rollOut(await diskOf(b));
}, 3_600_000);

afterAll(async () => {
  await stopAll();
  await Promise.all([first?.node.close(), second?.node.close()]);
  rmSync(files, { recursive: true, force: true });
}, 120_000);

/** The id of a node's data disk, by its console. */
const diskOf = (host: DemoHost): Promise<string> =>
  waitFor(
    'the data disk',
    async () => {
      const lines = jsonLines(host.console());
      const ready = lines.find(({ name, state }) => name === 'disk' && state === 'ready');
      return typeof ready?.diskId === 'string' ? ready.diskId : undefined;
    },
    PATIENCE,
    () => '',
    () => host.alive(),
  );

/** `priv_validator_key.json`, as CometBFT writes it. */
function keyFile(): string {
  const { publicKey } = ed25519Key(importedSeed);
  const value = Buffer.concat([importedSeed, publicKey]).toString('base64');
  const key = { pub_key: cometJson(publicKey), priv_key: { type: 'tendermint/PrivKeyEd25519', value } };
  return JSON.stringify({ address: addressOf(publicKey), ...key }, null, 2);
}

async function rollOut(disk: string): Promise<void> {
  const file = join(files, 'signer.json');
  const imported = { secret: 'validator-key' };
  const chains = [
    { id: first.chain, protocol: 'v0.38', key: 'derived', afterHeight: 0 },
    { id: second.chain, protocol: 'v0.38', key: imported, afterHeight: SIGNED_ELSEWHERE },
  ];
  writeFileSync(file, JSON.stringify({ disk, acceptHostRollback: true, chains }));
  const envelope = await setSecret(network, a, 'validator', imported.secret, keyFile());
  const places = [a, b].flatMap(({ volume }) => ['--out', volume]);
  const given = ['--secret', `${imported.secret}=${envelope}`, ...places];
  const packed = await dstack(owner(network), 'app', 'pack', 'validator', file, ...given);
  const hash = /^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!;
  await asOwner(network, 'app', 'rollout', 'validator', hash);
}

async function statusOf(host: DemoHost): Promise<Partial<SignerStatus> & { code?: string }> {
  const reply = await fetch(`${host.nodeUrl}${nodePaths.signer}`, { signal: AbortSignal.timeout(10_000) });
  return (await reply.json()) as Partial<SignerStatus> & { code?: string };
}
const seen = (host: DemoHost, what: string, is: (status: Partial<SignerStatus>) => boolean) =>
  waitFor(
    what,
    async () => {
      const status = await statusOf(host);
      return is(status) ? status : undefined;
    },
    PATIENCE,
    () => '',
    () => host.alive(),
  );

/** What a validator asks: again where no answer came in its five seconds, or the store was too slow for the signer. */
function asked<T>(
  { node }: Validator,
  what: string,
  ask: () => Promise<T>,
  isSlow: (answer: T) => boolean,
): Promise<T> {
  return waitFor(
    what,
    async () => {
      try {
        if (!node.isConnected) await node.accept(10_000);
        const answer = await ask();
        return isSlow(answer) ? undefined : answer;
      } catch {
        node.drop();
        return undefined;
      }
    },
    PATIENCE,
    () => '',
    () => b.alive(),
  );
}

const publicKey = (of: Validator): Promise<Uint8Array> =>
  asked(
    of,
    `the key of ${of.chain}`,
    async () => {
      const { key } = (await of.node.ask({ pubKey: { chain: of.chain } })).pubKey as {
        key?: { ed25519: Uint8Array };
      };
      return new Uint8Array(key!.ed25519);
    },
    () => false,
  );

interface Answer {
  readonly vote?: { readonly signature: Uint8Array };
  readonly error?: { readonly description: string };
}

function voteAt(height: number, type: number, byte: number) {
  const hash = new Uint8Array(32).fill(byte);
  const block = { hash, parts: { total: 1, hash } };
  return { type, height: BigInt(height), round: 0, block, timestamp: { seconds: 1_800_000_000n, nanos: 0 } };
}

/** @param byte of the block */
const voted = (of: Validator, height: number, type: number, byte = 1): Promise<Answer> =>
  asked(
    of,
    `vote ${type} at height ${height} of ${of.chain}`,
    async () => {
      const vote = { ...voteAt(height, type, byte), address: new Uint8Array(20), index: 0 };
      return (await of.node.ask({ vote: { vote, chain: of.chain } })).vote as Answer;
    },
    ({ error }) => /^(STORE_UNAVAILABLE|SIGNER_BUSY|SIGNER_UNTOLD)/.test(error?.description ?? ''),
  );

async function expectSigned(of: Validator, height: number, type: number, raw: Uint8Array): Promise<void> {
  const { vote, error } = await voted(of, height, type);
  expect(error).toBeUndefined();
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const message = canonicalVote(of.chain, voteAt(height, type, 1));
  expect(verify(null, message, key, vote!.signature), `the signature at height ${height}`).toBe(true);
}

test('20 heights are signed, by an imported key too; the VM is killed, and then what is past is refused and what comes is signed', {
  timeout: 3_600_000,
}, async () => {
  const key = await publicKey(first);
  const began = performance.now();
  for (let height = 1; height <= 20; height += 1)
    for (const type of [1, 2]) await expectSigned(first, height, type, key);
  say(
    `40 votes signed in a VM, one after the other: ${((performance.now() - began) / 40).toFixed(0)} ms each`,
  );
  const status = await statusOf(b);
  expect(status).toMatchObject({ app: 'validator', rollbackProtected: false, dials: true });
  expect(status.chains?.[0]).toMatchObject({ id: first.chain, height: '20', step: 3 });

  const imported = await publicKey(second);
  expect(imported).toEqual(ed25519Key(importedSeed).publicKey);
  expect((await voted(second, SIGNED_ELSEWHERE, 2)).error?.description).toContain('SIGN_REGRESSION');
  for (const type of [1, 2]) await expectSigned(second, SIGNED_ELSEWHERE + 1, type, imported);

  // The other node has the same manifest, and not the disk that it names.
  const isElsewhere = ({ stopped }: Partial<SignerStatus>) => stopped?.code === 'SIGNER_DISK';
  expect(await seen(a, "the other node's signer", isElsewhere)).toMatchObject({ chains: [] });

  await waitFor(
    "the relay's metrics",
    async () => {
      const text = await (await fetch(`${b.adminUrl}/metrics`)).text();
      return /^dstack_relay_signer_height\{.*chain="vm-1"\} 20$/m.test(text) || undefined;
    },
    120,
  );
  const told = await dstack(b.operator(), 'node', 'status');
  expect(told).toContain('signed height 20, round 0, step 3 last');
  expect(told).toContain('ITS STORE HAS ONE MEMBER');

  const qemu = descendants().find((one) => isQemu(one) && one.title.includes(b.disk))!;
  process.kill(qemu.pid, 'SIGKILL');
  await b.ended();
  for (const { node } of [first, second]) node.drop();
  await b.powerOn('join');
  await b.joined();

  expect(await publicKey(first)).toEqual(key);
  expect((await voted(first, 19, 2)).error?.description).toContain('SIGN_REGRESSION');
  expect((await voted(first, 20, 1)).error?.description).toContain('SIGN_REGRESSION');
  expect((await voted(first, 20, 2, 2)).error?.description).toContain('SIGN_CONFLICT');
  await expectSigned(first, 20, 2, key);
  for (const type of [1, 2]) await expectSigned(first, 21, type, key);

  expect(await publicKey(second)).toEqual(imported);
  expect((await voted(second, SIGNED_ELSEWHERE + 1, 2, 2)).error?.description).toContain('SIGN_CONFLICT');
  for (const type of [1, 2]) await expectSigned(second, SIGNED_ELSEWHERE + 2, type, imported);
  for (const host of [a, b])
    expect(host.console()).not.toContain(Buffer.from(importedSeed).toString('base64').slice(0, 40));
});
