import { getAddress, toBeHex } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { appList } from '../lib/protocol/app-list.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import { parseAddress } from '../lib/protocol/hex.ts';
import * as contract from '../lib/protocol/network-contract.ts';
import { addressOf, sign } from '../lib/protocol/secp256k1.ts';
import { attestationDigest } from '../lib/protocol/typed-data.ts';
import { encodeDeploy, networkImmutables, networkRuntimeBytecode } from './bindings.ts';
import { appId, CONFIG, MEASUREMENT, NETWORK_PRIVATE_KEY, PLATFORM, TestNetwork, value } from './fixture.ts';
import { networkInterface } from './interface.ts';
import { Chain, refusalOf } from './local-chain.ts';
import { type Anvil, startAnvil } from './local-node.ts';

const DAY = 86_400;
const NETWORK_KEY = addressOf(NETWORK_PRIVATE_KEY);
const ZERO_ADDRESS = `0x${'0'.repeat(40)}`;
const ZERO_WORD = `0x${'0'.repeat(64)}`;
const OTHER = value('other');
const ID = { measurement: to0x(MEASUREMENT), config: to0x(CONFIG), platform: to0x(PLATFORM) };

let anvil: Anvil;
let chain: Chain;

beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
});
afterAll(() => anvil.stop());

/** The refusal has to be exactly this one, with these values. */
async function expectRefusal(
  promise: Promise<unknown>,
  expected: { readonly name: contract.NetworkError['name'] } & Record<string, unknown>,
): Promise<void> {
  expect(await refusalOf(promise)).toMatchObject(expected);
}

describe('deploying', () => {
  test('the network begins without a key, with its delay and window', async () => {
    const network = await TestNetwork.deploy(chain, { delay: DAY, requestWindow: 7 });
    expect(await network.state()).toEqual({
      networkKey: ZERO_ADDRESS,
      epoch: 0,
      onboarded: false,
      delay: DAY,
      requestWindow: 7,
      platformsOpen: false,
    });
    expect(await network.read(contract.encodeOwner(), contract.decodeOwner)).toBe(getAddress(network.owner));
  });

  test('the deployed code is the committed one, but for its immutables', async () => {
    const network = await TestNetwork.deploy(chain);
    const blank = (code: string): string => {
      const bytes = Buffer.from(code.slice(2), 'hex');
      for (const { start, length } of networkImmutables) bytes.fill(0, start, start + length);
      return bytes.toString('hex');
    };
    const deployed = await chain.rpc<string>('eth_getCode', network.address, 'latest');
    expect(blank(deployed)).toBe(blank(networkRuntimeBytecode));
  });

  test('the EIP-712 domain names this chain and this contract', async () => {
    const network = await TestNetwork.deploy(chain);
    const domain = await network.read(contract.encodeEip712Domain(), contract.decodeEip712Domain);
    expect(domain).toMatchObject({ name: 'Dstack', version: '1', chainId: BigInt(network.domain.chainId) });
    expect(domain.verifyingContract.toLowerCase()).toBe(network.address.toLowerCase());
  });

  test.each([
    ['no owner', { owner: ZERO_ADDRESS }, { name: 'OwnableInvalidOwner' }],
    ['no request window', { requestWindow: 0 }, { name: 'ZeroRequestWindow' }],
    ['more than a year of delay', { delay: 365 * DAY + 1 }, { name: 'DelayTooLong', longest: 365 * DAY }],
  ] as const)('refuses %s', async (_, wrong, refusal) => {
    const [owner] = await chain.accounts();
    const data = encodeDeploy({ owner: owner!, delay: 0, requestWindow: 1, ...wrong });
    await expectRefusal(chain.send(owner!, undefined, data), refusal);
  });
});

describe('ownership', () => {
  test('every function of the owner refuses a stranger', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const app = appId('web');
    const calls = [
      contract.encodeBootstrap(await network.bootstrapArgs()),
      contract.encodeAllowMeasurement({ measurement: to0x(OTHER) }),
      contract.encodeRevokeMeasurement({ measurement: ID.measurement }),
      contract.encodeAllowConfig({ config: to0x(OTHER) }),
      contract.encodeRevokeConfig({ config: ID.config }),
      contract.encodeAllowPlatform({ platform: to0x(OTHER) }),
      contract.encodeRevokePlatform({ platform: ID.platform }),
      contract.encodeOpenPlatforms(),
      contract.encodeClosePlatforms(),
      contract.encodeSetDelay({ delay: 1 }),
      contract.encodeRollout({ app, manifestHash: to0x(OTHER) }),
      contract.encodeRollback({ app }),
      contract.encodeWithdraw({ app }),
      contract.encodeTransferOwnership({ newOwner: network.stranger }),
      networkInterface.encodeFunctionData('renounceOwnership'),
    ];
    for (const data of calls) {
      await expectRefusal(network.asStranger(data), { name: 'OwnableUnauthorizedAccount' });
    }
  });

  test('it moves in two steps and cannot be renounced', async () => {
    const network = await TestNetwork.deploy(chain);
    const renounce = networkInterface.encodeFunctionData('renounceOwnership');
    await expectRefusal(network.asOwner(renounce), { name: 'RenounceDisabled' });

    await network.asOwner(contract.encodeTransferOwnership({ newOwner: network.stranger }));
    await network.asOwner(contract.encodeSetDelay({ delay: 1 }));
    await network.asStranger(contract.encodeAcceptOwnership());
    await network.asStranger(contract.encodeSetDelay({ delay: 2 }));
    await expectRefusal(network.asOwner(contract.encodeSetDelay({ delay: 3 })), {
      name: 'OwnableUnauthorizedAccount',
    });
  });
});

