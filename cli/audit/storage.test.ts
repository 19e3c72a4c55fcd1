/** A real contract to which its owner does everything that there is, and the storage that its events add up to. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { encodeRlp, JsonRpcProvider, keccak256, NonceManager, SigningKey, Wallet } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeDeploy } from '../../contracts/bindings.ts';
import { networkInterface as contractInterface } from '../../contracts/interface.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { type Address, parseAddress } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import * as contractOf from '../../lib/protocol/network-contract.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { requestOf } from '../../lib/protocol/onboarding-messages.ts';
import { answerHash, KEM_PUBLIC_KEY_BYTES, SEALED_BYTES } from '../../lib/protocol/sealing.ts';
import { bootstrapDigest, onboardDigest, requestDigest, requestHash } from '../../lib/protocol/typed-data.ts';
import { requestOver } from '../../test/support/guest.ts';
import { type Lie, type LyingRpc, startLyingRpc } from '../../test/support/lying-rpc.ts';
import { OWNER_KEY } from '../../test/support/network.ts';
import { audit } from './audit.ts';
import { auditedHead } from './head.ts';
import { readHistory } from './history.ts';
import { readStateProof, readUpcoming } from './state.ts';
import { StorageReplay } from './storage.ts';
import { EMPTY_ROOT, provenStorageRoot, storageRoot } from './trie.ts';

let anvil: Anvil;
let rpc: JsonRpcProvider;
let contract: Address;
let signer: NonceManager;
const other = new Wallet(`0x${'5e'.repeat(32)}`);
const word = (byte: string) => `0x${byte.repeat(32)}`;

beforeAll(async () => {
  anvil = await startAnvil({ args: ['--slots-in-an-epoch', '1'] });
  rpc = new JsonRpcProvider(anvil.url, undefined, {
    staticNetwork: true,
    cacheTimeout: -1,
    pollingInterval: 50,
  });
  const owner = new Wallet(OWNER_KEY, rpc);
  signer = new NonceManager(owner);
  const deployed = await signer.sendTransaction({
    data: encodeDeploy({ owner: owner.address, delay: 1_000, requestWindow: 200 }),
  });
  contract = parseAddress((await deployed.wait())!.contractAddress!);
  await live();
});
afterAll(async () => {
  rpc?.destroy();
  await anvil?.stop();
});

/** The gas is not estimated: a second later, what leaves a slot as it is may have to write it. */
const send = async (data: string) =>
  (await signer.sendTransaction({ to: contract, data, gasLimit: 2_000_000 })).wait();
const pass = (seconds: number) => rpc.send('evm_increaseTime', [seconds]);
const compact = (key: SigningKey, digest: Uint8Array) => {
  const { r, yParityAndS: vs } = key.sign(digest);
  return { r, vs };
};

/** What the contract's storage holds, by a dump of the whole chain. */
async function stored(): Promise<Map<bigint, bigint>> {
  const dump: string = await rpc.send('anvil_dumpState', []);
  const { accounts } = JSON.parse(gunzipSync(Buffer.from(dump.slice(2), 'hex')).toString());
  const { storage } = accounts[contract.toLowerCase()];
  return new Map(Object.entries<string>(storage).map(([slot, value]) => [BigInt(slot), BigInt(value)]));
}

/** A state of this contract alone, with its account's proof: anvil's own tries keep the zeros that were read. */
async function canonical() {
  const root = storageRoot(await stored());
  const account = encodeRlp(['0x01', '0x', root, keccak256(await rpc.getCode(contract))]);
  const leaf = encodeRlp([`0x20${keccak256(contract).slice(2)}`, account]);
  return { root, stateRoot: keccak256(leaf), proof: { accountProof: [leaf], storageProof: [] } };
}

