/**
 * What is about to be signed, in words. It is decoded from the transaction's own bytes, so that nothing can be shown but what they
 * say.
 */
import { AbiCoder, formatEther, formatUnits } from 'ethers';
import { networkBytecode } from '../../contracts/bindings.ts';
import { networkInterface } from '../../contracts/interface.ts';
import type { Unsigned } from '../../host/relay/signer.ts';
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
  return ['To be signed:', ...rows.map(([name, value]) => `  ${name.padEnd(9)} ${value}`)];
}

/** Function and arguments. */
function call(data: string): [string, string][] {
  const parsed = networkInterface.parseTransaction({ data });
  // The arguments are encoded again: otherwise bytes after them would be signed unseen.
  if (parsed === null || networkInterface.encodeFunctionData(parsed.fragment, parsed.args) !== data) {
    throw new DstackError('UNKNOWN_CALL', `not a call of a network's contract: ${data.slice(0, 74)}`);
  }
  const inputs = parsed.fragment.inputs.map(({ name }, at): [string, string] => [
    '',
    `${name} = ${argument(name, parsed.args[at] as unknown)}`,
  ]);
  return [['function', parsed.signature], ...inputs];
}

function argument(name: string, value: unknown): string {
  if (name === 'app') return `${value} (${appName(fromHex(String(value)))})`;
  if (name === 'statuses') return `${value} (${statusesOf(Number(value)).join(', ')})`;
  return String(value);
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