describe('bootstrap', () => {
  test('sets the key, raises the epoch and says so', async () => {
    const network = await TestNetwork.deploy(chain);
    await network.allowAll();
    const args = await network.bootstrapArgs();
    const { events } = await network.asOwner(contract.encodeBootstrap(args));
    const { r: _r, vs: _vs, ...shown } = args;
    expect(events).toEqual([{ name: 'Bootstrapped', epoch: 1n, ...shown }]);
    expect(await network.state()).toMatchObject({ networkKey: NETWORK_KEY, epoch: 1, onboarded: false });
  });

  test('may be repeated until a node is onboarded, and never after', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const second = value('second key');
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs({ key: second })));
    expect(await network.state()).toMatchObject({ networkKey: addressOf(second), epoch: 2 });

    const request = await network.registered();
    await network.asStranger(contract.encodeOnboard(network.onboardArgs(request, { key: second })));
    expect(await network.state()).toMatchObject({ onboarded: true });
    await expectRefusal(network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs())), {
      name: 'BootstrapClosed',
    });
  });

  test('a signature is good for one epoch only', async () => {
    const network = await TestNetwork.deploy(chain);
    await network.allowAll();
    const args = await network.bootstrapArgs();
    await network.asOwner(contract.encodeBootstrap(args));
    await expectRefusal(network.asOwner(contract.encodeBootstrap(args)), {
      name: 'WrongSigner',
      expected: NETWORK_KEY,
    });
  });

  test.each([
    ['measurement', 'MeasurementNotAllowed'],
    ['config', 'ConfigNotAllowed'],
    ['platform', 'PlatformNotAllowed'],
  ] as const)('refuses a %s that is not allowed', async (part, name) => {
    const network = await TestNetwork.deploy(chain);
    await network.allowAll();
    const args = await network.bootstrapArgs({ identity: { [part]: OTHER } });
    await expectRefusal(network.asOwner(contract.encodeBootstrap(args)), { name, [part]: to0x(OTHER) });
  });

  test("refuses a block of the future and a recent one with another hash; takes an old one on the owner's word", async () => {
    const network = await TestNetwork.deploy(chain);
    await network.allowAll();
    const head = await chain.head();
    for (const block of [
      { number: head.number + 1_000, hash: OTHER },
      { number: head.number, hash: OTHER },
    ]) {
      const args = await network.bootstrapArgs({ block });
      await expectRefusal(network.asOwner(contract.encodeBootstrap(args)), {
        name: 'UnknownBlock',
        blockNumber: BigInt(block.number),
      });
    }
    await chain.mine(300);
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs({ block: head })));
    expect(await network.state()).toMatchObject({ epoch: 1 });
  });

  test.each(['measurement', 'config', 'platform', 'quoteHash'] as const)(
    'the signature covers %s',
    async (part) => {
      const network = await TestNetwork.deploy(chain);
      await network.allowAll();
      await network.asOwner(contract.encodeAllowMeasurement({ measurement: to0x(OTHER) }));
      await network.asOwner(contract.encodeAllowConfig({ config: to0x(OTHER) }));
      await network.asOwner(contract.encodeAllowPlatform({ platform: to0x(OTHER) }));
      const args = { ...(await network.bootstrapArgs()), [part]: to0x(OTHER) };
      await expectRefusal(network.asOwner(contract.encodeBootstrap(args)), { name: 'WrongSigner' });
    },
  );

  test('refuses a zero key, whatever the signature', async () => {
    const network = await TestNetwork.deploy(chain);
    await network.allowAll();
    const args = { ...(await network.bootstrapArgs()), networkKey: ZERO_ADDRESS };
    await expectRefusal(network.asOwner(contract.encodeBootstrap(args)), {
      name: 'WrongSigner',
      expected: ZERO_ADDRESS,
    });
    const zero = { ...args, r: ZERO_WORD, vs: ZERO_WORD };
    await expectRefusal(network.asOwner(contract.encodeBootstrap(zero)), { name: 'ECDSAInvalidSignature' });
  });
});

