import { expect, test } from 'vitest';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import type { CollateralMessage } from '../../lib/protocol/collateral.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import { type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import type { NetworkView, RequestView } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type RequestMessage,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { addressOf, compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import { requestDigest } from '../../lib/protocol/typed-data.ts';
import {
  forgedCopy,
  newAnswer,
  newSealed,
  requestOver,
  SECRET,
  spoiledCopy,
} from '../../test/support/guest.ts';
import { type Message, MessageKinds } from '../gossip/message-kind.ts';
import type { Admission } from './admission.ts';
import { relayKinds } from './kinds.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const ZERO = `0x${'00'.repeat(20)}`;
const KEY = networkKey(SECRET, 1).address;
const kem = await newKemKeyPair();

const kinds = new MessageKinds(relayKinds);
const NOTHING: Admission['held'] = { about: () => [], isKept: () => false };
const admit = (
  network: Admission['network'],
  message: Message,
  held = NOTHING,
  flavour: Admission['flavour'] = 'sim',
) => kinds.of(message).admit(message, { network, held, flavour, certificate: undefined });

/** A host that holds these answers. */
const holding = (answers: readonly AnswerMessage[], isKept: boolean): Admission['held'] => ({
  about: <M extends Message>() => [...answers] as Message[] as M[],
  isKept: () => isKept,
});

/** What the chain says when first asked, and when asked again; of every request it says the same. */
function networkAt(
  ...views: { epoch?: number; head?: number; networkKey?: string; request?: Partial<RequestView> }[]
) {
  let asked = 0;
  return {
    domain,
    asked: () => asked,
    async request() {
      asked += 1;
      return { state: 'none', ...views[0]!.request } as RequestView;
    },
    async recent() {
      const { epoch = 1, head = 1000, networkKey = KEY } = views[Math.min(asked, views.length - 1)]!;
      asked += 1;
      const view: NetworkView = {
        networkKey: parseAddress(networkKey),
        epoch,
        onboarded: true,
        delay: 0,
        requestWindow: 50,
        platformsOpen: false,
      };
      return { view, head };
    },
  };
}

const BLOCK_HASH = new Uint8Array(32).fill(0x33);
const requestAt = (number: number, epoch = 1): RequestMessage =>
  requestOver(domain, { number, hash: BLOCK_HASH }, kem.publicKey, { epoch });

test('a recent request by its own node is let through, whatever field of it was changed is not', async () => {
  const good = requestAt(990);
  await admit(networkAt({}), good);
  for (const change of [
    { node: addressOf(newPrivateKey()) },
    { kemPublicKey: parseHex('00'.repeat(1216)) },
    { config: parseHex('00'.repeat(32)) },
    { blockNumber: 991 },
    { blockHash: parseHex('00'.repeat(32)) },
    { quoteHash: parseHex('00'.repeat(32)) },
    { signature: { ...good.signature, vs: parseHex(`0x${'00'.repeat(32)}`) } },
  ]) {
    await expect(
      admit(networkAt({}), { ...good, ...change }),
      JSON.stringify(change).slice(0, 80),
    ).rejects.toMatchObject({
      code: 'GOSSIP_SIGNATURE',
    });
  }
});

test("a request that can't be registered any more is stale; one that we can't judge yet may come again", async () => {
  await admit(networkAt({}), requestAt(1000 - 256 - 50));
  await expect(admit(networkAt({}), requestAt(1000 - 256 - 51))).rejects.toMatchObject({
    code: 'GOSSIP_STALE',
  });
  await expect(admit(networkAt({ epoch: 2 }), requestAt(990, 1))).rejects.toMatchObject({
    code: 'GOSSIP_STALE',
  });
  for (const ahead of [requestAt(990, 2), requestAt(5000)]) {
    const error = await admit(networkAt({}), ahead).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Retryable);
    expect(error.code).toBe('GOSSIP_AHEAD');
  }
});

test('nothing is refused for what the chain said a while ago', async () => {
  const network = networkAt({ epoch: 0, networkKey: ZERO }, { epoch: 1 });
  await admit(network, requestAt(990));
  expect(network.asked()).toBe(2);
  await admit(networkAt({ networkKey: ZERO }, {}), await newAnswer(domain, requestAt(990)));
});

test('before bootstrap no answer is let through, not even one with a signature of nothing', async () => {
  const answer = await newAnswer(domain, requestAt(990));
  const unset = networkAt({ epoch: 0, networkKey: ZERO });
  await expect(admit(unset, answer)).rejects.toMatchObject({ code: 'GOSSIP_SIGNATURE' });
  for (const byte of ['00', 'ff']) {
    const signature = { r: parseHex(`0x${byte.repeat(32)}`), vs: parseHex(`0x${byte.repeat(32)}`) };
    await expect(admit(unset, { ...answer, signature })).rejects.toMatchObject({ code: 'GOSSIP_SIGNATURE' });
  }
  await expect(
    admit(networkAt({}), { ...answer, answerHash: parseHex('00'.repeat(32)) }),
  ).rejects.toMatchObject({
    code: 'GOSSIP_SIGNATURE',
  });
});

