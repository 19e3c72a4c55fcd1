/** Deploys a new network's contract. Its address is computed from sender and nonce, never taken from a receipt. */
import { getCreateAddress } from 'ethers';
import { type DeployArgs, encodeDeploy } from '../../contracts/bindings.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { type Address, parseAddress, sameAddress } from '../../lib/protocol/hex.ts';
import {
  decodeEip712Domain,
  decodeNetwork,
  decodeOwner,
  encodeEip712Domain,
  encodeNetwork,
  encodeOwner,
} from '../../lib/protocol/network-contract.ts';
import { type Arguments, narration } from '../command.ts';
import { report, signAndSend, until } from './act.ts';
import { isOurCode } from './code.ts';
import type { ChainConnection } from './connection.ts';
import type { OwnerKey } from './keys.ts';

/**
 * Deploys, reads everything back, and prints the address.
 * @param signer an account alone for `--dry-run`
 * @returns the address; undefined when nothing was signed
 * @throws NOT_READ_BACK; the codes of signAndSend
 */
export async function deployNetwork(
  args: Arguments,
  connection: ChainConnection,
  signer: OwnerKey | Address,
  wanted: DeployArgs & { readonly owner: Address },
): Promise<Address | undefined> {
  const say = narration(args);
  const { chain, endpoints, chainId, sources } = connection;
  const effect = [
    `a new network, owned by ${wanted.owner}; from its bootstrap on, changes that loosen its rules take ${wanted.delay} s`,
  ];
  const transaction = { data: encodeDeploy(wanted) };
  const shown = { isOurCode: undefined, effect };
  const sent = await signAndSend(args, connection, signer, transaction, shown);
  const from = typeof signer === 'string' ? signer : signer.address;
  const result = { chainId, from, to: null, value: '0', ...transaction, decoded: null, effect } as const;
  if (sent === undefined) {
    report(args, { ...result, contract: null, sent: null });
    return undefined;
  }
  const { hash, block, gasUsed } = sent;
  const contract = parseAddress(getCreateAddress({ from, nonce: sent.nonce }));

  const done = await until(async () => {
    const code = await endpoints.code(contract);
    if (code === '0x') return { instead: `no code at ${contract}` };
    if (!isOurCode(code)) return { instead: `other code than this release's at ${contract}` };
    const head = await chain.head();
    if (head.number < block) return { instead: `block ${head.number} as the newest` };
    const other = await difference(head);
    return other === undefined ? { head } : { instead: other };
  });
  say(
    `contract ${contract}`,
    `read back at block ${done.head.number}, by ${sources}: this release's code, owner, delay and window as asked for`,
  );
  report(args, { ...result, contract, sent: { hash, block, gasUsed } });
  return contract;

  async function difference(head: Head): Promise<string | undefined> {
    const call = (data: string) => chain.call(contract, data, head);
    const owner = decodeOwner(await call(encodeOwner()));
    const { delay, requestWindow, epoch } = decodeNetwork(await call(encodeNetwork()));
    const domain = decodeEip712Domain(await call(encodeEip712Domain()));
    if (!sameAddress(owner, wanted.owner)) return `owner ${owner}`;
    if (delay !== wanted.delay || requestWindow !== wanted.requestWindow || epoch !== 0) {
      return `delay ${delay}, request window ${requestWindow}, epoch ${epoch}`;
    }
    const isItsOwn = sameAddress(domain.verifyingContract, contract) && domain.chainId === BigInt(chainId);
    return isItsOwn
      ? undefined
      : `a contract that signs for ${domain.verifyingContract} on chain ${domain.chainId}`;
  }
}
