/**
 * The replicator under attack: real daemons where the host's actions matter, and a node in this process, on a simulated clock,
 * where hours have to pass.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Wallet } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readIdentity } from '../../guest/replicator/identity.ts';
import { createNode, type Node } from '../../guest/replicator/node.ts';
import { serveSiblings } from '../../guest/replicator/siblings.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { chainClient } from '../../lib/chain/chain-client.ts';
import { STALE_AFTER_SECONDS } from '../../lib/chain/chain-clock.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { encodeAllowPlatform, encodeRevokePlatform } from '../../lib/protocol/network-contract.ts';
import { onboardCall } from '../../lib/protocol/onboarding-calls.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { AttestReply, JoinedReply, sockets } from '../../lib/protocol/sockets.ts';
import { forgeAnswer, forgeBootstrap, forgeRequest, ppidOf, secretOf } from '../support/forge.ts';
import { changeHeader, honest, type LyingRpc, startLyingRpc } from '../support/lying-rpc.ts';
import {
  eventually,
  registersOf,
  startTestNetwork,
  type TestNetwork,
  type TestNode,
} from '../support/network.ts';

const refused = (code: string) => ({ code });
const askedBy = async (network: TestNetwork, node: TestNode): Promise<RequestMessage> => {
  await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
  const request = await node.post<RequestMessage>(nodePaths.request);
  await network.register(request);
  return request;
};

/** The reply of an endpoint that claims an open request was answered: the state, and the hash of its answer. */
function answered(result: unknown, { answerHash }: AnswerMessage): unknown {
  const words = String(result).slice(2).match(/.{64}/g) ?? [];
  const open = words.length === 6 && BigInt(`0x${words[0]}`) === 1n;
  return open ? `0x${'2'.padStart(64, '0')}${'0'.repeat(256)}${answerHash.slice(0, 62)}00` : result;
}

/** From an account whose nonce is read each time, because a re-org resets it. */
async function postByAnother(network: TestNetwork, answer: AnswerMessage): Promise<void> {
  const another = new Wallet(
    // anvil's second account.
    '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
    network.rpc,
  );
  const data = onboardCall(answer);
  const nonce = Number(await network.rpc.send('eth_getTransactionCount', [another.address, 'latest']));
  await (await another.sendTransaction({ to: network.contract, data, nonce })).wait();
}

