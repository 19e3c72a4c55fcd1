/**
 * Onboarding between real daemons over a real chain: what must work, and what must be refused with which code. The test
 * plays the host: it moves every message and may change any byte.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Collateral } from '../lib/attestation/collateral/collateral.ts';
import { simulatedCollateral, simulatedTcbInfo } from '../lib/attestation/simulated/collateral.ts';
import type { SimulatedSetting } from '../lib/attestation/simulated/conditions.ts';
import { SIMULATED_FMSPC } from '../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../lib/attestation/simulated/published.ts';
import { PUBLISHED_QUOTES, readPublishedQuote } from '../lib/attestation/testing.ts';
import { callUnix } from '../lib/daemon/unix-http.ts';
import { fromHex, to0x, toHex } from '../lib/protocol/encoding.ts';
import { type Hex, parseAddress, parseHex } from '../lib/protocol/hex.ts';
import {
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeRevokeConfig,
  encodeRevokeMeasurement,
  encodeRevokePlatform,
  encodeSetAcceptedTcbStatuses,
  encodeSetDeniedFmspc,
  encodeSetMinimumTcbEvaluationNumber,
} from '../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
  requestOf,
  type SealedMessage,
} from '../lib/protocol/onboarding-messages.ts';
import { AppKeyReply, AttestReply, sockets, TlsKeyReply } from '../lib/protocol/sockets.ts';
import { type AcceptableStatus, statusMask } from '../lib/protocol/tcb-policy.ts';
import { forgeAnswer, forgeBootstrap, forgeRequest, secretOf } from './support/forge.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';

let network: TestNetwork;
let a: TestNode;

beforeAll(async () => {
  network = await startTestNetwork();
  a = await network.start({ role: 'bootstrap' });
  await network.allow(a);
  await network.bootstrap(a);
});
afterAll(() => network?.stop());

const requestFrom = async (node: TestNode): Promise<RequestMessage> => {
  await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
  return node.post<RequestMessage>(nodePaths.request);
};
const tlsKeyOf = (node: TestNode) =>
  callUnix({
    path: `${node.directory}/run/dstack/${sockets.replicatorForTls}`,
    method: 'GET',
    route: '/v1/tls-key',
    reply: TlsKeyReply,
    timeout: 60_000,
  });
const refused = (code: string) => ({ code });

describe('two nodes', () => {
  let b: TestNode;
  let request: RequestMessage;
  let answer: AnswerMessage;

  test('the second gets the secret, and derives the same keys', async () => {
    b = await network.start({ role: 'join' });
    request = await requestFrom(b);
    await network.register(request);
    answer = await a.post<AnswerMessage>(nodePaths.onboard, request);
    await network.postOnboard(answer);
    const sealed = await a.post<SealedMessage>(nodePaths.sealed, request);
    expect(await b.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined' });

    expect(await tlsKeyOf(b)).toEqual(await tlsKeyOf(a));
    const appKeyOf = (node: TestNode, app: string) =>
      callUnix({
        path: `${node.directory}/run/dstack/${sockets.replicatorForAgent}`,
        method: 'POST',
        route: '/v1/app-key',
        body: { app, tag: 'session' },
        reply: AppKeyReply,
      });
    expect(await appKeyOf(b, 'greeting')).toEqual(await appKeyOf(a, 'greeting'));
    expect(await appKeyOf(b, 'other')).not.toEqual(await appKeyOf(a, 'greeting'));
    const [statusOfA, statusOfB] = [await a.status(), await b.status()];
    expect(statusOfB.networkKey).toBe(statusOfA.networkKey);
  });

  test('asked again, the onboarder refuses: the request is answered', async () => {
    await network.confirm();
    await expect(a.post(nodePaths.onboard, request)).rejects.toMatchObject(refused('REQUEST_NOT_OPEN'));
  });

  test("an attestation of either node is the network's, on chain", async () => {
    const { signature } = await callUnix({
      path: `${b.directory}/run/dstack/${sockets.replicatorForAgent}`,
      method: 'POST',
      route: '/v1/attest',
      body: { app: 'greeting', tag: 'hello', data: '00ff' },
      reply: AttestReply,
    });
    const { encodeVerifyAttestation, decodeVerifyAttestation } = await import(
      '../lib/protocol/network-contract.ts'
    );
    const { appId } = await import('../lib/protocol/manifest.ts');
    const bytes = Buffer.from(signature, 'hex');
    const verify = async (tag: string) =>
      decodeVerifyAttestation(
        await network.rpc.call({
          to: network.contract,
          data: encodeVerifyAttestation({
            app: `0x${toHex(appId('greeting'))}`,
            tag,
            data: '0x00ff',
            v: bytes[0]!,
            r: `0x${toHex(bytes.subarray(1, 33))}`,
            s: `0x${toHex(bytes.subarray(33))}`,
          }),
        }),
      );
    expect(await verify('hello')).toBe(true);
    expect(await verify('hellp')).toBe(false);
  });

  test('the port for the host answers nothing but onboarding', async () => {
    for (const path of ['/v1/tls-key', '/v1/app-key', '/v1/disk-key', '/v1/secret', '/getkey/x', '/']) {
      for (const method of ['GET', 'POST']) {
        const response = await fetch(`${a.url}${path}`, { method });
        expect(response.status, `${method} ${path}`).toBe(404);
      }
    }
    const { privateKey } = await tlsKeyOf(a);
    for (const text of [a.log(), b.log(), JSON.stringify([await a.status(), request, answer])]) {
      expect(text).not.toContain(privateKey);
    }
  });
});

describe('an onboarder refuses', () => {
  let b: TestNode;
  let request: RequestMessage;

  beforeAll(async () => {
    b = await network.start({ role: 'join' });
    request = await requestFrom(b);
  });

  test('a request that is not on chain', async () => {
    await expect(a.post(nodePaths.onboard, request)).rejects.toMatchObject(refused('REQUEST_NOT_OPEN'));
    await network.register(request);
  });

  test.each<[string, (r: RequestMessage) => Partial<RequestMessage>, string]>([
    ['another chain', () => ({ chainId: 1 }), 'REQUEST_OTHER_NETWORK'],
    ['another contract', (r) => ({ contract: r.node }), 'REQUEST_OTHER_NETWORK'],
    [
      'another KEM key',
      (r) => ({ kemPublicKey: parseHex(`00${r.kemPublicKey.slice(2)}`) }),
      'REQUEST_NOT_OPEN',
    ],
    ['another node', () => ({ node: parseAddress(`0x${'11'.repeat(20)}`) }), 'REQUEST_NOT_OPEN'],
    ['another quote hash', (r) => ({ quoteHash: parseHex(`00${r.quoteHash.slice(2)}`) }), 'REQUEST_NOT_OPEN'],
    ['a changed quote body', (r) => ({ quote: flip(r.quote, 200) }), 'QUOTE_HASH_MISMATCH'],
    ['a changed signature of the quote', (r) => ({ quote: flip(r.quote, 640) }), 'QUOTE_SIGNATURE'],
    ['a truncated quote', (r) => ({ quote: parseHex(r.quote.slice(0, 2000)) }), 'QUOTE_TRUNCATED'],
    [
      'another signature',
      (r) => ({ signature: { ...r.signature, r: parseHex(`0x${'11'.repeat(32)}`) } }),
      'REQUEST_SIGNATURE',
    ],
    ['an unknown field', () => ({ secret: '00' }) as Partial<RequestMessage>, 'MESSAGE_MALFORMED'],
    ['a number as a hash', () => ({ config: 5 }) as unknown as Partial<RequestMessage>, 'MESSAGE_MALFORMED'],
  ])('a request changed to %s', async (_, change, code) => {
    await expect(a.post(nodePaths.onboard, { ...request, ...change(request) })).rejects.toMatchObject(
      refused(code),
    );
  });

  test('a body that is no JSON, or too large, and goes on serving', async () => {
    const headers = { 'content-type': 'application/json' };
    const broken = await fetch(`${a.url}${nodePaths.onboard}`, { method: 'POST', body: '{', headers });
    expect([broken.status, ((await broken.json()) as { code: string }).code]).toEqual([
      400,
      'MESSAGE_MALFORMED',
    ]);
    const large = await fetch(`${a.url}${nodePaths.onboard}`, {
      method: 'POST',
      body: `"${'x'.repeat(140_000)}"`,
      headers,
    });
    expect(large.status).toBe(413);
    expect((await a.status()).state).toBe('joined');
  });

  test('a measurement, a config, a platform that was revoked meanwhile, each by its code', async () => {
    const { measurement, config } = b;
    const platform = `0x${b.quoting.platformId}`;
    const hex = (bytes: Uint8Array) => `0x${toHex(bytes)}`;
    const cases = [
      [
        'MEASUREMENT_NOT_ALLOWED',
        encodeRevokeMeasurement({ measurement: hex(measurement) }),
        encodeAllowMeasurement({ measurement: hex(measurement) }),
      ],
      [
        'CONFIG_NOT_ALLOWED',
        encodeRevokeConfig({ config: hex(config) }),
        encodeAllowConfig({ config: hex(config) }),
      ],
      ['PLATFORM_NOT_ALLOWED', encodeRevokePlatform({ platform }), encodeAllowPlatform({ platform })],
    ] as const;
    for (const [code, revoke, allow] of cases) {
      await network.send(revoke);
      await expect(a.post(nodePaths.onboard, request)).rejects.toMatchObject(refused(code));
      await network.send(allow);
    }
    expect(await a.post(nodePaths.onboard, request)).toMatchObject({ type: 'answer' });
  });

  test('another measurement, and another config', async () => {
    const other = await network.start({ role: 'join', image: 'another image' });
    const its = await requestFrom(other);
    await network.register(its);
    await expect(a.post(nodePaths.onboard, its)).rejects.toMatchObject(refused('MEASUREMENT_NOT_ALLOWED'));

    const config = JSON.stringify({ ...JSON.parse(network.networkJson), minimumNodes: 2 });
    const elsewhere = await network.start({ role: 'join', networkJson: config });
    const hers = await requestFrom(elsewhere);
    await network.register(hers);
    await expect(a.post(nodePaths.onboard, hers)).rejects.toMatchObject(refused('CONFIG_NOT_ALLOWED'));
  });

  test("a dev image, which is not the onboarder's flavour", async () => {
    const dev = await network.start({ role: 'join', flavour: 'dev' });
    const its = await requestFrom(dev);
    await network.register(its);
    await expect(a.post(nodePaths.onboard, its)).rejects.toMatchObject(refused('RTMR3_MISMATCH'));
  });

  test('an expired request', async () => {
    const late = await network.start({ role: 'join' });
    const its = await requestFrom(late);
    await network.register(its);
    await network.rpc.send('anvil_mine', ['0x60']);
    await expect(a.post(nodePaths.onboard, its)).rejects.toMatchObject(refused('REQUEST_EXPIRED'));
    // It may ask again: a new quote, a new request.
    const again = await late.post<RequestMessage>(nodePaths.request);
    expect(toHex(requestOf(again).hash)).not.toBe(toHex(requestOf(its).hash));
    await network.register(again);
    expect(await a.post(nodePaths.onboard, again)).toMatchObject({ node: again.node });
  });
});

describe('a new node refuses', () => {
  test("an answer that is not on chain, is another's, or was changed", async () => {
    const b = await network.start({ role: 'join' });
    const request = await requestFrom(b);
    await network.register(request);
    const answer = await a.post<AnswerMessage>(nodePaths.onboard, request);
    const early: SealedMessage = {
      type: 'sealed',
      ...network.domain,
      requestHash: answer.requestHash,
      sealed: parseHex('00'.repeat(1168)),
    };
    await expect(b.post(nodePaths.answer, early)).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
    const other = { ...early, requestHash: '11'.repeat(32) };
    await expect(b.post(nodePaths.answer, other)).rejects.toMatchObject(refused('ANSWER_UNKNOWN_REQUEST'));
    await network.postOnboard(answer);
    const sealed = await a.post<SealedMessage>(nodePaths.sealed, request);
    const changed = { ...sealed, sealed: flip(sealed.sealed, 1150) };
    await expect(b.post(nodePaths.answer, changed)).rejects.toMatchObject(refused('ANSWER_MISMATCH'));
    expect((await b.status()).state).toBe('requesting');
    expect(await b.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined' });
  });

  test("a secret that is not the contract's, though its hash is on chain", async () => {
    // A separate network whose key the test holds, so that it can put a lie on chain under a valid signature.
    const evil = await startTestNetwork();
    try {
      const secret = secretOf("the network's");
      const b = await evil.start({ role: 'join' });
      await evil.allow(b);
      await forgeBootstrap(evil, secret);
      const request = await requestFrom(b);
      await evil.register(request);
      const { answer, sealed } = await forgeAnswer(evil, request, secret, { secret: secretOf('another') });
      await evil.postOnboard(answer);
      await expect(b.post(nodePaths.answer, sealed)).rejects.toMatchObject(refused('SECRET_MISMATCH'));
      expect(await b.status()).toMatchObject({ state: 'requesting', code: 'SECRET_MISMATCH' });
      await expect(tlsKeyOf(b)).rejects.toMatchObject(refused('SOCKET_TIMEOUT'));
    } finally {
      await evil.stop();
    }
  });
});

describe('what a platform is like', () => {
  const asked = async (simulated: SimulatedSetting) => {
    const node = await network.start({ role: 'join', simulated });
    const request = await requestFrom(node);
    await network.register(request);
    return { node, request };
  };
  const onboard = (request: RequestMessage, collateral?: Partial<Collateral>) =>
    a.post<AnswerMessage>(nodePaths.onboard, {
      ...request,
      ...(collateral !== undefined && { collateral: { ...PUBLISHED_SIMULATED_COLLATERAL, ...collateral } }),
    });
  let five: Awaited<ReturnType<typeof asked>>;

  test('a quote of version 5 is judged as one of version 4 is', async () => {
    five = await asked({ quoteVersion: 5 });
    expect(Buffer.from(five.request.quote, 'hex').readUInt16LE(0)).toBe(5);
    const { request, node } = five;
    await network.postOnboard(await onboard(request));
    const sealed = await a.post<SealedMessage>(nodePaths.sealed, request);
    expect(await node.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined' });
  });

  test.each<[string, SimulatedSetting, string]>([
    ['revoked', { condition: 'revoked' }, 'PCK_REVOKED'],
    ['out of date', { condition: 'out-of-date' }, 'TCB_STATUS_NOT_ACCEPTED'],
    ['booting its TDs in debug mode', { condition: 'debug' }, 'TD_DEBUG'],
  ])('one that is %s is refused', async (_, simulated, code) => {
    const { request } = await asked(simulated);
    await expect(onboard(request)).rejects.toMatchObject(refused(code));
  });

  test('the owner lets one that is out of date in, after the delay; and shuts it out at once', async () => {
    const slow = await startTestNetwork({ delay: 3600 });
    try {
      const first = await slow.start({ role: 'bootstrap' });
      await slow.allow(first);
      await slow.bootstrap(first);
      const old = await slow.start({ role: 'join', simulated: { condition: 'out-of-date' } });
      const request = await requestFrom(old);
      await slow.register(request);
      const onboarded = () => first.post<AnswerMessage>(nodePaths.onboard, request);
      const statuses = (...accepted: AcceptableStatus[]) =>
        slow.send(encodeSetAcceptedTcbStatuses({ statuses: statusMask(accepted) }));
      await expect(onboarded()).rejects.toMatchObject(refused('TCB_STATUS_NOT_ACCEPTED'));
      await statuses('UpToDate', 'OutOfDate');
      await expect(onboarded()).rejects.toMatchObject(refused('TCB_STATUS_NOT_ACCEPTED'));
      await slow.rpc.send('evm_increaseTime', [3601]);
      await slow.confirm();
      await slow.postOnboard(await onboarded());
      const sealed = await first.post<SealedMessage>(nodePaths.sealed, request);
      expect(await old.post(nodePaths.answer, sealed)).toMatchObject({ state: 'joined' });

      const late = await slow.start({ role: 'join', simulated: { condition: 'out-of-date' } });
      const its = await requestFrom(late);
      await slow.register(its);
      await statuses('UpToDate');
      await expect(first.post(nodePaths.onboard, its)).rejects.toMatchObject(
        refused('TCB_STATUS_NOT_ACCEPTED'),
      );
    } finally {
      await slow.stop();
    }
  });

  test('what the collateral must be: there, current, of this platform, as recent as the contract asks', async () => {
    const { request } = await asked({});
    const info = { ...simulatedTcbInfo() };
    const tcb = (change: object) => {
      const { tcb_info, tcb_info_signature } = simulatedCollateral({ tcbInfo: { ...info, ...change } });
      return { tcb_info, tcb_info_signature };
    };
    const without = { ...request, collateral: undefined };
    await expect(a.post(nodePaths.onboard, without)).rejects.toMatchObject(refused('COLLATERAL_MISSING'));
    const broken = [
      ['TCB_INFO_EXPIRED', tcb({ issueDate: '2020-01-01T00:00:00Z', nextUpdate: '2020-02-01T00:00:00Z' })],
      ['TCB_INFO_FMSPC', tcb({ fmspc: '00806f050000' })],
      ['TCB_INFO_SIGNATURE', { tcb_info_signature: '11'.repeat(64) }],
      ['PCK_CRL_SIGNATURE', { pck_crl: flip(parseHex(PUBLISHED_SIMULATED_COLLATERAL.pck_crl), 275) }],
      ['MESSAGE_MALFORMED', { pck_crl: 'zz' }],
      ['MESSAGE_MALFORMED', { tcb_info: 'x'.repeat(30_000) }],
      ['MESSAGE_MALFORMED', { more: 'x' } as Partial<Collateral>],
    ] as const;
    for (const [code, change] of broken) {
      await expect(onboard(request, change), code).rejects.toMatchObject(refused(code));
    }
    await network.send(encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 2 }));
    await expect(onboard(request)).rejects.toMatchObject(refused('TCB_EVALUATION_NUMBER'));
    await network.send(encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 0 }));
    const fmspc = to0x(SIMULATED_FMSPC);
    await network.send(encodeSetDeniedFmspc({ fmspc, denied: true }));
    await expect(onboard(request)).rejects.toMatchObject(refused('FMSPC_NOT_ALLOWED'));
    await network.send(encodeSetDeniedFmspc({ fmspc, denied: false }));
    expect(await onboard(request)).toMatchObject({ type: 'answer' });
  });

  test("an enclave's quote is no evidence of a node, though it is Intel's and on chain", async () => {
    const sgx = PUBLISHED_QUOTES.find(({ tee, collateral }) => tee === 'SGX' && collateral.length > 0)!;
    const { message } = await forgeRequest(network, { quote: () => readPublishedQuote(sgx) });
    await network.register(message);
    await expect(onboard(message)).rejects.toMatchObject(refused('QUOTE_TEE_TYPE'));
  });
});

describe('a production image', () => {
  test('does not even start without hardware to attest it', async () => {
    const node = await network.start({ role: 'join', flavour: 'production' });
    await eventually(async () => node.attestor.exitCode !== null, 'the attestor to give up');
    expect(node.attestor.exitCode).toBe(70);
  });
});

/** Changes one byte of hex text. */
function flip(hex: Hex, byte: number): Hex {
  const bytes = fromHex(hex);
  bytes[byte] = bytes[byte]! ^ 1;
  return toHex(bytes);
}
