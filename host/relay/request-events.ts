/** What handlers of events about one request have in common. */
import type { ContractLog, Verdict } from '../../lib/framework/handler.ts';
import type { ContractHandler } from '../../lib/framework/host/host.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { bareHex, type Hex } from '../../lib/protocol/hex.ts';
import { networkTopics, parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { NodeClient } from '../node-client.ts';

/** An event of the contract that names a request. */
export interface RequestEvent {
  /** 64 hex digits. */
  requestHash: Hex;
}

/** The part of a handler that says which event it is for. */
export function onEvent(
  name: 'Registered' | 'Onboarded',
  { contract }: Domain,
): Pick<ContractHandler<RequestEvent>, 'contract' | 'topic' | 'decode'> {
  return {
    contract,
    topic: networkTopics[name],
    decode(log: ContractLog): RequestEvent {
      const event = parseNetworkEvent(log);
      if (event?.name !== name) throw new DstackError('EVENT_UNEXPECTED', `the log is not of ${name}`);
      return { requestHash: bareHex(event.requestHash) };
    },
  };
}

/** Our own node's requests are never ours to answer. */
export const OWN_REQUEST: Verdict = { kind: 'skip', reason: "it is our own node's request" };

/** Undefined when our own node can do what only a joined one can. */
export async function unlessJoined(node: Pick<NodeClient, 'status'>): Promise<Verdict | undefined> {
  const { state } = await node.status();
  return state === 'joined' ? undefined : { kind: 'wait', reason: `our own node is ${state}, not joined` };
}