describe('a network of processes', () => {
  const clock = ['--import', join(import.meta.dirname, '../support/wrong-clock.ts')];
  const proxies: LyingRpc[] = [];
  let network: TestNetwork;
  /** The first that made a secret; then the one whose secret stayed; then one that joined it. */
  let first: TestNode;
  let second: TestNode;
  let third: TestNode;
  /** By the third. */
  let asked: RequestMessage;

  beforeAll(async () => {
    network = await startTestNetwork();
    first = await network.start({ role: 'bootstrap' });
    await network.allow(first);
  });
  afterAll(async () => {
    for (const proxy of proxies) proxy.stop();
    await network?.stop();
  });

  test('a network of one says so', async () => {
    await network.bootstrap(first);
    await eventually(async () => first.log().includes('NETWORK_OF_ONE'), 'the warning');
  });

  test('a network bootstrapped anew: whoever has another secret forgets it and ends with 70', async () => {
    // One that joined and one that still waits; the machine's clock of the one that wins is an hour off, either way.
    second = await network.start({ role: 'bootstrap', execArgv: clock });
    const waiting = await network.start({ role: 'bootstrap' });
    await eventually(async () => (await waiting.status()).state === 'bootstrapping', 'the third secret');
    const { networkKey, epoch } = await network.takeBootstrap(second);
    expect(epoch).toBe(2);
    await eventually(async () => (await second.status()).state === 'joined', 'the second to join');
    expect(await second.status()).toMatchObject({ networkKey, epoch: 2 });
    const said = [...second.log().matchAll(/"time":(\d+)/g)].map(([, time]) =>
      Math.abs(Date.now() - Number(time)),
    );
    expect(Math.max(...said), 'its clock is wrong').toBeGreaterThan(3_500_000);

    await eventually(async () => first.replicator.exitCode !== null, 'the first to end');
    await eventually(async () => waiting.replicator.exitCode !== null, 'the waiting one to end');
    expect([first.replicator.exitCode, waiting.replicator.exitCode]).toEqual([70, 70]);
    expect(first.log()).toContain('KEY_SUPERSEDED');
    expect(waiting.log()).toContain('BOOTSTRAP_SUPERSEDED');
  });

  test('endpoints that disagree: it waits and says why; one liar among three is outvoted', async () => {
    for (let i = 0; i < 3; i += 1) proxies.push(await startLyingRpc(network.anvil.url));
    const [a, b, c] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    const networkJson = network.configWith({ endpoints: proxies.map(({ url }) => url), quorum: 2 });
    await network.allowConfig(networkJson);
    a.lie = changeHeader({ hash: `0x${'11'.repeat(32)}` });
    b.lie = changeHeader({ hash: `0x${'22'.repeat(32)}` });
    third = await network.start({ role: 'join', networkJson, execArgv: clock });
    await eventually(async () => (await third.status()).code === 'CHAIN_DISAGREES', 'the reason');
    expect((await third.status()).state).toBe('starting');

    a.lie = honest;
    b.lie = honest;
    // All calls of one endpoint answered as if there were no network, no request, no permission.
    c.lie = (method, reply) => (method === 'eth_call' ? { result: `0x${'00'.repeat(192)}` } : reply);
    asked = await askedBy(network, third);
    expect((await third.status()).code).toBeUndefined();
  });

  test('a platform revoked between request and answer: nothing is sealed; between answer and onboard: nothing lands', async () => {
    const platform = `0x${second.quoting.platformId}`;
    await network.send(encodeRevokePlatform({ platform }));
    await network.confirm();
    await expect(second.post(nodePaths.onboard, asked)).rejects.toMatchObject(
      refused('PLATFORM_NOT_ALLOWED'),
    );
    await network.send(encodeAllowPlatform({ platform }));
    await network.confirm();
    const answer = await second.post<AnswerMessage>(nodePaths.onboard, asked);
    await network.send(encodeRevokePlatform({ platform }));
    await expect(network.postOnboard(answer)).rejects.toMatchObject(refused('PlatformNotAllowed'));
    await expect(second.post(nodePaths.sealed, asked)).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    await network.send(encodeAllowPlatform({ platform }));
    await network.postOnboard(answer);
    const sealed = await second.post<SealedMessage>(nodePaths.sealed, asked);
    // The liar still says that there is no answer; the other two say which.
    expect(await third.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined', epoch: 2 });
  });

  test('two onboarders race, and it is no race: both give the same answer and seal the same bytes', async () => {
    const fourth = await network.start({ role: 'join' });
    const request = await askedBy(network, fourth);
    const [one, other] = await Promise.all([
      second.post<AnswerMessage>(nodePaths.onboard, request),
      third.post<AnswerMessage>(nodePaths.onboard, request),
    ]);
    expect(other).toEqual(one);
    // Asked again, an onboarder repeats itself: a relay that lost the answer gets the same one.
    expect(await second.post<AnswerMessage>(nodePaths.onboard, request)).toEqual(one);
    const landed = await Promise.allSettled([network.postOnboard(other), network.postOnboard(one)]);
    expect(landed.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const [taken, same] = await Promise.all([
      second.post<SealedMessage>(nodePaths.sealed, request),
      third.post<SealedMessage>(nodePaths.sealed, request),
    ]);
    expect(same).toEqual(taken);

    // What was sealed to another request, as it is and relabelled.
    const elsewhere = await forgeRequest(network);
    await network.register(elsewhere.message);
    await network.postOnboard(await second.post<AnswerMessage>(nodePaths.onboard, elsewhere.message));
    const foreign = await second.post<SealedMessage>(nodePaths.sealed, elsewhere.message);
    await expect(fourth.post(nodePaths.answer, foreign)).rejects.toMatchObject(
      refused('ANSWER_UNKNOWN_REQUEST'),
    );
    const relabelled = { ...foreign, requestHash: taken.requestHash };
    await expect(fourth.post(nodePaths.answer, relabelled)).rejects.toMatchObject(refused('ANSWER_MISMATCH'));

    const joins = await Promise.all([
      fourth.post(nodePaths.answer, taken),
      fourth.post(nodePaths.answer, taken),
    ]);
    for (const status of joins) expect(status).toMatchObject({ state: 'joined' });
    expect((await fourth.status()).networkKey).toBe((await second.status()).networkKey);
  });

  test("what is sealed for is confirmed: neither a block that a re-org drops nor one endpoint's word is enough", async () => {
    const [, , liar] = proxies as [LyingRpc, LyingRpc, LyingRpc];
    liar.lie = honest;
    const networkJson = network.configWith({
      endpoints: proxies.map(({ url }) => url),
      quorum: 2,
      confirmation: { depth: 2 },
    });
    await network.allowConfig(networkJson);
    const fifth = await network.start({ role: 'join', networkJson });
    const its = await askedBy(network, fifth);
    await network.postOnboard(await second.post<AnswerMessage>(nodePaths.onboard, its));
    const secretOfFifth = await second.post<SealedMessage>(nodePaths.sealed, its);
    await network.rpc.send('anvil_mine', ['0x2']);
    expect(await fifth.post(nodePaths.answer, secretOfFifth)).toMatchObject({ state: 'joined' });

    // The fifth is asked now: about a request that was answered by another node.
    const { message } = await forgeRequest(network);
    await network.register(message);
    const answer = await second.post<AnswerMessage>(nodePaths.onboard, message);
    const sealed = () => fifth.post<SealedMessage>(nodePaths.sealed, message);
    await network.rpc.send('anvil_mine', ['0x3']);
    liar.lie = (method, reply) =>
      method === 'eth_call' ? { result: answered(reply.result, answer) } : reply;
    await expect(sealed()).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    liar.lie = honest;

    const before = await network.rpc.send('evm_snapshot', []);
    await postByAnother(network, answer);
    const unconfirmed = await second.post<SealedMessage>(nodePaths.sealed, message);
    await expect(sealed()).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    await network.rpc.send('evm_revert', [before]);
    await network.rpc.send('anvil_mine', ['0x5']);
    await expect(sealed()).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    await postByAnother(network, answer);
    await network.rpc.send('anvil_mine', ['0x1']);
    await expect(sealed()).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    await network.rpc.send('anvil_mine', ['0x1']);
    expect(await sealed()).toEqual(unconfirmed);
  });

  test('a replayed quote, and a config of yesterday, are refused', async () => {
    const { message: original } = await forgeRequest(network);
    await network.register(original);
    const quote = Buffer.from(original.quote, 'hex');
    const { message: replayed } = await forgeRequest(network, { quote: () => quote });
    expect(replayed.quoteHash).toBe(original.quoteHash);
    await network.register(replayed);
    await network.confirm();
    await expect(second.post(nodePaths.onboard, replayed)).rejects.toMatchObject(
      refused('REPORT_DATA_MISMATCH'),
    );

    const old = network.configWith({ minimumNodes: 2 });
    const { message: stale } = await forgeRequest(network, { networkJson: old });
    await network.register(stale);
    await network.confirm();
    await expect(second.post(nodePaths.onboard, stale)).rejects.toMatchObject(refused('CONFIG_NOT_ALLOWED'));
    // Nor does it help to run under the old one and to name the new one.
    const rtmr3 = replay(expectedRequestLog('sim', requestOf(stale).request.config));
    const { message: mixed } = await forgeRequest(network, { rtmr3 });
    await network.register(mixed);
    await network.confirm();
    await expect(second.post(nodePaths.onboard, mixed)).rejects.toMatchObject(refused('RTMR3_MISMATCH'));
  });
});

describe("a machine's clock that is an hour off, and a chain's that is decades ahead", () => {
  const END_OF_COLLATERAL = Date.parse('2049-12-31T23:59:59Z') / 1000;
  const SECRET = secretOf("the network's");
  let network: TestNetwork;
  beforeAll(async () => {
    network = await startTestNetwork();
  });
  afterAll(() => network?.stop());

  test("what ends, ends by the chain's time: neither earlier nor later for what the machine's clock says", async () => {
    const execArgv = ['--import', join(import.meta.dirname, '../support/wrong-clock.ts')];
    const node = await network.start({ role: 'join', execArgv });
    await network.allow(node);
    await forgeBootstrap(network, SECRET);
    const request = await askedBy(network, node);
    const { answer, sealed } = await forgeAnswer(network, request, SECRET);
    await network.postOnboard(answer);
    expect(await node.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined' });

    const onboardAt = async (time: number) => {
      await network.rpc.send('evm_setNextBlockTimestamp', [time]);
      await network.rpc.send('evm_mine', []);
      const { message } = await forgeRequest(network);
      await network.register(message);
      await network.confirm();
      return node.post<AnswerMessage>(nodePaths.onboard, message);
    };
    expect(await onboardAt(END_OF_COLLATERAL - 1800)).toMatchObject({ type: 'answer' });
    // The chain's time may be off by some minutes itself.
    await expect(onboardAt(END_OF_COLLATERAL + 3600)).rejects.toMatchObject(refused('PCK_CHAIN_VALIDITY'));
  });
});

describe("a node on a clock of the test's own", () => {
  const SECRET = secretOf("the network's");
  let network: TestNetwork;
  /** Milliseconds that the test let pass. */
  let passed = 0;
  const stop = new AbortController();
  const ends: string[] = [];
  const quotes: Uint8Array[] = [];
  let files: TestNode;

  beforeAll(async () => {
    network = await startTestNetwork();
    // Lends its files and its platform; its replicator is not asked.
    files = await network.start({ role: 'join' });
    await network.allow(files);
    await forgeBootstrap(network, SECRET);
  });
  afterAll(async () => {
    stop.abort();
    await network?.stop();
  });

  function nodeHere(role: 'join' | 'bootstrap' = 'join'): Node {
    writeFileSync(join(files.directory, 'run/dstack/host.json'), JSON.stringify({ role }));
    const identity = readIdentity(files.directory);
    const monotonic = () => performance.now() + passed;
    const platform = createSimulatedPlatform({ ppid: ppidOf(network) });
    const registers = {
      ...registersOf(),
      rtmr3: replay(expectedRequestLog('sim', identity.config)),
    };
    const node = createNode({
      identity,
      reader: networkReader(chainClient({ config: identity.network, monotonic }), network.contract),
      attestor: {
        quote: async (reportData) => {
          const quote = platform.signQuote({ registers, reportData });
          quotes.push(quote);
          return quote;
        },
        joined: async () => {},
        firmwareLog: async () => [],
      },
      log: { info() {}, warn() {} },
      pollEvery: 20,
      watchEvery: 20,
      monotonic,
      end: (code) => void ends.push(code),
    });
    void node.run(stop.signal);
    return node;
  }
  const reached = (node: Node, state: string) =>
    eventually(async () => node.status().state === state, `the node to be ${state}`);
  const joinHere = async (node: Node): Promise<void> => {
    await reached(node, 'requesting');
    const request = await node.request();
    await network.register(request);
    const { answer, sealed } = await forgeAnswer(network, request, SECRET);
    await network.postOnboard(answer);
    await node.answer(sealed);
  };

  test('an answer that is withheld: two minutes after it landed the node asks anew, and still takes it if it comes', async () => {
    const node = nodeHere();
    await reached(node, 'requesting');
    const request = await node.request();
    await network.register(request);
    const { answer, sealed: withheld } = await forgeAnswer(network, request, SECRET);
    await network.postOnboard(answer);
    expect(await node.request()).toEqual(request);
    passed += 119_000;
    expect(await node.request()).toEqual(request);
    passed += 2_000;
    const again = await node.request();
    expect(toHex(requestOf(again).hash)).not.toBe(toHex(requestOf(request).hash));
    expect(again.quoteHash).not.toBe(request.quoteHash);
    // It did not make a third one meanwhile, and the late answer to the first is as good as ever.
    expect(await node.request()).toEqual(again);
    expect(await node.answer(withheld)).toMatchObject({ state: 'joined' });
  });

  test('with no new block for an hour nothing is sealed, quoted or attested, and the status says why', async () => {
    const node = nodeHere();
    await joinHere(node);
    const joined = await node.joined;
    const asking = nodeHere();
    await reached(asking, 'requesting');
    // Answered, and the answer withheld: when two minutes have passed it needs a new quote.
    const asked = await asking.request();
    await network.register(asked);
    await network.postOnboard((await forgeAnswer(network, asked, SECRET)).answer);
    expect(await asking.request()).toEqual(asked);
    const { message } = await forgeRequest(network);
    await network.register(message);
    const run = join(files.directory, 'here');
    const servers = await serveSiblings(run, node.joined, run);
    // What kubernethes is told to go on from: nothing that is before the newest block, once that has been seen.
    const { number, timestamp } = (await network.rpc.getBlock('latest'))!;
    const goesOn = async () => {
      const { reached: from } = await callUnix({
        path: join(run, sockets.replicatorForKubernethes),
        method: 'GET',
        route: '/v1/status',
        reply: JoinedReply,
      });
      return from;
    };
    await eventually(async () => (await goesOn()).block === number, 'the last block to be seen');
    joined.requireFresh();
    const goesOnFrom = await goesOn();
    expect(goesOnFrom).toMatchObject({ block: number, timestamp });
    expect(goesOnFrom.now).toBeGreaterThanOrEqual(timestamp);

    passed += (STALE_AFTER_SECONDS + 60) * 1000;
    await expect(node.onboard(message)).rejects.toMatchObject(refused('CHAIN_STALE'));
    await expect(asking.request()).rejects.toMatchObject(refused('CHAIN_STALE'));
    expect(() => joined.requireFresh()).toThrowError(expect.objectContaining(refused('CHAIN_STALE')));
    // As the agent asks: the socket says it too, and an app gets nothing.
    const attest = () =>
      callUnix({
        path: join(run, sockets.replicatorForAgent),
        method: 'POST',
        route: '/v1/attest',
        body: { app: 'greeting', tag: 'hello', data: '00' },
        reply: AttestReply,
        timeout: 60_000,
      });
    await expect(attest()).rejects.toMatchObject(refused('CHAIN_STALE'));
    for (const each of [node, asking]) {
      await eventually(async () => each.status().code === 'CHAIN_STALE', 'the reason');
    }

    // A block of this hour, as a chain that goes on has it.
    await network.rpc.send('evm_increaseTime', [STALE_AFTER_SECONDS + 60]);
    await network.confirm();
    expect(await node.onboard(message)).toMatchObject({ node: message.node });
    expect((await asking.request()).quoteHash).not.toBe(asked.quoteHash);
    await eventually(async () => node.status().code === undefined, 'the reason to go');
    expect((await attest()).signature).toHaveLength(130);
    for (const server of servers) server.close();
  });

  test('a secret that was superseded is wiped, and nothing more comes of the node', async () => {
    const other = await startTestNetwork();
    try {
      const here = network;
      const [file, secret] = [await other.start({ role: 'join' }), secretOf("the winner's")];
      await other.allow(file);
      network = other;
      files = file;
      const node = nodeHere('bootstrap');
      await reached(node, 'bootstrapping');
      const { signature: _, ...made } = await node.bootstrapPackage();
      expect(made).toMatchObject({ epoch: 1, contract: other.contract });
      await forgeBootstrap(other, secret);
      await eventually(async () => ends.length > 0, 'the end');
      expect(ends).toEqual(['BOOTSTRAP_SUPERSEDED']);
      expect(node.status()).toMatchObject({ state: 'failed', code: 'BOOTSTRAP_SUPERSEDED' });
      expect(node.status().networkKey).toBeUndefined();
      await expect(node.bootstrapPackage()).rejects.toMatchObject(refused('NODE_STATE'));
      expect(networkKey(secret, 1).address).not.toBe(made.networkKey);
      network = here;
    } finally {
      await other.stop();
    }
  });
});
