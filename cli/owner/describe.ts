/**
 * What is about to be signed, in words. It is decoded from the transaction's own bytes, so that nothing can be shown but what they
 * say.
 */
import { AbiCoder, formatEther, formatUnits } from 'ethers';
import { networkBytecode } from '../../contracts/bindings.ts';
import { networkInterface } from '../../contracts/interface.ts';
import type { Unsigned } from '../../lib/framework/transactions/signer.ts';
import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import { statusesOf } from '../../lib/protocol/tcb-policy.ts';
import { chainName, unknownChain } from './chains.ts';

export interface Shown {
  readonly chainId: number;
  /** The chain's block 0, as a quorum gives it: 0x-hex. */
  readonly firstBlock: string;
  readonly account: string;
  readonly transaction: Unsigned;
  /** Whether the contract that is called has this release's code; undefined for a deployment. */
  readonly isOurCode: boolean | undefined;
  /** What it does, and from when. */
  readonly effect: readonly string[];
}

/** Lines. @throws UNKNOWN_CALL for anything but a call of the contract's interface */
export function describeTransaction({
  chainId,
  firstBlock,
  account,
  transaction,
  isOurCode,
  effect,
}: Shown): readonly string[] {
  const { to, data = '0x', gas, fees, nonce } = transaction;
  const most = gas * fees.maxFee;
  const unknown = unknownChain(chainId, firstBlock);
  const rows: [string, string][] = [
    ['chain', chainName(chainId)],
    ...(unknown === undefined ? [] : [['', unknown] as [string, string]]),
    ['account', `${account}, nonce ${nonce}`],
    ...(to === undefined
      ? creation(data)
      : ([
          [
            'contract',
            `${to}, ${isOurCode ? "with this release's code" : "WITH OTHER CODE THAN THIS RELEASE'S"}`,
          ],
          ...call(data),
        ] as [string, string][])),
    ...effect.map((line, at): [string, string] => [at === 0 ? 'effect' : '', line]),
    [
      'fee',
      `at most ${formatEther(most)} ETH (${gas} gas at up to ${formatUnits(fees.maxFee, 'gwei')} gwei); no value is sent`,
    ],
  ];
  return ['To be signed:', ...table(rows)];
}

/** Lines of what somebody else is to send. @throws UNKNOWN_CALL */
export function describeHandedOver(
  to: string,
  data: string,
  {
    chainId,
    from,
    isOurCode,
    effect,
  }: Omit<Shown, 'firstBlock' | 'account' | 'transaction'> & { from: string },
): readonly string[] {
  const rows: [string, string][] = [
    ['chain', chainName(chainId)],
    ['to', `${to}, ${isOurCode ? "with this release's code" : "WITH OTHER CODE THAN THIS RELEASE'S"}`],
    ['value', '0'],
    ['data', data],
    ...call(data),
    ...effect.map((line, at): [string, string] => [at === 0 ? 'effect' : '', line]),
  ];
  return [`To be sent by ${from}; nothing is signed here:`, ...table(rows)];
}

const table = (rows: readonly [string, string][]): string[] =>
  rows.map(([name, value]) => `  ${name.padEnd(9)} ${value}`);

/** A call of the contract, by the ABI. */
export interface Decoded {
  /** Such as `setDelay(uint32)`. */
  readonly function: string;
  readonly arguments: readonly { readonly name: string; readonly type: string; readonly value: string }[];
}

/** @throws UNKNOWN_CALL */
export function decodedCall(data: string): Decoded {
  const parsed = networkInterface.parseTransaction({ data });
  // The arguments are encoded again: otherwise bytes after them would be signed unseen.
  if (parsed === null || networkInterface.encodeFunctionData(parsed.fragment, parsed.args) !== data) {
    throw new DstackError('UNKNOWN_CALL', `not a call of a network's contract: ${data.slice(0, 74)}`);
  }
  return {
    function: parsed.signature,
    arguments: parsed.fragment.inputs.map(({ name, type }, at) => ({
      name,
      type,
      value: String(parsed.args[at] as unknown),
    })),
  };
}

/** Function and arguments. */
export function call(data: string): [string, string][] {
  const decoded = decodedCall(data);
  const inputs = decoded.arguments.map(({ name, value }): [string, string] => [
    '',
    `${name} = ${argument(name, value)}`,
  ]);
  return [['function', decoded.function], ...inputs];
}

function argument(name: string, value: string): string {
  if (name === 'app') return `${value} (${appName(fromHex(value))})`;
  if (name === 'statuses') return `${value} (${statusesOf(Number(value)).join(', ')})`;
  return value;
}

function creation(data: string): [string, string][] {
  if (!data.startsWith(networkBytecode)) {
    throw new DstackError('UNKNOWN_CALL', "not the creation of this release's contract");
  }
  const types = ['address', 'uint32', 'uint32'];
  const [owner, delay, requestWindow] = AbiCoder.defaultAbiCoder().decode(
    types,
    `0x${data.slice(networkBytecode.length)}`,
  );
  return [
    [
      'creates',
      `a network's contract, creation code ${toHex(sha256(fromHex(networkBytecode))).slice(0, 16)}…`,
    ],
    ['', `owner = ${owner}`],
    ['', `delay = ${delay} s`],
    ['', `requestWindow = ${requestWindow} blocks`],
  ];
}
