/** The sealed balances, which the host shows with each request: in the event of the block that the contract names. The host keeps nothing. */
import {
  type Address,
  abi,
  type ChainClient,
  eventTopic,
  functionCall,
  type Hex,
  parseHex,
  Retryable,
  sameHex,
} from 'dstack/framework';
import { hashOf } from '../messages.ts';

const Nothing = abi.struct({});
const Word = abi.struct({ hash: abi.fixedBytes(32) });
const Block = abi.struct({ number: abi.smallUint(48) });
const Update = abi.struct({ state: abi.bytes });
const UPDATED = eventTopic('Updated(uint64,bytes)');

/** `0x` before the first deposit. @throws STATE_UNREAD while the endpoint does not show the event */
export async function newestState(chain: ChainClient, contract: Address): Promise<Hex> {
  const read = (signature: string) => chain.query(contract, functionCall(signature, Nothing, {}));
  const { hash } = abi.decodeStrictly(Word, await read('stateHash()'), 'stateHash');
  if (/^0x0*$/.test(hash)) return parseHex('0x');
  const { number } = abi.decodeStrictly(Block, await read('stateBlock()'), 'stateBlock');
  for (const { data } of await chain.logsOf(contract).logs(number, number, [UPDATED])) {
    const { state } = abi.decodeStrictly(Update, data, 'Updated');
    if (sameHex(hashOf(state), hash)) return state;
  }
  throw new Retryable('STATE_UNREAD', `block ${number} does not show the balances that the contract names`);
}
