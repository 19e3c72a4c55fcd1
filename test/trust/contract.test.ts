/**
 * Points 5, 6 and 7, which the contract decides: what must be refused before there is a key, what works only once, and that every
 * digest names its network, its purpose and its parts.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  appId,
  NETWORK_PRIVATE_KEY,
  type SignedRequest,
  TestNetwork,
  value,
} from '../../contracts/fixture.ts';
import { Chain, Refused } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { fromHex, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { appKey, deriveKey, type KeyPurpose, keyPurposes } from '../../lib/protocol/keys.ts';
import * as contract from '../../lib/protocol/network-contract.ts';
import { sign } from '../../lib/protocol/secp256k1.ts';
import { attestationDigest, type Domain } from '../../lib/protocol/typed-data.ts';

const ZERO_ADDRESS = `0x${'0'.repeat(40)}`;
const ZERO_WORD = `0x${'0'.repeat(64)}`;

let anvil: Anvil;
let chain: Chain;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
});
afterAll(() => anvil?.stop());

/** The name of the contract's refusal, or that there was none. */
const outcome = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'accepted',
    (error: unknown) =>
      error instanceof Refused ? (error.refusal?.name ?? error.message) : (error as Error).message,
  );

// ------------------------------------------------------------------------------------------------ 5

/** Signatures from which `ecrecover` gets no address at all. */
const nothing = [
  { r: ZERO_WORD, vs: ZERO_WORD },
  { r: `0x${'f'.repeat(64)}`, vs: to0x(value('any')) },
  { r: ZERO_WORD, vs: to0x(value('any')) },
];

test('5: a signature that recovers nothing is not that of an unset key', async () => {
  const network = await TestNetwork.deploy(chain);
  await network.allowAll();
  const attestation = { app: appId('web'), tag: 'price', data: '0x00' };
  for (const { r, vs } of nothing) {
    for (const v of [0, 27, 28, 255]) {
      const args = { ...attestation, v, r, s: vs };
      expect(
        await network.read(contract.encodeVerifyAttestation(args), contract.decodeVerifyAttestation),
      ).toBe(false);
    }
    const asked = await network.requestArgs({ epoch: 0, claimedNode: ZERO_ADDRESS });
    const register = contract.encodeRegister({ ...asked.args, r, vs });
    expect(await outcome(network.asStranger(register))).toBe('NotBootstrapped');
    const bootstrap = { ...(await network.bootstrapArgs()), networkKey: ZERO_ADDRESS, r, vs };
    expect(await outcome(network.asOwner(contract.encodeBootstrap(bootstrap)))).not.toBe('accepted');
  }
  expect(await network.state()).toMatchObject({ epoch: 0, networkKey: ZERO_ADDRESS });
});

test('5: nor that of a node at address zero, once there is a key', async () => {
  const network = await TestNetwork.bootstrapped(chain);
  for (const signature of nothing) {
    const asked = await network.requestArgs({ claimedNode: ZERO_ADDRESS });
    const register = contract.encodeRegister({ ...asked.args, ...signature });
    expect(await outcome(network.asStranger(register))).not.toBe('accepted');
  }
});

// ------------------------------------------------------------------------------------------------ 6

test("6: bootstrap is the owner's, and over with the first onboarding", async () => {
  const network = await TestNetwork.bootstrapped(chain);
  const again = contract.encodeBootstrap(await network.bootstrapArgs({ key: value('another key') }));
  expect(await outcome(network.asStranger(again))).toMatch(/OwnableUnauthorizedAccount/);
  const request = await network.registered();
  await network.asStranger(contract.encodeOnboard(network.onboardArgs(request)));
  expect(await outcome(network.asOwner(again))).toBe('BootstrapClosed');
});

