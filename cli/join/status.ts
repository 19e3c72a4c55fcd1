/** The state of this host's node in a paragraph: what its relay says, next to what the contract says. */
import { type Static, Type } from 'typebox';
import { httpJson } from '../../host/http-json.ts';
import type { RelayStatus } from '../../host/relay/main.ts';
import type { RecentView } from '../../host/relay/network.ts';
import type { RelaySettings } from '../../host/relay/settings.ts';
import { AppsStatusSchema } from '../../lib/protocol/app-status.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import { NodeStatusSchema } from '../../lib/protocol/onboarding-messages.ts';
import { Address0x, Count, check } from '../../lib/protocol/schema.ts';
import { SignerStatusSchema } from '../../lib/protocol/signer-status.ts';
import { ContractView } from './contract.ts';
import { requestFacts } from './join.ts';
import { ether, fundsReasons, notBootstrapped, peerReasons, progress } from './reasons.ts';

const Text = Type.String({ maxLength: 4000 });
/** `RelayStatus` as JSON: undefined fields are absent. */
const StatusSchema = Type.Object({
  node: Type.Optional(NodeStatusSchema),
  waitingFor: Text,
  gasAddress: Address0x,
  block: Type.Optional(Count),
  requests: Type.Array(
    Type.Object({ handler: Text, block: Count, transaction: Text, attempts: Count, reason: Text }),
  ),
  transactions: Type.Array(
    Type.Object({
      purpose: Text,
      state: Type.Union([
        Type.Literal('queued'),
        Type.Literal('sent'),
        Type.Literal('mined'),
        Type.Literal('final'),
        Type.Literal('failed'),
      ]),
      hash: Type.Optional(Text),
      code: Type.Optional(Text),
      message: Type.Optional(Text),
    }),
  ),
  peers: Type.Array(Type.Object({ peer: Text, reachable: Type.Boolean() })),
  warnings: Type.Optional(Type.Array(Text)),
  apps: Type.Optional(AppsStatusSchema),
  signer: Type.Optional(SignerStatusSchema),
});

export interface NodeReport {
  /** For people. */
  readonly paragraph: string;
  /** For programs: docs/cli.md. */
  readonly object: object;
}

/** @throws RELAY_UNREACHABLE, RELAY_STATUS, NETWORK_MISSING, RPC_* */
export async function nodeReport(settings: RelaySettings): Promise<NodeReport> {
  const status = await relayStatus(settings);
  const contract = new ContractView(settings);
  const { view, head } = await contract.network();
  const funds = await contract.funds(status.gasAddress);
  const facts = await requestFacts(contract, status.node?.requestHash);
  const joined = status.node?.state === 'joined';
  const sentences = [
    networkSentence(settings, view, head),
    nodeSentence(status, view),
    ...progress(status, facts).map(({ text }) => text),
    `${status.gasAddress} pays and has ${ether(funds.balance)} ETH.`,
    ...(joined ? [] : fundsReasons(funds, status.gasAddress).map(({ text }) => text)),
    ...signerSentences(status),
    ...peerSentences(status, facts?.request.state === 'open'),
    `The relay has processed the chain up to block ${status.block ?? 'none'} and works on ${status.requests.length} requests of other nodes.`,
  ];
  return {
    paragraph: sentences.join(' '),
    object: objectOf(settings, { status, view, head, balance: funds.balance }),
  };
}

interface Asked {
  readonly status: RelayStatus;
  readonly view: RecentView;
  /** The block of `view`. */
  readonly head: number;
  /** Wei. */
  readonly balance: bigint;
}

function objectOf({ chainId, contract }: RelaySettings, { status, view, head, balance }: Asked): object {
  const { node, waitingFor, gasAddress, block, requests, peers, warnings, signer } = status;
  const { networkKey, epoch, onboarded } = view;
  return {
    ...{ chainId, contract, block: head, networkKey, epoch, onboarded },
    node: node ?? null,
    relay: { waitingFor, block: block ?? null, requests: requests.length, peers, warnings: warnings ?? [] },
    gas: { address: gasAddress, wei: `${balance}` },
    signer: signer ?? null,
  };
}