/** What was seen after each step. */
const seen: { what: string; replayed: string; stored: string }[] = [];
async function same(what: string) {
  const { head, chain } = await auditedHead({
    endpoints: [anvil.url],
    confirmation: { depth: 0 },
    waitMs: 0,
  });
  const history = await readHistory({ endpoints: [anvil.url], contract: contract, from: 0, head });
  const replay = new StorageReplay();
  for (const entry of history.entries) {
    replay.take(entry);
    if (entry.event.name === 'Onboarded') {
      const data = contractOf.encodeRequest({ requestHash: entry.event.requestHash });
      const view = contractOf.decodeRequest(await chain.call(contract, data, head));
      replay.answered(entry.event.requestHash, view.answerHash);
    }
  }
  seen.push({ what, replayed: replay.root(), stored: storageRoot(await stored()) });
}

test('a trie of nothing, and of one slot', () => {
  expect(storageRoot(new Map())).toBe(EMPTY_ROOT);
  expect(storageRoot(new Map([[1n, 0n]]))).toBe(EMPTY_ROOT);
  expect(storageRoot(new Map([[1n, 1n]]))).not.toBe(EMPTY_ROOT);
});

test('roots are those of a chain, whatever the slots', async () => {
  const address = `0x${'ab'.repeat(20)}`;
  await rpc.send('anvil_setCode', [address, '0x00']);
  const slots = new Map<bigint, bigint>();
  for (let at = 0; at < 60; at += 1) {
    const slot = BigInt(keccak256(word(at.toString(16).padStart(2, '0')))) >> BigInt(at * 4);
    const value = (BigInt(keccak256(word('5a'))) >> BigInt((at * 5) % 256)) | 1n;
    slots.set(slot, value);
    const hex = (number: bigint) => `0x${number.toString(16).padStart(64, '0')}`;
    await rpc.send('anvil_setStorageAt', [address, hex(slot), hex(value)]);
    const { storageHash } = await rpc.send('eth_getProof', [address, [], 'latest']);
    expect(storageRoot(slots)).toBe(storageHash);
  }
});

test('everything that an owner and nodes can do leaves the storage that its events add up to', () => {
  expect(seen.length).toBe(13);
  for (const { what, replayed, stored: actual } of seen)
    expect({ what, root: replayed }).toEqual({ what, root: actual });
});