test('sealed bytes are let through when an answer that is held names them, or the contract; nothing else asks the chain', async () => {
  const request = requestAt(990);
  const [answer, sealed] = [await newAnswer(domain, request), await newSealed(domain, request)];
  const other = { ...sealed, sealed: parseHex('00'.repeat(1168)) };
  const refused = { code: 'GOSSIP_SEALED' };
  const recorded = (answerHash: Hex) => ({ request: { state: 'answered' as const, answerHash } });

  const held = holding([answer], false);
  const silent = networkAt({});
  await admit(silent, sealed, held);
  await expect(admit(silent, other, held)).rejects.toMatchObject(refused);
  await expect(admit(silent, { ...sealed, requestHash: parseHex('00'.repeat(32)) })).rejects.toMatchObject(
    refused,
  );
  expect(silent.asked()).toBe(0);

  // The contract holds all but the last byte.
  const kept = holding([], true);
  const onChain = recorded(parseHex(`0x${answer.answerHash.slice(0, 62)}00`));
  await admit(networkAt(onChain), sealed, kept);
  await expect(admit(networkAt(onChain), other, kept)).rejects.toMatchObject(refused);
  await expect(admit(networkAt(onChain), sealed)).rejects.toMatchObject(refused);
  await expect(
    admit(networkAt({ request: { state: 'open', answerHash: onChain.request.answerHash } }), sealed, kept),
  ).rejects.toMatchObject(refused);
  await expect(admit(networkAt(onChain), { ...sealed, chainId: 1 }, kept)).rejects.toMatchObject({
    code: 'GOSSIP_OTHER_NETWORK',
  });
});
test("a copy whose quote can't be the request's is not let through", async () => {
  const good = requestAt(990);
  const other = requestAt(990);
  const shown = networkAt({});
  expect(await admit(shown, good)).toEqual(good);
  for (const [copy, why] of [
    [spoiledCopy(good), /QUOTE_SIGNATURE/],
    [spoiledCopy(good, 777), /QUOTE_SIGNATURE/],
    [{ ...good, quote: parseHex(`${good.quote}ff`) }, /QUOTE_TRAILING/],
    [{ ...good, quote: parseHex(good.quote.slice(0, -2)) }, /QUOTE_/],
    [{ ...good, quote: parseHex('44') }, /QUOTE_/],
    [{ ...good, quote: other.quote }, /QUOTE_HASH_MISMATCH/],
  ] as const) {
    await expect(admit(shown, copy)).rejects.toMatchObject({
      code: 'GOSSIP_QUOTE',
      message: expect.stringMatching(why),
    });
  }
  // A signature of somebody's own key over the same bytes, under a root that this network does not trust.
  await expect(admit(shown, forgedCopy(good, 1), NOTHING, 'production')).rejects.toMatchObject({
    code: 'GOSSIP_QUOTE',
    message: expect.stringMatching(/PCK_CHAIN_ROOT/),
  });
});

test('a quote of another request is refused under any name, though its node signed it', async () => {
  const key = newPrivateKey();
  const block = { number: 990, hash: BLOCK_HASH };
  const one = requestOver(domain, block, kem.publicKey);
  const mine = requestOver(domain, block, kem.publicKey, { nodeKey: key });
  const unsigned = { ...mine, quote: one.quote, quoteHash: one.quoteHash };
  const digest = requestDigest(domain, requestOf(unsigned).hash);
  const stolen = { ...unsigned, signature: compact(sign(digest, key)) };
  await expect(admit(networkAt({}), stolen)).rejects.toMatchObject({
    code: 'GOSSIP_QUOTE',
    message: expect.stringMatching(/REPORT_DATA_MISMATCH/),
  });
});

test('collateral that nobody could judge the quote by is not passed on, the request is', async () => {
  const good = requestAt(990);
  const collateral = PUBLISHED_SIMULATED_COLLATERAL;
  const pass = (given: CollateralMessage) => admit(networkAt({}), { ...good, collateral: given });
  expect(await pass(collateral)).toEqual({ ...good, collateral });
  for (const change of [
    { tcb_info: collateral.tcb_info.replace('SIM', 'SIN').replace('53494d', '53494e') },
    { tcb_info_signature: '00'.repeat(64) },
    { pck_crl: '00' },
    { qe_identity: '{}' },
    { root_ca_crl: collateral.pck_crl },
    { tcb_info_issuer_chain: 'x' },
  ]) {
    expect(await pass({ ...collateral, ...change }), Object.keys(change)[0]).toEqual(good);
  }
});