describe('register', () => {
  test('opens the request under the hash that the node signed', async () => {
    const network = await TestNetwork.bootstrapped(chain, { requestWindow: 9 });
    const request = await network.requestArgs();
    const { events } = await network.asStranger(contract.encodeRegister(request.args));
    expect(events).toEqual([{ name: 'Registered', requestHash: request.hash, node: request.node }]);
    const { number } = await chain.head();
    expect(await network.request(request.hash)).toEqual({
      state: 'open',
      node: request.node,
      blockNumber: BigInt(number),
      expiresAfter: BigInt(number + 9),
      epoch: 1,
      answerHash: ZERO_WORD,
    });
  });

  test('refuses before bootstrap', async () => {
    const network = await TestNetwork.deploy(chain);
    const request = await network.requestArgs({ epoch: 0 });
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), {
      name: 'NotBootstrapped',
    });
  });

  test('refuses a request that is open or answered', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const again = { name: 'RequestExists', requestHash: request.hash } as const;
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), again);
    await network.asStranger(contract.encodeOnboard(network.onboardArgs(request)));
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), again);
    await chain.mine(60);
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), again);
  });

  test('an expired one may be made again while its block is recent, and no longer', async () => {
    const network = await TestNetwork.bootstrapped(chain, { requestWindow: 5 });
    const request = await network.registered();
    await chain.mine(6);
    expect(await network.request(request.hash)).toMatchObject({ state: 'expired', node: request.node });
    await network.asStranger(contract.encodeRegister(request.args));
    expect(await network.request(request.hash)).toMatchObject({ state: 'open' });
    await chain.mine(256);
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), {
      name: 'UnknownBlock',
      blockNumber: request.args.blockNumber,
    });
  });

  test('takes the oldest of the last 256 blocks, none older, none to come', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await chain.mine(260);
    const { number } = await chain.head();
    // A refused transaction is mined too, so the next block is two on.
    const old = await network.requestArgs({ block: await chain.block(number + 1 - 257) });
    await expectRefusal(network.asStranger(contract.encodeRegister(old.args)), { name: 'UnknownBlock' });
    const oldest = await network.requestArgs({ block: await chain.block(number + 2 - 256) });
    await network.asStranger(contract.encodeRegister(oldest.args));
    const future = await network.requestArgs({ block: { number: number + 50, hash: new Uint8Array(32) } });
    await expectRefusal(network.asStranger(contract.encodeRegister(future.args)), { name: 'UnknownBlock' });
  });

  test('refuses what the node did not sign', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const { hash } = await chain.head();
    const wrong = { name: 'WrongSigner' } as const;
    const good = await network.requestArgs();
    const head = await chain.head();

    const changed: Partial<contract.RegisterArgs>[] = [
      { node: NETWORK_KEY },
      { node: ZERO_ADDRESS },
      { kemKeyHash: to0x(OTHER) },
      { quoteHash: to0x(OTHER) },
      { config: to0x(OTHER) },
      { blockNumber: BigInt(head.number - 1) },
    ];
    for (const change of changed) {
      await expectRefusal(network.asStranger(contract.encodeRegister({ ...good.args, ...change })), wrong);
    }
    const { domain } = network;
    for (const options of [
      { epoch: 2 },
      { block: { number: head.number - 3, hash } },
      { domain: { ...domain, chainId: domain.chainId + 1 } },
      { domain: { ...domain, contract: parseAddress(network.stranger) } },
    ]) {
      const request = await network.requestArgs(options);
      await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), wrong);
    }
  });

  test('nobody can take the slot of a request with another key, and who copies the transaction changes nothing', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const block = await chain.head();
    const request = await network.requestArgs({ block });
    const thief = await network.requestArgs({ block, key: value('thief') });
    expect(thief.hash).not.toBe(request.hash);
    await network.asStranger(contract.encodeRegister(thief.args));
    expect(await network.request(request.hash)).toMatchObject({ state: 'none' });

    const copied = contract.encodeRegister(request.args);
    await network.asOwner(copied);
    await expectRefusal(network.asStranger(copied), { name: 'RequestExists' });
    expect(await network.request(request.hash)).toMatchObject({ state: 'open', node: request.node });
  });

  test('refuses a high s and a signature that recovers nothing', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const { args } = await network.requestArgs();
    // The compact form leaves room for s up to 2^255-1, which is above half the order.
    const high = { ...args, vs: `0x7f${'ff'.repeat(31)}` };
    await expectRefusal(network.asStranger(contract.encodeRegister(high)), {
      name: 'ECDSAInvalidSignatureS',
      s: high.vs,
    });
    const none = { ...args, node: ZERO_ADDRESS, r: ZERO_WORD };
    await expectRefusal(network.asStranger(contract.encodeRegister(none)), { name: 'ECDSAInvalidSignature' });
  });
});