test('6: an onboarding is for one open request, once, in its time and epoch', async () => {
  const network = await TestNetwork.bootstrapped(chain, { requestWindow: 5 });
  const unasked = await network.requestArgs();
  const onboard = (request: Pick<SignedRequest, 'hash' | 'node'>) =>
    outcome(network.asStranger(contract.encodeOnboard(network.onboardArgs(request))));
  expect(await onboard(unasked)).toBe('RequestNotOpen');

  const expired = await network.registered();
  await chain.mine(6);
  expect(await onboard(expired)).toBe('RequestExpired');

  const superseded = await network.registered();
  await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs()));
  expect(await onboard(superseded)).toBe('RequestExpired');

  const request = await network.registered();
  expect(await outcome(network.asStranger(contract.encodeRegister(request.args)))).toBe('RequestExists');
  expect(await onboard(request)).toBe('accepted');
  expect(await onboard(request)).toBe('RequestNotOpen');
  expect(await outcome(network.asStranger(contract.encodeRegister(request.args)))).toBe('RequestExists');
});

test('6: an onboarding for one node is none for another', async () => {
  const network = await TestNetwork.bootstrapped(chain);
  const [asked, other] = [await network.registered(), await network.registered()];
  const args = network.onboardArgs({ hash: asked.hash, node: other.node });
  expect(await outcome(network.asStranger(contract.encodeOnboard(args)))).toBe('WrongSigner');
});

// ------------------------------------------------------------------------------------------------ 7

const attest = (domain: Domain, app: string, tag: string, data: Uint8Array) => {
  const typed = { app: fromHex(appId(app)), tag, data };
  const { r, s, v } = sign(attestationDigest(domain, typed), NETWORK_PRIVATE_KEY);
  return { app: appId(app), tag, data: to0x(data), v, r: to0x(r), s: to0x(s) };
};
const verify = (network: TestNetwork, args: contract.VerifyAttestationArgs): Promise<boolean> =>
  network.read(contract.encodeVerifyAttestation(args), contract.decodeVerifyAttestation);

test('7: an attestation holds for its contract and its chain only', async () => {
  const [network, twin] = [await TestNetwork.bootstrapped(chain), await TestNetwork.bootstrapped(chain)];
  const good = attest(network.domain, 'web', 'price', utf8('data'));
  expect(await verify(network, good)).toBe(true);
  expect(await verify(twin, good)).toBe(false);
  expect(await verify(network, attest({ ...network.domain, chainId: 1 }, 'web', 'price', utf8('data')))).toBe(
    false,
  );
});

test("7: app, tag and data can't be shifted into each other", async () => {
  const network = await TestNetwork.bootstrapped(chain);
  const good = attest(network.domain, 'web', 'price', utf8('data'));
  expect(await verify(network, { ...good, app: appId('other') })).toBe(false);
  expect(await verify(network, { ...good, tag: 'pric', data: to0x(utf8('edata')) })).toBe(false);
  expect(await verify(network, { ...good, tag: 'priced', data: to0x(utf8('ata')) })).toBe(false);
});

test('7: a signature for one purpose is none for another', async () => {
  const network = await TestNetwork.bootstrapped(chain);
  const asked = await network.requestArgs({ key: NETWORK_PRIVATE_KEY });
  // The network's key signed a request of a node; taken for an onboarding of that very request.
  await network.asStranger(contract.encodeRegister(asked.args));
  const args = { ...network.onboardArgs(asked), r: asked.args.r, vs: asked.args.vs };
  expect(await outcome(network.asStranger(contract.encodeOnboard(args)))).toBe('WrongSigner');
});

test('7: keys: another app, another tag, another purpose or another epoch is another key', () => {
  const secret = value('secret');
  const keys = [
    appKey(secret, 1, 'ab', 'c'),
    appKey(secret, 1, 'a', 'bc'),
    appKey(secret, 1, 'abc', ''),
    appKey(secret, 1, 'other', 'c'),
    appKey(secret, 2, 'ab', 'c'),
    ...Object.keys(keyPurposes).map((purpose) => deriveKey(secret, 1, purpose as KeyPurpose)),
    deriveKey(secret, 1, 'app', [utf8('abc')]),
    deriveKey(value('another secret'), 1, 'app'),
  ].map(to0x);
  expect(new Set(keys).size).toBe(keys.length);
});