/** @throws RELAY_UNREACHABLE, RELAY_STATUS */
export async function relayStatus({
  adminListen: { host, port },
  contract,
}: Pick<RelaySettings, 'adminListen' | 'contract'>): Promise<RelayStatus> {
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}/v1/status?contract=${contract}`;
  const reply = await httpJson({ url, timeout: 10_000, maxBytes: 4 * 1024 * 1024 }).catch((cause) => {
    throw new DstackError(
      'RELAY_UNREACHABLE',
      `no relay answers at ${url} (DSTACK_ADMIN_LISTEN): start it with npx dstack node join. ${(cause as Error).message}`,
      { cause },
    );
  });
  if (reply.status === 404) {
    throw new DstackError(
      'RELAY_STATUS',
      `the relay at ${url} does not serve this network (DSTACK_ADMIN_LISTEN)`,
    );
  }
  const found: Static<typeof StatusSchema> = check(
    StatusSchema,
    reply.value,
    'RELAY_STATUS',
    "the relay's status",
  );
  return {
    ...found,
    node: found.node,
    signer: found.signer,
    block: found.block,
    transactions: found.transactions.map((transaction) => ({
      ...transaction,
      hash: transaction.hash,
      code: transaction.code,
      message: transaction.message,
    })),
  };
}

function networkSentence(settings: RelaySettings, view: RecentView, head: number): string {
  const place = `Network ${settings.contract} on chain ${settings.chainId}, at block ${head},`;
  if (view.epoch === 0) return `${place} is not bootstrapped. ${notBootstrapped.text}`;
  const alone = view.onboarded ? '' : ' AT MOST ONE NODE HAS THE SECRET: nobody was onboarded yet.';
  return `${place} is in epoch ${view.epoch} with the key ${view.networkKey}.${alone}`;
}

function nodeSentence({ node }: RelayStatus, view: RecentView): string {
  if (node === undefined) return "This host's node does not answer its relay.";
  const key = node.networkKey;
  const agrees =
    key === undefined || node.state !== 'joined'
      ? ''
      : sameAddress(key, view.networkKey)
        ? ", with the network's key"
        : `, WITH ANOTHER KEY THAN THE CONTRACT'S: ${key}`;
  return `This host's node (${node.flavour}) is ${node.state}${agrees}.`;
}

/** Texts that are the node's are printed as they are: the terminal escapes them. */
export function signerSentences({ signer }: Pick<RelayStatus, 'signer'>): string[] {
  if (signer === undefined) return [];
  const { stopped, rollbackProtected, chains, connections, disk } = signer;
  return [
    stopped === undefined
      ? 'Its signer signs.'
      : `ITS SIGNER SIGNS NOTHING: ${stopped.code}: ${stopped.message}${disk === undefined ? '' : ` (this node's disk is ${disk})`}.`,
    ...(rollbackProtected === false
      ? ['ITS STORE HAS ONE MEMBER: an old copy of its disk makes the validator sign twice.']
      : []),
    ...chains.map(
      ({ id, address, height = '?', round = '?', step = '?' }) =>
        `Of ${id} the validator ${address} signed height ${height}, round ${round}, step ${step} last.`,
    ),
    ...connections.map(({ chain, address, state, seconds, quiet, problem }) => {
      const silent = quiet ? ', and asks nothing' : '';
      const why = problem === undefined ? '' : ` (${problem.code}: ${problem.message})`;
      return `The connection to ${address} for ${chain} is ${state} for ${seconds} s${silent}${why}.`;
    }),
    ...chains
      .filter(({ id }) => !connections.some(({ chain }) => chain === id))
      .map(({ id }) => `FOR ${id} THE HOST NAMES NO VALIDATOR: DSTACK_VM_VALIDATORS.`),
  ];
}

function peerSentences(status: RelayStatus, alreadySaid: boolean): string[] {
  const bad = peerReasons(status);
  if (bad.length > 0) return alreadySaid ? [] : bad.map(({ text }) => text);
  const reachable = status.peers.filter((peer) => peer.reachable).length;
  return [`${reachable} of ${status.peers.length} gossip peers answer.`];
}