describe('onboard', () => {
  test('answers exactly that request, once, and closes bootstrap', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const args = network.onboardArgs(request);
    const { events } = await network.asStranger(contract.encodeOnboard(args));
    const { measurement, platform } = ID;
    expect(events).toEqual([{ name: 'Onboarded', requestHash: request.hash, measurement, platform }]);
    expect(await network.request(request.hash)).toEqual({
      state: 'answered',
      node: ZERO_ADDRESS,
      blockNumber: 0n,
      expiresAfter: 0n,
      epoch: 0,
      answerHash: `${args.answerHash.slice(0, -2)}00`,
    });
    expect(await network.state()).toMatchObject({ onboarded: true, epoch: 1, networkKey: NETWORK_KEY });
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), {
      name: 'RequestNotOpen',
      requestHash: request.hash,
    });
  });

  test('an answer whose hash is all zero or all ones still reads as answered', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    for (const byte of [0x00, 0xff]) {
      const request = await network.registered();
      const args = network.onboardArgs(request, { answerHash: new Uint8Array(32).fill(byte) });
      await network.asStranger(contract.encodeOnboard(args));
      expect(await network.request(request.hash)).toMatchObject({
        state: 'answered',
        answerHash: `${args.answerHash.slice(0, -2)}00`,
      });
      await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'RequestNotOpen' });
    }
  });

  test('refuses a request that nobody registered', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const args = network.onboardArgs({ hash: to0x(OTHER), node: parseAddress(network.stranger) });
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'RequestNotOpen' });
  });

  test('a request is open in the last block of its window and expired in the next', async () => {
    const network = await TestNetwork.bootstrapped(chain, { requestWindow: 4 });
    const late = await network.registered();
    await chain.mine(4);
    expect(await network.request(late.hash)).toMatchObject({ state: 'open' });
    await expectRefusal(network.asStranger(contract.encodeOnboard(network.onboardArgs(late))), {
      name: 'RequestExpired',
      requestHash: late.hash,
    });
    const request = await network.registered();
    await chain.mine(3);
    await network.asStranger(contract.encodeOnboard(network.onboardArgs(request)));
    expect(await network.request(request.hash)).toMatchObject({ state: 'answered' });
  });

  test('refuses a request of an earlier epoch, even for the new key', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const second = value('second key');
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs({ key: second })));
    expect(await network.request(request.hash)).toMatchObject({ state: 'expired', epoch: 1 });
    await expectRefusal(
      network.asStranger(contract.encodeOnboard(network.onboardArgs(request, { key: second }))),
      { name: 'RequestExpired' },
    );
    // Its hash holds the old epoch, so it can't come back either.
    await expectRefusal(network.asStranger(contract.encodeRegister(request.args)), { name: 'WrongSigner' });
  });

  test.each([
    ['measurement', 'MeasurementNotAllowed'],
    ['config', 'ConfigNotAllowed'],
    ['platform', 'PlatformNotAllowed'],
  ] as const)('refuses a %s that is not allowed, signed or not', async (part, name) => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const args = network.onboardArgs(request, { identity: { [part]: OTHER } });
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name, [part]: to0x(OTHER) });
  });

  test('what was revoked since the answer was signed stops it', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const args = network.onboardArgs(request);
    await network.asOwner(contract.encodeRevokePlatform({ platform: ID.platform }));
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'PlatformNotAllowed' });
    await network.asOwner(contract.encodeRevokeConfig({ config: ID.config }));
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'ConfigNotAllowed' });
    await network.asOwner(contract.encodeRevokeMeasurement({ measurement: ID.measurement }));
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'MeasurementNotAllowed' });
  });

  test('refuses what the network key did not sign', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const twin = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const other = await network.registered();
    const { domain } = network;
    const wrong = { name: 'WrongSigner', expected: NETWORK_KEY } as const;

    for (const args of [
      network.onboardArgs(request, { key: value('node 0') }),
      network.onboardArgs(request, { domain: { ...domain, chainId: 1 } }),
      network.onboardArgs(request, { domain: twin.domain }),
      network.onboardArgs({ ...request, node: parseAddress(network.stranger) }),
      { ...network.onboardArgs(request), requestHash: other.hash },
      { ...network.onboardArgs(request), answerHash: to0x(OTHER) },
    ]) {
      await expectRefusal(network.asStranger(contract.encodeOnboard(args)), wrong);
    }
    const good = network.onboardArgs(request);
    const high = { ...good, vs: `0x7f${'ff'.repeat(31)}` };
    await expectRefusal(network.asStranger(contract.encodeOnboard(high)), { name: 'ECDSAInvalidSignatureS' });
    const none = { ...good, r: ZERO_WORD };
    await expectRefusal(network.asStranger(contract.encodeOnboard(none)), { name: 'ECDSAInvalidSignature' });
    await network.asStranger(contract.encodeOnboard(good));
  });

  test('a signature for one purpose is none for another', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const bootstrap = await network.bootstrapArgs();
    const args = { ...network.onboardArgs(request), r: bootstrap.r, vs: bootstrap.vs };
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'WrongSigner' });
  });
});