/** Everything that an owner and nodes can do. */
async function live(): Promise<void> {
  const c = contractOf;
  const app = (name: string) => to0x(appId(name));
  const rollout = (name: string, byte: string) =>
    send(c.encodeRollout({ app: app(name), manifestHash: word(byte) }));
  await same('deployed');

  await send(c.encodeAllowMeasurement({ measurement: word('a1') }));
  await send(c.encodeAllowConfig({ config: word('b1') }));
  await send(c.encodeAllowPlatform({ platform: word('c1') }));
  await send(c.encodeSetDelay({ delay: 500 }));
  await rollout('first', 'd1');
  await same('before the bootstrap');

  const { chainId } = await rpc.getNetwork();
  const domain = { chainId: Number(chainId), contract };
  const block = (await rpc.getBlock('latest'))!;
  const networkKey = new SigningKey(word('77'));
  const claim = { measurement: word('a1'), config: word('b1'), platform: word('c1') };
  const bytes = (hex: string) => fromHex(hex.slice(2), 32);
  const address = new Wallet(networkKey).address;
  const bootstrapping = {
    networkKey: address,
    measurement: bytes(claim.measurement),
    config: bytes(claim.config),
    platform: bytes(claim.platform),
    quoteHash: bytes(word('ee')),
    blockNumber: block.number,
    blockHash: bytes(block.hash!),
    epoch: 1,
  };
  await send(
    c.encodeBootstrap({
      networkKey: address,
      ...claim,
      quoteHash: word('ee'),
      blockNumber: BigInt(block.number),
      blockHash: block.hash!,
      ...compact(networkKey, bootstrapDigest(domain, bootstrapping)),
    }),
  );
  await same('bootstrapped');

  const registered: { hash: string; node: string }[] = [];
  for (const byte of ['11', '22']) {
    const nodeKey = new SigningKey(word(byte));
    const recent = (await rpc.getBlock('latest'))!;
    const request = {
      node: new Wallet(nodeKey).address,
      kemKeyHash: bytes(word('f1')),
      quoteHash: bytes(word('f2')),
      blockNumber: recent.number,
      blockHash: bytes(recent.hash!),
      config: bytes(claim.config),
      epoch: 1,
    };
    const hash = requestHash(request);
    await send(
      c.encodeRegister({
        node: request.node,
        kemKeyHash: word('f1'),
        quoteHash: word('f2'),
        blockNumber: BigInt(recent.number),
        config: claim.config,
        ...compact(nodeKey, requestDigest(domain, hash)),
      }),
    );
    registered.push({ hash: to0x(hash), node: request.node });
  }
  await same('two registered');

  const [{ hash, node }] = registered as [{ hash: string; node: string }];
  const onboarding = {
    node,
    requestHash: bytes(hash),
    measurement: bytes(claim.measurement),
    config: bytes(claim.config),
    platform: bytes(claim.platform),
    answerHash: bytes(word('9a')),
  };
  await send(
    c.encodeOnboard({
      requestHash: hash,
      ...claim,
      answerHash: word('9a'),
      ...compact(networkKey, onboardDigest(domain, onboarding)),
    }),
  );
  await same('one answered');

  await rollout('first', 'd2');
  await rollout('second', 'd3');
  await rollout('first', 'd4');
  await same('rollouts pending');
  await pass(600);
  await rollout('first', 'd5');
  await rollout('third', 'd6');
  await same('a rollout in force, another pending');
  await send(c.encodeRollback({ app: app('first') }));
  await send(c.encodeRollback({ app: app('third') }));
  await send(c.encodeWithdraw({ app: app('second') }));
  await same('rolled back, withdrawn');
  await rollout('second', 'd7');
  await rollout('third', 'd8');

  await send(c.encodeSetDelay({ delay: 100 }));
  await send(c.encodeOpenPlatforms());
  await same('a shorter delay and open platforms pending');
  await pass(600);
  await send(c.encodeSetDelay({ delay: 50 }));
  await send(c.encodeAllowPlatform({ platform: word('c2') }));
  await send(c.encodeRevokePlatform({ platform: word('c3') }));
  await send(c.encodeClosePlatforms());
  await send(c.encodeAllowPlatform({ platform: word('c3') }));
  await send(c.encodeSetDelay({ delay: 2_000 }));
  await same('platforms closed, a longer delay');
  await send(c.encodeAllowMeasurement({ measurement: word('a2') }));
  await send(c.encodeAllowMeasurement({ measurement: word('a3') }));
  await send(c.encodeAllowConfig({ config: word('b2') }));
  await send(c.encodeRevokeMeasurement({ measurement: word('a2') }));
  await send(c.encodeRevokeConfig({ config: word('b1') }));

  await send(c.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 17 }));
  await send(c.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 12 }));
  await send(c.encodeSetAcceptedTcbStatuses({ statuses: 0b11 }));
  await send(c.encodeSetTcbOutOfDateGrace({ gracePeriod: 86_400 }));
  await same('TCB policy pending');
  await pass(2_100);
  await send(c.encodeSetAcceptedTcbStatuses({ statuses: 0b101 }));
  await send(c.encodeSetTcbOutOfDateGrace({ gracePeriod: 3_600 }));
  await send(c.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 13 }));
  for (let at = 0; at < 7; at += 1) {
    await send(c.encodeSetDeniedFmspc({ fmspc: to0x(utf8(`fmspc${at}`)), denied: true }));
  }
  await send(c.encodeSetDeniedFmspc({ fmspc: to0x(utf8('fmspc3')), denied: false }));
  await same('FMSPCs denied, one allowed again');
  await send(c.encodeTransferOwnership({ newOwner: other.address }));
  await same('an heir named');
}

