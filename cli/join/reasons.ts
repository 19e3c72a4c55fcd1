/** Why a node has not joined yet, in sentences that say who has to do what. Pure functions of their arguments. */
import { formatEther } from 'ethers';
import type { RelayStatus } from '../../host/relay/main.ts';
import type { RecentView } from '../../host/relay/network.ts';
import { type PurposeKind, purposeOf } from '../../host/relay/purpose.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import type { NodeStatus } from '../../lib/protocol/onboarding-messages.ts';
import type { Funds, NodeClaims, Permission, Permissions } from './contract.ts';
import type { Reason } from './narrator.ts';

/** What prevents a start, as far as chain and account tell; empty when nothing does. */
export function blockers(
  network: RecentView,
  identity: NodeClaims,
  permissions: Permissions,
  funds: Funds,
  gasAddress: string,
): Reason[] {
  return [
    ...(network.epoch === 0 ? [notBootstrapped] : []),
    ...permissionReasons(identity, permissions),
    ...fundsReasons(funds, gasAddress),
  ];
}

export const notBootstrapped: Reason = {
  kind: 'bootstrap',
  text: 'The network has no secret yet: its owner bootstraps the first node (npx dstack network bootstrap), and then others can join.',
};

/** What the owner has to allow. */
export function permissionReasons(identity: NodeClaims, permissions: Permissions): Reason[] {
  const words = {
    measurement: 'this image in this shape, measurement',
    config: 'this network.json, config',
    platform: 'this host, platform',
  } as const;
  return (['measurement', 'config', 'platform'] as const).flatMap((kind) => {
    const text = permissionText(kind, words[kind], identity[kind] ?? '', permissions[kind]);
    return text === undefined ? [] : [{ kind, text }];
  });
}

function permissionText(
  kind: string,
  what: string,
  value: string,
  permission: Permission,
): string | undefined {
  if (permission === 'yes') return undefined;
  const named = `${what} ${value}`;
  if (permission === 'revoked') return `The contract keeps out ${named}: the owner has revoked it.`;
  if (permission === 'no') {
    return `The contract does not allow ${named}. The network's owner has to run: npx dstack network allow ${kind} ${value}`;
  }
  const date = new Date(Number(permission.from) * 1000).toISOString();
  return `The contract allows ${named}, from ${date} on: the network's delay has to pass.`;
}

export function fundsReasons({ balance, needed }: Funds, address: string): Reason[] {
  if (balance >= needed) return [];
  const [has, needs, lacks] = [balance, needed, needed - balance].map(ether);
  return [
    {
      kind: 'balance',
      text: `The balance of the gas account is too low: ${address} has ${has} ETH, joining may take ${needs} ETH. Send it ${lacks} ETH or more.`,
    },
  ];
}

/** What the relay knows of this host's own request, once there is one. */
export interface RequestFacts {
  readonly request: RequestView;
  readonly head: number;
}

/** What a running node waits for. `joined` and `failed` are the caller's business: nothing is waited for in either. */
export function progress(status: RelayStatus, facts: RequestFacts | undefined): Reason[] {
  const { node } = status;
  if (node === undefined) {
    return [{ kind: 'booting', text: 'The VM is booting: its node does not answer yet.' }];
  }
  if (node.state === 'joined') return [];
  const trouble = node.message === undefined ? '' : ` It says ${node.code ?? ''}: ${node.message}`;
  if (node.state !== 'requesting') {
    return [{ kind: `node ${node.state} ${node.code ?? ''}`, text: `The node is ${node.state}.${trouble}` }];
  }
  if (facts === undefined || node.requestHash === undefined) {
    return [{ kind: 'request', text: `The node makes its request.${trouble}` }];
  }
  return requestReasons(status, node, node.requestHash, facts);
}

function requestReasons(
  status: RelayStatus,
  node: NodeStatus,
  hash: Hex,
  { request, head }: RequestFacts,
): Reason[] {
  switch (request.state) {
    case 'none':
      return [posting(status, node, 'register', hash)];
    case 'open':
      if (status.transactions.some(({ purpose }) => purpose === purposeOf('onboard', node, hash))) {
        return [posting(status, node, 'onboard', hash)];
      }
      return [unanswered(hash, request, head), ...peerReasons(status)];
    case 'answered':
      return [
        {
          kind: 'answered',
          text: `The contract has the answer to request ${short(hash)}; the node has yet to open it.${opening(status)}`,
        },
      ];
    case 'expired':
      return [
        {
          kind: 'expired',
          text: `Nobody answered request ${short(hash)} in time; the node makes a new one.`,
        },
      ];
  }
}

function unanswered(hash: Hex, request: RequestView, head: number): Reason {
  const left = Math.max(0, Number(request.expiresAfter) - head);
  return {
    kind: `unanswered ${hash}`,
    text: `Registered: request ${short(hash)} is on chain since block ${request.blockNumber}. No node that has the secret has answered yet; ${left} blocks are left until it expires and is made again.`,
  };
}

function posting(status: RelayStatus, node: NodeStatus, what: PurposeKind, hash: Hex): Reason {
  const found = status.transactions.find(({ purpose }) => purpose === purposeOf(what, node, hash));
  const how =
    what === 'register' ? 'The request is being posted' : 'A node has answered; the answer is being posted';
  const transaction = found?.hash === undefined ? '' : `, transaction ${found.hash}`;
  const trouble = found?.message === undefined ? '' : ` It waits: ${found.code ?? ''}: ${found.message}`;
  return {
    kind: `${what} ${found?.code ?? ''}`,
    text: `${how} (${what} of ${short(hash)}${transaction}).${trouble}`,
  };
}

/** Mentioned only when it is a problem: a request that no relay sees can't be answered. */
export function peerReasons({ peers, calldata }: Pick<RelayStatus, 'peers' | 'calldata'>): Reason[] {
  // Without any peer it is by the chain that relays are reached.
  if (peers.some(({ reachable }) => reachable) || calldata !== undefined) return [];
  const text =
    peers.length === 0
      ? 'There is no gossip peer: DSTACK_GOSSIP_PEERS is empty, and so is DSTACK_RECORDS_PEERS: only relays that name this one as theirs see its requests. Without any peer, DSTACK_CALLDATA_AFTER=0 has them travel by the chain.'
      : `No gossip peer can be reached (${peers.map(({ peer }) => peer).join(', ')}): nobody may see this host's requests.`;
  return [{ kind: 'peers', text }];
}

/** What the relay says about handing over the answer; what it said about posting it no longer matters. */
function opening({ waitingFor }: RelayStatus): string {
  return waitingFor === '' || waitingFor.startsWith('onboard of')
    ? ''
    : ` The relay waits for ${waitingFor}.`;
}

const short = (hash: Hex): string => `0x${hash.slice(0, 8)}…`;

/** Rounded up to six decimals, so that the amount asked for is enough. */
export function ether(wei: bigint): string {
  const step = 10n ** 12n;
  return formatEther(((wei + step - 1n) / step) * step);
}