describe('allow-lists', () => {
  const lists = [
    {
      part: 'measurement',
      allow: (id: string) => contract.encodeAllowMeasurement({ measurement: id }),
      revoke: (id: string) => contract.encodeRevokeMeasurement({ measurement: id }),
      from: (id: string) => contract.encodeMeasurementAllowedFrom({ measurement: id }),
      events: ['MeasurementAllowed', 'MeasurementRevoked'],
      flag: 'measurementAllowed',
    },
    {
      part: 'config',
      allow: (id: string) => contract.encodeAllowConfig({ config: id }),
      revoke: (id: string) => contract.encodeRevokeConfig({ config: id }),
      from: (id: string) => contract.encodeConfigAllowedFrom({ config: id }),
      events: ['ConfigAllowed', 'ConfigRevoked'],
      flag: 'configAllowed',
    },
    {
      part: 'platform',
      allow: (id: string) => contract.encodeAllowPlatform({ platform: id }),
      revoke: (id: string) => contract.encodeRevokePlatform({ platform: id }),
      from: (id: string) => contract.encodePlatformAllowedFrom({ platform: id }),
      events: ['PlatformAllowed', 'PlatformRevoked'],
      flag: 'platformAllowed',
    },
  ] as const;
  const id = to0x(OTHER);

  test.each(lists)('$part: at once before bootstrap, after the delay from then on', async (list) => {
    const early = await TestNetwork.deploy(chain, { delay: DAY });
    await early.asOwner(list.allow(id));
    expect(await early.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: true });

    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    const { events } = await network.asOwner(list.allow(id));
    const from = (await chain.head()).time + BigInt(DAY);
    expect(events).toEqual([{ name: list.events[0], [list.part]: id, from }]);
    await chain.nextBlockAt(from - 1n);
    await chain.mine(1);
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: false });
    await chain.nextBlockAt(from);
    await chain.mine(1);
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: true });
  });

  test.each(lists)('$part: allowing again changes nothing, pending or in force', async (list) => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(list.allow(id));
    const from = (await chain.head()).time + BigInt(DAY);
    const again = { name: 'AlreadyAllowed', value: id, from } as const;
    await expectRefusal(network.asOwner(list.allow(id)), again);
    await chain.pass(2 * DAY);
    await expectRefusal(network.asOwner(list.allow(id)), again);
    expect(await network.read(list.from(id), contract.decodeMeasurementAllowedFrom)).toBe(from);
  });

  test.each(lists)('$part: revoking is at once, and coming back takes the delay again', async (list) => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(list.allow(id));
    await chain.pass(DAY);
    const { events } = await network.asOwner(list.revoke(id));
    expect(events).toEqual([{ name: list.events[1], [list.part]: id }]);
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: false });
    await expectRefusal(network.asOwner(list.revoke(id)), { name: 'NotAllowed', value: id });
    await network.asOwner(list.allow(id));
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: false });
    await chain.pass(DAY);
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: true });
  });

  test.each(lists)('$part: what is pending can be revoked; zero is no value', async (list) => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(list.allow(id));
    await network.asOwner(list.revoke(id));
    await chain.pass(2 * DAY);
    expect(await network.allowed({ [list.part]: OTHER })).toMatchObject({ [list.flag]: false });
    await expectRefusal(network.asOwner(list.allow(ZERO_WORD)), { name: 'ZeroValue' });
  });

  test('revoking a measurement or config that was never allowed is refused; a platform may be kept out beforehand', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const unknown = { name: 'NotAllowed', value: id } as const;
    await expectRefusal(network.asOwner(contract.encodeRevokeMeasurement({ measurement: id })), unknown);
    await expectRefusal(network.asOwner(contract.encodeRevokeConfig({ config: id })), unknown);
    await network.asOwner(contract.encodeRevokePlatform({ platform: id }));
    await expectRefusal(network.asOwner(contract.encodeRevokePlatform({ platform: ZERO_WORD })), {
      name: 'ZeroValue',
    });
  });
});

describe('open platforms', () => {
  const unlisted = { platform: OTHER };
  const id = { platform: to0x(OTHER) };

  test('opening takes the delay, closing none', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await expectRefusal(network.asOwner(contract.encodeClosePlatforms()), { name: 'PlatformsNotOpen' });
    const opened = await network.asOwner(contract.encodeOpenPlatforms());
    const from = (await chain.head()).time + BigInt(DAY);
    expect(opened.events).toEqual([{ name: 'PlatformsOpened', from }]);
    expect(await network.read(contract.encodePlatformsOpenFrom(), contract.decodePlatformsOpenFrom)).toBe(
      from,
    );
    await expectRefusal(network.asOwner(contract.encodeOpenPlatforms()), {
      name: 'PlatformsAlreadyOpen',
      from,
    });
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: false });

    await chain.pass(DAY);
    expect(await network.state()).toMatchObject({ platformsOpen: true });
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: true });
    const closed = await network.asOwner(contract.encodeClosePlatforms());
    expect(closed.events).toEqual([{ name: 'PlatformsClosed' }]);
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: false });
    expect(await network.read(contract.encodePlatformsOpenFrom(), contract.decodePlatformsOpenFrom)).toBe(0n);

    await network.asOwner(contract.encodeOpenPlatforms());
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: false });
  });

  test('a node on an unlisted platform is onboarded only while open', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const request = await network.registered();
    const args = network.onboardArgs(request, { identity: unlisted });
    await expectRefusal(network.asStranger(contract.encodeOnboard(args)), { name: 'PlatformNotAllowed' });
    await network.asOwner(contract.encodeOpenPlatforms());
    await network.asStranger(contract.encodeOnboard(args));
    expect(await network.request(request.hash)).toMatchObject({ state: 'answered' });
  });

  test('a revoked platform stays out, and comes back only after the delay', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(contract.encodeOpenPlatforms());
    await chain.pass(DAY);
    await network.asOwner(contract.encodeRevokePlatform(id));
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: false });
    await network.asOwner(contract.encodeAllowPlatform(id));
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: false });
    await chain.pass(DAY);
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: true });
  });

  test('listing a platform while open neither shuts it out nor takes the delay', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(contract.encodeOpenPlatforms());
    await chain.pass(DAY);
    await network.asOwner(contract.encodeAllowPlatform(id));
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: true });
    await network.asOwner(contract.encodeClosePlatforms());
    expect(await network.allowed(unlisted)).toMatchObject({ platformAllowed: true });
  });

  test('open does not let in a platform of zero', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await network.asOwner(contract.encodeOpenPlatforms());
    expect(await network.allowed({ platform: new Uint8Array(32) })).toMatchObject({ platformAllowed: false });
  });
});