describe('what is pending', () => {
  const c = contractOf;
  const app = to0x(appId('fourth'));
  const fmspc = to0x(utf8('fmspc4'));
  let liar: LyingRpc;
  beforeAll(async () => {
    await send(c.encodeTransferOwnership({ newOwner: `0x${'00'.repeat(20)}` }));
    // All of these wait for 2,000 s.
    await send(c.encodeRollout({ app, manifestHash: word('e1') }));
    await send(c.encodeSetDelay({ delay: 1 }));
    await send(c.encodeOpenPlatforms());
    await send(c.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 2 }));
    await send(c.encodeSetAcceptedTcbStatuses({ statuses: 0b1101 }));
    await send(c.encodeSetTcbOutOfDateGrace({ gracePeriod: 7_200 }));
    await send(c.encodeSetDeniedFmspc({ fmspc, denied: false }));
    await send(c.encodeAllowMeasurement({ measurement: word('a7') }));
    await send(c.encodeAllowConfig({ config: word('b7') }));
    await send(c.encodeAllowPlatform({ platform: word('c7') }));
    liar = await startLyingRpc(anvil.url);
  });
  afterAll(() => liar?.stop());

  /** An audit without public files, by one endpoint that changes replies. */
  async function audited(
    lie: Lie,
    tries: 'canonical' | 'its own' = 'canonical',
    records: readonly string[] = [],
  ) {
    const { stateRoot, proof } = await canonical();
    liar.lie = (method, reply, params) => {
      if (tries === 'canonical' && method === 'eth_getProof') reply = { result: proof };
      if (tries === 'canonical' && method === 'eth_getBlockByNumber')
        reply = { result: { ...(reply.result as object), stateRoot } };
      return lie(method, reply, params);
    };
    const endpoints = [liar.url];
    const { head, chain } = await auditedHead({ endpoints, confirmation: { depth: 0 }, waitMs: 0 });
    const { report } = await audit({
      network: { chainId: chain.chainId, contract: contract },
      flavour: 'sim',
      history: await readHistory({ endpoints, contract: contract, from: 0, head }),
      archives: records,
      reader: networkReader(chain, contract),
      head,
      stateProof: await readStateProof(endpoints, contract, head),
      upcoming: await readUpcoming(chain, contract, head),
    });
    const about = (code: string) =>
      report.findings.filter((finding) => finding.code === code).map(({ where }) => where);
    return { report, about };
  }
  type Logs = { topics: string[]; data: string }[];
  const logs =
    (change: (logs: Logs) => Logs): Lie =>
    (method, reply) =>
      method === 'eth_getLogs' ? { result: change(reply.result as Logs) } : reply;
  const without = (topic: string) =>
    logs((all) => {
      const last = all.findLast(({ topics }) => topics[0] === topic);
      return all.filter((log) => log !== last);
    });

  test('is explained when nothing is hidden', async () => {
    const { report, about } = await audited((_, reply) => reply);
    expect(about('HISTORY_INCOMPLETE')).toEqual([]);
    expect(about('STORAGE_UNEXPLAINED')).toEqual([]);
    expect(report.storage).toMatchObject({ proven: true, explained: true, canonical: true });
    // The ten, and the FMSPC that was allowed again before.
    expect(report.pending.length).toBe(11);
    expect(report.unanswered.map(({ standing }) => standing)).toEqual(['open']);
    expect(about('REGISTRATIONS_UNANSWERED')).toEqual(['today']);
  });

  test('what the proof of the storage shows is not asked value by value, and requests are asked for together', async () => {
    const asked = { byValue: 0, requests: 0 };
    const byValue = ['isAllowed', 'measurementAllowedFrom', 'configAllowedFrom', 'platformAllowedFrom'];
    const isCallOf = (names: readonly string[], [call]: readonly unknown[]) =>
      names.some((name) =>
        (call as { data: string }).data.startsWith(contractInterface.getFunction(name)!.selector),
      );
    const counting: Lie = (method, reply, params) => {
      if (method !== 'eth_call') return reply;
      if (isCallOf(byValue, params)) asked.byValue += 1;
      if (isCallOf(['request', 'requestsByHash'], params)) asked.requests += 1;
      return reply;
    };
    await audited(counting);
    expect(asked.byValue).toBe(0);
    expect(asked.requests).toBeLessThanOrEqual(1);
    // Without a proof each value is asked for.
    await audited(counting, 'its own');
    expect(asked.byValue).toBeGreaterThan(3);
  });

  test.each<[string, keyof typeof networkTopics, string | undefined]>([
    ['a manifest', 'RolledOut', 'latest manifest of app fourth'],
    ['a shorter delay', 'DelaySet', 'the delay set last'],
    ['open platforms', 'PlatformsOpened', 'platforms open from'],
    ['a lower minimum', 'MinimumTcbEvaluationNumberSet', 'TCB policy set last: minimum'],
    ['more statuses', 'AcceptedTcbStatusesSet', 'TCB policy set last: statuses'],
    ['a longer grace', 'TcbOutOfDateGraceSet', 'TCB policy set last: grace period'],
    ['an FMSPC allowed again', 'FmspcAllowed', 'denied FMSPCs'],
    // No view lists these: the root alone tells.
    ['a measurement', 'MeasurementAllowed', undefined],
    ['a config', 'ConfigAllowed', undefined],
    ['a platform', 'PlatformAllowed', undefined],
    ['an heir', 'OwnershipTransferStarted', undefined],
  ])('hidden by the log, %s is noticed', async (_, name, where) => {
    const { report, about } = await audited(without(networkTopics[name]));
    expect(report.verdict).toBe('failed');
    expect(about('STORAGE_UNEXPLAINED')).toHaveLength(1);
    if (where !== undefined) expect(about('HISTORY_INCOMPLETE')).toContain(where);
  });

  test('an event too many is noticed too', async () => {
    const { about } = await audited(
      logs((all) => {
        const last = all.at(-1)!;
        return [
          ...all,
          { ...last, topics: [last.topics[0]!, word('c8')], logIndex: '0x63' } as (typeof all)[number],
        ];
      }),
    );
    expect(about('HISTORY_INCOMPLETE')).toContain(`platform ${'c8'.repeat(32)} allowed from`);
    expect(about('STORAGE_UNEXPLAINED')).toHaveLength(1);
  });

  test('an onboarding of which nobody kept a record, hidden with its registration', async () => {
    const { report, about } = await audited(
      logs((all) => {
        const { topics } = all.find((log) => log.topics[0] === networkTopics.Onboarded)!;
        return all.filter((log) => log.topics[1] !== topics[1]);
      }),
    );
    expect(about('STORAGE_UNEXPLAINED')).toHaveLength(1);
    expect(report.verdict).toBe('failed');
  });

  test.each<[string, Lie]>([
    ['refuses', () => ({ error: { code: -32601, message: 'the method does not exist' } })],
    ['gives an empty one', () => ({ result: { accountProof: [], storageProof: [] } })],
    ['gives no proof at all', () => ({ result: null })],
  ])('an endpoint that %s proves nothing, and the audit says so', async (_, lie) => {
    const { report, about } = await audited((method, reply, params) =>
      method === 'eth_getProof' ? lie(method, reply, params) : reply,
    );
    expect(about('STORAGE_UNPROVEN')).toHaveLength(1);
    expect(report.storage).toMatchObject({ proven: false, explained: false });
    expect(['unproven', 'failed']).toContain(report.verdict);
  });

  test('a chain whose tries keep zeros is told by that, and is no reason to fail what is simulated', async () => {
    const { report, about } = await audited((_, reply) => reply, 'its own');
    expect(report.storage).toMatchObject({
      proven: true,
      explained: false,
      canonical: false,
      under: 'block hash',
    });
    expect(about('STORAGE_UNEXPLAINED')).toEqual([]);
    expect(report.findings).toContainEqual(
      expect.objectContaining({ severity: 'warning', code: 'STORAGE_ROOT_NOT_CANONICAL' }),
    );
  });

  test("a header that does not hash to the block's is not called its proof", async () => {
    const { report } = await audited((_, reply) => reply);
    expect(report.storage).toMatchObject({ under: "endpoints' word" });
  });

  test("an answer that can't be posted any more: with its sealed secret found, somebody may have it; to a request that never was, a node misbehaved", async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
    const { chainId } = await rpc.getNetwork();
    const domain = { chainId: Number(chainId), contract };
    const zero = '00'.repeat(32);
    const put = (requestHash: string, key: string) => {
      const sealed = utf8('x'.repeat(SEALED_BYTES));
      const values = { requestHash: fromHex(requestHash, 32), answerHash: answerHash(sealed) };
      const bytes = { measurement: fromHex(zero), config: fromHex(zero), platform: fromHex(zero) };
      const signature = compact(
        new SigningKey(key),
        onboardDigest(domain, { node: other.address, ...values, ...bytes }),
      );
      const answer = { measurement: zero, config: zero, platform: zero, signature };
      const both = { ...domain, requestHash };
      const write = (type: string, message: object) =>
        writeFileSync(
          join(folder, `${type}-${requestHash}.json`),
          JSON.stringify({ type, ...both, ...message }),
        );
      write('answer', { node: other.address, answerHash: toHex(values.answerHash), ...answer });
      return () => write('sealed', { sealed: toHex(sealed) });
    };
    const { report: before } = await audited((_, reply) => reply);
    const [open] = before.unanswered;
    const findings = async () => (await audited((_, reply) => reply, 'canonical', [folder])).about;
    const give = put(open!.requestHash, word('77'));
    put('ab'.repeat(32), word('78'));
    // A request of which the contract knows nothing: a record of it says from which block on it could have been registered.
    const { number, hash } = (await rpc.getBlock('latest'))!;
    const kem = new Uint8Array(KEM_PUBLIC_KEY_BYTES).fill(1);
    const unregistered = requestOver(domain, { number, hash: fromHex(hash!) }, kem);
    const neverAsked = toHex(requestOf(unregistered).hash);
    writeFileSync(join(folder, `request-${neverAsked}.json`), JSON.stringify(unregistered));
    put(neverAsked, word('77'));
    const early = await findings();
    expect(early('ANSWER_NOT_POSTED').toSorted()).toEqual(
      [`request ${open!.requestHash}`, `request ${neverAsked}`].toSorted(),
    );
    expect(early('ANSWER_WITHOUT_REQUEST')).toEqual([]);
    give();
    // It may be posted yet.
    expect((await findings())('SECRET_WITHOUT_TRACE')).toEqual([]);
    await rpc.send('anvil_mine', ['0x1d0']);
    const late = await findings();
    expect(late('SECRET_WITHOUT_TRACE')).toEqual([`request ${open!.requestHash}`]);
    expect(late('ANSWER_WITHOUT_REQUEST')).toEqual([`request ${neverAsked}`]);
    rmSync(folder, { recursive: true, force: true });
  });

  test("an app's name is one that the contract takes", async () => {
    const evil = to0x(Uint8Array.from(utf8('\u001b[0m\u001b[1Averdict  sound')));
    const { about, report } = await audited(
      logs((all) =>
        all.map((log) =>
          log.topics[0] === networkTopics.RolledOut
            ? { ...log, topics: [log.topics[0], evil.padEnd(66, '0')] }
            : log,
        ),
      ),
    );
    expect(about('HISTORY_BROKEN').length).toBeGreaterThan(0);
    expect(report.verdict).toBe('failed');
  });
});

test('a proof of another account, a broken or a short one is refused', async () => {
  const block = await rpc.send('eth_getBlockByNumber', ['latest', false]);
  const { accountProof } = await rpc.send('eth_getProof', [contract, [], { blockHash: block.hash }]);
  const root = provenStorageRoot(block.stateRoot, contract, accountProof);
  expect(root).toMatch(/^0x[0-9a-f]{64}$/);
  const refused = (address: string, proof: string[]) =>
    expect(() => provenStorageRoot(block.stateRoot, parseAddress(address), proof)).toThrow(
      /proof does not hold/,
    );
  refused(other.address, accountProof);
  refused(contract, accountProof.slice(1));
  refused(contract, accountProof.slice(0, -1));
  refused(contract, []);
  for (const [at, node] of (accountProof as string[]).entries()) {
    for (const place of [2, 10, node.length - 3]) {
      const flipped = `${node.slice(0, place)}${node[place] === '0' ? '1' : '0'}${node.slice(place + 1)}`;
      refused(contract, accountProof.with(at, flipped));
    }
  }
});
