import { AbiCoder } from 'ethers';
import { expect, test } from 'vitest';
import { codeOf } from '../lib/protocol/errors.ts';
import * as contract from '../lib/protocol/network-contract.ts';
import { networkBytecode, networkRuntimeBytecode, networkStorage } from './bindings.ts';
import { generate, stale } from './build.ts';
import { networkInterface } from './interface.ts';

const WORD = `0x${'ab'.repeat(32)}`;

/** The code of what `run` throws. */
function refusalOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
}

test('the committed files are, byte for byte, what the compiler gives; if not: npm run bindings', async () => {
  const files = await generate();
  expect(files.map((file) => file.path)).toEqual([
    'contracts/bindings.ts',
    'lib/protocol/network-contract.ts',
    'lib/protocol/publications-contract.ts',
  ]);
  expect(stale(files)).toEqual([]);
  const changed = files.map((file) => ({ ...file, contents: `${file.contents} ` }));
  expect(stale(changed)).toEqual(files.map((file) => file.path));
});

test('the code fits a contract', () => {
  expect((networkRuntimeBytecode.length - 2) / 2).toBeLessThanOrEqual(24_576);
  // EIP-3860's limit for creation code.
  expect((networkBytecode.length - 2) / 2).toBeLessThanOrEqual(49_152);
});

test('storage lies where README.md says, for proofs', () => {
  const slots = Object.fromEntries(networkStorage.map(({ label, slot }) => [label, Number(slot)]));
  expect(slots).toMatchObject({
    _owner: 0,
    _core: 4,
    _later: 5,
    _requests: 6,
    _measurements: 7,
    _configs: 8,
  });
  expect(slots).toMatchObject({ _platforms: 9, _apps: 10, _appNames: 11 });
  expect(slots).toMatchObject({ _tcbMinimum: 12, _tcbStatuses: 13, _tcbGracePeriod: 14 });
  expect(slots).toMatchObject({ _deniedFmspcs: 15, _fmspcList: 16 });
});

test('decoders refuse anything but the expected bytes', () => {
  const coder = AbiCoder.defaultAbiCoder();
  const request = (state: number | bigint): string =>
    coder.encode(
      ['uint256', 'address', 'uint64', 'uint64', 'uint32', 'bytes32'],
      [state, `0x${'11'.repeat(20)}`, 1, 2, 3, WORD],
    );
  expect(contract.decodeRequest(request(1))).toMatchObject({ state: 'open', blockNumber: 1n, epoch: 3 });

  const hostile: (() => unknown)[] = [
    () => contract.decodeRequest('0x'),
    () => contract.decodeRequest('nonsense'),
    () => contract.decodeRequest(request(4)),
    () => contract.decodeRequest(request(2n ** 255n)),
    () => contract.decodeRequest(request(1).slice(0, -2)),
    () => contract.decodeNetwork(`0x${'ff'.repeat(32 * 6)}`),
    () => contract.decodeManifestOf('0x00'),
    // A list that claims to have more entries than there are bytes.
    () => contract.decodeAppsAfter(coder.encode(['uint256', 'uint256', 'uint256'], [64, 0, 2n ** 60n])),
    () => contract.decodeVerifyAttestation(coder.encode(['uint256'], [2])),
    () => contract.decodeOwner(`0x${'ff'.repeat(32)}`),
    () => contract.decodeManifestOf(`${WORD}00`),
  ];
  const codes = hostile.map(refusalOf);
  expect(codes).toEqual(hostile.map(() => 'CONTRACT_DATA_INVALID'));
});

test("logs and reverts that are not the contract's are undefined; malformed ones of its own are refused", () => {
  expect(contract.parseNetworkEvent({ topics: [], data: '0x' })).toBeUndefined();
  expect(contract.parseNetworkEvent({ topics: [WORD], data: '0x' })).toBeUndefined();
  expect(contract.parseNetworkError('0x')).toBeUndefined();
  expect(contract.parseNetworkError('0x1234')).toBeUndefined();
  expect(contract.parseNetworkError(`0x08c379a0${'00'.repeat(4)}`)).toBeUndefined();

  const registered = contract.networkTopics.Registered;
  for (const log of [
    { topics: [registered], data: '0x' },
    { topics: [registered, WORD], data: '0x' },
    { topics: [registered, WORD], data: `0x${'ff'.repeat(31)}` },
    { topics: [registered, WORD], data: `0x${'ff'.repeat(32)}` },
    { topics: [registered, WORD, WORD], data: `0x${'00'.repeat(32)}` },
  ]) {
    expect(refusalOf(() => contract.parseNetworkEvent(log))).toBe('CONTRACT_DATA_INVALID');
  }
  expect(
    contract.parseNetworkEvent({
      topics: [registered, WORD],
      data: `0x${'00'.repeat(12)}${'11'.repeat(20)}`,
    }),
  ).toEqual({ name: 'Registered', requestHash: WORD, node: `0x${'11'.repeat(20)}` });
  const exists = networkInterface.encodeErrorResult('RequestExists', [WORD]);
  expect(refusalOf(() => contract.parseNetworkError(exists.slice(0, -2)))).toBe('CONTRACT_DATA_INVALID');
  expect(contract.parseNetworkError(exists)).toEqual({ name: 'RequestExists', requestHash: WORD });
});

test('a refusal is described with its values and what to do', () => {
  const line = contract.describeNetworkError({ name: 'UnknownBlock', blockNumber: 7n });
  expect(line).toMatch(/^UnknownBlock\(blockNumber 7\): .*make a new quote/);
  // An error of OpenZeppelin's, whose NatSpec is not ours.
  expect(contract.describeNetworkError({ name: 'ECDSAInvalidSignature' })).toBe('ECDSAInvalidSignature()');
});