describe('the delay', () => {
  const set = (delay: number): string => contract.encodeSetDelay({ delay });

  test('before bootstrap it changes at once, either way', async () => {
    const network = await TestNetwork.deploy(chain, { delay: DAY });
    await network.asOwner(set(0));
    expect(await network.state()).toMatchObject({ delay: 0 });
    await network.asOwner(set(5));
    expect(await network.state()).toMatchObject({ delay: 5 });
  });

  test('longer is at once; shorter takes the present one, to the second', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(set(2 * DAY));
    expect(await network.state()).toMatchObject({ delay: 2 * DAY });

    const { events } = await network.asOwner(set(60));
    const from = (await chain.head()).time + BigInt(2 * DAY);
    expect(events).toEqual([{ name: 'DelaySet', delay: 60, from }]);
    expect(await network.read(contract.encodeNextDelay(), contract.decodeNextDelay)).toEqual({
      delay: 60,
      from,
    });
    await chain.nextBlockAt(from - 1n);
    await chain.mine(1);
    expect(await network.state()).toMatchObject({ delay: 2 * DAY });
    await chain.nextBlockAt(from);
    await chain.mine(1);
    expect(await network.state()).toMatchObject({ delay: 60 });
    await network.asOwner(contract.encodeAllowMeasurement({ measurement: to0x(OTHER) }));
    expect(
      await network.read(
        contract.encodeMeasurementAllowedFrom({ measurement: to0x(OTHER) }),
        contract.decodeMeasurementAllowedFrom,
      ),
    ).toBe((await chain.head()).time + 60n);
  });

  test('until the shorter one holds, loosening takes the longer', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(set(0));
    await network.asOwner(contract.encodeOpenPlatforms());
    expect(await network.state()).toMatchObject({ platformsOpen: false });
    expect(await network.read(contract.encodePlatformsOpenFrom(), contract.decodePlatformsOpenFrom)).toBe(
      (await chain.head()).time + BigInt(DAY),
    );
  });

  test('a new setting replaces one that is to come, and its time begins anew', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(set(0));
    await chain.pass(DAY / 2);
    await network.asOwner(set(10));
    await chain.pass(DAY / 2 + 1);
    expect(await network.state()).toMatchObject({ delay: DAY });
    await chain.pass(DAY / 2);
    expect(await network.state()).toMatchObject({ delay: 10 });
  });

  test('setting the present one, or a longer, cancels a shorter one that is to come', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(set(0));
    await network.asOwner(set(DAY));
    await chain.pass(2 * DAY);
    expect(await network.state()).toMatchObject({ delay: DAY });
    expect(await network.read(contract.encodeNextDelay(), contract.decodeNextDelay)).toEqual({
      delay: DAY,
      from: 0n,
    });
  });

  test("shortening in steps takes each step's delay; what is pending keeps its time", async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(set(100));
    await chain.pass(DAY);
    await network.asOwner(contract.encodeAllowConfig({ config: to0x(OTHER) }));
    await network.asOwner(set(DAY));
    expect(await network.state()).toMatchObject({ delay: DAY });
    await chain.pass(100);
    expect(await network.allowed({ config: OTHER })).toMatchObject({ configAllowed: true });
  });

  test('more than a year is refused', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await network.asOwner(set(365 * DAY));
    await expectRefusal(network.asOwner(set(365 * DAY + 1)), { name: 'DelayTooLong' });
  });
});

describe('apps', () => {
  const [A, B, C] = [to0x(value('A')), to0x(value('B')), to0x(value('C'))] as const;
  const app = appId('web');
  const rollout = (manifestHash: string): string => contract.encodeRollout({ app, manifestHash });
  const rollback = contract.encodeRollback({ app });
  const withdraw = contract.encodeWithdraw({ app });

  test('a rollout takes effect after the delay, to the second; until then the previous one stays', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    const { events } = await network.asOwner(rollout(A));
    const from = (await chain.head()).time + BigInt(DAY);
    expect(events).toEqual([{ name: 'RolledOut', app, manifestHash: A, from }]);
    expect(await network.app('web')).toEqual({ app, manifestHash: ZERO_WORD, latest: A, from });
    await chain.nextBlockAt(from - 1n);
    await chain.mine(1);
    expect(await network.app('web')).toMatchObject({ manifestHash: ZERO_WORD });
    await chain.nextBlockAt(from);
    await chain.mine(1);
    expect(await network.app('web')).toMatchObject({ manifestHash: A });

    await network.asOwner(rollout(B));
    expect(await network.app('web')).toMatchObject({ manifestHash: A, latest: B });
    await chain.pass(DAY);
    expect(await network.app('web')).toMatchObject({ manifestHash: B, latest: B });
    await network.asOwner(rollout(C));
    expect(await network.app('web')).toMatchObject({ manifestHash: B, latest: C });
    expect(await network.read(contract.encodeManifestOf({ app }), contract.decodeManifestOf)).toBe(B);
  });

  test('before bootstrap, and with a delay of zero, it is at once', async () => {
    const early = await TestNetwork.deploy(chain, { delay: DAY });
    await early.asOwner(rollout(A));
    expect(await early.app('web')).toMatchObject({ manifestHash: A });
    const network = await TestNetwork.bootstrapped(chain);
    await network.asOwner(rollout(A));
    expect(await network.app('web')).toMatchObject({ manifestHash: A });
  });

  test('a rollout replaces a pending one, and its time begins anew', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(rollout(A));
    await chain.pass(DAY);
    await network.asOwner(rollout(B));
    await chain.pass(DAY / 2);
    await network.asOwner(rollout(C));
    await chain.pass(DAY / 2 + 1);
    expect(await network.app('web')).toMatchObject({ manifestHash: A, latest: C });
    await chain.pass(DAY / 2);
    expect(await network.app('web')).toMatchObject({ manifestHash: C });
    await network.asOwner(rollback);
    expect(await network.app('web')).toMatchObject({ manifestHash: A });
  });

  test('a rollback cancels what is pending; the cancelled one cannot come back without its delay', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(rollout(A));
    await chain.pass(DAY);
    await network.asOwner(rollout(B));
    const { events } = await network.asOwner(rollback);
    expect(events).toEqual([{ name: 'RolledBack', app, manifestHash: A }]);
    expect(await network.app('web')).toMatchObject({ manifestHash: A, latest: A });
    await chain.pass(2 * DAY);
    expect(await network.app('web')).toMatchObject({ manifestHash: A });
    await expectRefusal(network.asOwner(rollback), { name: 'NoPreviousManifest', app });
    await network.asOwner(rollout(B));
    expect(await network.app('web')).toMatchObject({ manifestHash: A });
  });

  test('a rollback returns to the previous one at once; a second in a row is refused', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await network.asOwner(rollout(A));
    await network.asOwner(rollout(B));
    await network.asOwner(contract.encodeSetDelay({ delay: DAY }));
    await network.asOwner(rollback);
    expect(await network.app('web')).toMatchObject({ manifestHash: A, latest: A });
    await expectRefusal(network.asOwner(rollback), { name: 'NoPreviousManifest', app });
    await network.asOwner(rollout(C));
    await network.asOwner(rollback);
    expect(await network.app('web')).toMatchObject({ manifestHash: A });
  });

  test("cancelling an app's first rollout leaves nothing", async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await network.asOwner(rollout(A));
    const { events } = await network.asOwner(rollback);
    expect(events).toEqual([{ name: 'RolledBack', app, manifestHash: ZERO_WORD }]);
    await chain.pass(2 * DAY);
    expect(await network.app('web')).toEqual({ app, manifestHash: ZERO_WORD, latest: ZERO_WORD, from: 0n });
    await expectRefusal(network.asOwner(rollback), { name: 'NoPreviousManifest' });
  });

  test('withdrawing is at once and leaves nothing to go back to', async () => {
    const network = await TestNetwork.bootstrapped(chain, { delay: DAY });
    await expectRefusal(network.asOwner(withdraw), { name: 'NoManifest', app });
    await network.asOwner(rollout(A));
    await chain.pass(DAY);
    await network.asOwner(rollout(B));
    const { events } = await network.asOwner(withdraw);
    expect(events).toEqual([{ name: 'Withdrawn', app }]);
    await chain.pass(2 * DAY);
    expect(await network.app('web')).toMatchObject({ manifestHash: ZERO_WORD, latest: ZERO_WORD });
    await expectRefusal(network.asOwner(withdraw), { name: 'NoManifest' });
    await expectRefusal(network.asOwner(rollback), { name: 'NoPreviousManifest' });
    await network.asOwner(rollout(A));
    expect(await network.app('web')).toMatchObject({ manifestHash: ZERO_WORD, latest: A });
  });

  test('the list has each app that has a manifest, in the order of first rollouts', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const names = ['web', 'a', 'x-9'.padEnd(31, '-')];
    for (const name of [...names, 'web']) {
      await network.asOwner(contract.encodeRollout({ app: appId(name), manifestHash: A }));
    }
    await network.asOwner(contract.encodeWithdraw({ app: appId('a') }));
    const page = (skipped: bigint, most: bigint) =>
      network.read(contract.encodeAppsAfter({ skipped, most }), contract.decodeAppsAfter);
    const [web, , x] = names.map(appId);
    expect(await page(0n, 10n)).toMatchObject({
      list: [
        { app: web, manifestHash: A },
        { app: x, manifestHash: A },
      ],
      next: 0n,
    });
    expect(await page(0n, 1n)).toMatchObject({ list: [{ app: web }], next: 1n });
    expect(await page(1n, 1n)).toMatchObject({ list: [{ app: x }], next: 0n });
    for (const beyond of [3n, 4n, 2n ** 256n - 1n])
      expect(await page(beyond, 2n ** 256n - 1n)).toEqual({ list: [], next: 0n });
    expect(await network.app('nobody')).toEqual({
      app: appId('nobody'),
      manifestHash: ZERO_WORD,
      latest: ZERO_WORD,
      from: 0n,
    });
  });

  test('ten thousand names that were withdrawn cost a reader five calls, and hide nothing', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await network.asOwner(contract.encodeRollout({ app: appId('first'), manifestHash: A }));
    // Names that the contract knows nothing of: to it they are withdrawn.
    await chain.rpc('anvil_setStorageAt', network.address, toBeHex(11, 32), toBeHex(9_999, 32));
    await network.asOwner(contract.encodeRollout({ app: appId('last'), manifestHash: B }));
    let calls = 0;
    const list = await appList(async (data) => {
      calls += 1;
      return network.read(data, (answer) => answer);
    });
    expect(list.map(({ app, manifestHash }) => [app, manifestHash])).toEqual([
      [appId('first'), A],
      [appId('last'), B],
    ]);
    expect(calls).toBe(5);
  });

  test.each([
    ['empty', ZERO_WORD],
    ['32 characters', appId('a'.repeat(32))],
    ['an upper-case letter', appId('Web')],
    ['a dot', appId('a.b')],
    ['a slash', appId('a/b')],
    ['a gap', `0x6100${'61'.padEnd(60, '0')}`],
    ['a byte after the end', `0x61${'0'.repeat(58)}6100`],
    ['a leading gap', `0x0061${'0'.repeat(60)}`],
    ['not ASCII', `0xc3a9${'0'.repeat(60)}`],
  ])('refuses a name: %s', async (_, wrong) => {
    const network = await TestNetwork.bootstrapped(chain);
    await expectRefusal(network.asOwner(contract.encodeRollout({ app: wrong, manifestHash: A })), {
      name: 'InvalidAppName',
      app: wrong,
    });
  });

  test('zero is no manifest', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    await expectRefusal(network.asOwner(rollout(ZERO_WORD)), { name: 'ZeroValue' });
  });
});

describe('verifyAttestation', () => {
  const app = appId('web');
  const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

  function attest(network: TestNetwork, tag: string, data: Uint8Array): contract.VerifyAttestationArgs {
    const typed = { app: Buffer.from(app.slice(2), 'hex'), tag, data };
    const { r, s, v } = sign(attestationDigest(network.domain, typed), NETWORK_PRIVATE_KEY);
    return { app, tag, data: to0x(data), v, r: to0x(r), s: to0x(s) };
  }
  const verify = (network: TestNetwork, args: contract.VerifyAttestationArgs): Promise<boolean> =>
    network.read(contract.encodeVerifyAttestation(args), contract.decodeVerifyAttestation);

  test('is true for what the network key signed, and for nothing that differs from it', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const twin = await TestNetwork.bootstrapped(chain);
    const good = attest(network, 'price', value('data'));
    expect(await verify(network, good)).toBe(true);
    expect(await verify(network, attest(network, '', new Uint8Array()))).toBe(true);
    expect(await verify(network, attest(network, 'ü'.repeat(100), new Uint8Array(1_000)))).toBe(true);

    expect(await verify(twin, good)).toBe(false);
    expect(await verify(network, { ...good, app: appId('other') })).toBe(false);
    expect(await verify(network, { ...good, tag: 'pric', data: `0x65${good.data.slice(2)}` })).toBe(false);
    expect(await verify(network, { ...good, data: `${good.data}00` })).toBe(false);
    expect(await verify(network, { ...good, v: good.v === 27 ? 28 : 27 })).toBe(false);
    expect(await verify(network, { ...good, v: good.v - 27 })).toBe(false);
    expect(await verify(network, { ...good, r: to0x(OTHER) })).toBe(false);
    expect(await verify(network, { ...good, r: ZERO_WORD, s: ZERO_WORD })).toBe(false);
  });

  test('is false for the same signature with the other s', async () => {
    const network = await TestNetwork.bootstrapped(chain);
    const good = attest(network, 'price', value('data'));
    const high = `0x${(ORDER - BigInt(good.s)).toString(16).padStart(64, '0')}`;
    expect(await verify(network, { ...good, s: high, v: good.v === 27 ? 28 : 27 })).toBe(false);
  });

  test('is false for everything before bootstrap, and for a key that was replaced', async () => {
    const network = await TestNetwork.deploy(chain);
    const good = attest(network, 'price', value('data'));
    expect(await verify(network, good)).toBe(false);
    expect(await verify(network, { ...good, r: ZERO_WORD, s: ZERO_WORD })).toBe(false);
    expect(await verify(network, { ...good, v: 29 })).toBe(false);

    await network.allowAll();
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs()));
    expect(await verify(network, good)).toBe(true);
    await network.asOwner(contract.encodeBootstrap(await network.bootstrapArgs({ key: OTHER })));
    expect(await verify(network, good)).toBe(false);
  });
});
