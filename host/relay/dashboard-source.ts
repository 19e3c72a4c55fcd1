/** One network as the dashboard shows it: what the relay knows anyway, and the contract's events as long as somebody looks. */

import type { Header } from '../../lib/framework/endpoint/heads.ts';
import type { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import type { TransactionStatus, Transactions } from '../../lib/framework/transactions/transactions.ts';
import { type Address, chainHex, type Hex } from '../../lib/protocol/hex.ts';
import {
  type AppView,
  decodeNetwork,
  encodeNetwork,
  type NetworkView,
} from '../../lib/protocol/network-contract.ts';
import type { SiteCertificate } from '../../lib/site/certificate-rule.ts';
import { allowList, pending } from '../dashboard/allow-list.ts';
import { apps } from '../dashboard/apps.ts';
import { ChainHistory } from '../dashboard/chain-history.ts';
import type { NetworkSource } from '../dashboard/live-state.ts';
import { nodes } from '../dashboard/nodes.ts';
import { onboardings } from '../dashboard/onboardings.ts';
import { rollouts } from '../dashboard/rollouts.ts';
import { firstOf, most, type OwnNode, type Parts, text } from '../dashboard/state.ts';
import type { Network } from './network.ts';
import type { RelayStatus } from './service.ts';

export interface DashboardSourceOptions {
  readonly chainId: number;
  readonly contract: Address;
  readonly rpc: Pick<Rpc, 'head' | 'blockHash' | 'call' | 'isQuiet' | 'isLoud' | 'logs'>;
  readonly network: Pick<Network, 'apps'>;
  readonly transactions: Pick<Transactions, 'address' | 'balance' | 'spending'>;
  certificate(): SiteCertificate | undefined;
  /** @param requestHash 64 hex digits */
  isOwn(requestHash: Hex): boolean;
  status(): RelayStatus;
  unhealthy(): string | undefined;
  /** Takes secrets out of what endpoints and peers said. */
  redact(text: string): string;
}

/** Between two looks at the balance while somebody looks, milliseconds; and never twice in a block. */
const BALANCE_MS = 1_000;

export class DashboardSource implements NetworkSource {
  readonly contract: string;
  readonly chainId: number;
  readonly #options: DashboardSourceOptions;
  readonly #history: ChainHistory;
  #head: Header | undefined;
  #view: NetworkView | undefined;
  #apps: readonly AppView[] | undefined;
  #problem: string | undefined;

  constructor(options: DashboardSourceOptions) {
    this.#options = options;
    this.contract = options.contract;
    this.chainId = options.chainId;
    this.#history = new ChainHistory(options.rpc);
  }

  async look(): Promise<void> {
    const { rpc, network, transactions } = this.#options;
    try {
      const head = await rpc.head();
      const isNew = head.hash !== this.#head?.hash;
      if (isNew) await transactions.balance.look(BALANCE_MS);
      // Its own reading: the relay's is not read again for what only people look at, such as the delay.
      if (isNew || this.#view === undefined) this.#view = decodeNetwork(await rpc.call(encodeNetwork()));
      this.#apps = await network.apps();
      // Only now: what could not be read at this block is asked for again.
      this.#head = head;
      this.#problem = undefined;
    } catch (error) {
      this.#problem = (error as Error).message;
    }
    await this.#history.look();
  }

  parts(): Parts {
    const status = this.#options.status();
    const { events } = this.#history;
    const time = this.#head?.timestamp ?? 0;
    const isOwn = (request: string) => this.#options.isOwn(request.replace(/^0x/, '') as Hex);
    const allowed = allowList(events, time);
    const view = this.#view;
    return {
      pulse: {
        head: this.#head?.number ?? null,
        time: this.#head?.timestamp ?? null,
        block: status.block ?? null,
        unhealthy: this.#shownOr(this.#options.unhealthy()),
      },
      network: view === undefined ? null : networkPart(view),
      history: this.#historyPart(),
      warnings: (status.warnings ?? []).slice(0, most.warnings).map((warning) => this.#shown(warning)),
      own: this.#ownNode(status),
      nodes: listPart(nodes(events, allowed, isOwn), most.nodes),
      peers: listPart(
        status.peers.map(({ peer, reachable }) => ({ peer: this.#shown(peer), reachable })),
        most.peers,
      ),
      onboardings:
        view === undefined
          ? null
          : listPart(
              onboardings(events, {
                requestWindow: view.requestWindow,
                head: this.#head?.number ?? 0,
                waitingFor: status.waitingFor,
                work: status.requests,
                isOwn,
              }),
              most.onboardings,
            ),
      apps: this.#apps === undefined ? null : listPart(apps(this.#apps, status.apps), most.apps),
      rollouts: listPart(rollouts(events, status.apps), most.rollouts),
      certificate: certificatePart(this.#options.certificate()),
      gas: this.#gasPart(status.transactions),
      allowed: listPart(allowed, most.allowed),
      pending: listPart(pending(events, allowed, time), most.pending),
    };
  }

  #historyPart(): Parts['history'] {
    const { from, complete, behind, cutAt, problem } = this.#history.status();
    return {
      from: from ?? null,
      complete,
      behind,
      cutAt: cutAt ?? null,
      problem: this.#shownOr(this.#problem ?? problem),
    };
  }

  #gasPart(open: readonly TransactionStatus[]): Parts['gas'] {
    const { address, balance, spending } = this.#options.transactions;
    const { wei, low } = balance;
    return {
      address,
      wei: wei === undefined ? null : String(wei),
      lowWei: String(low),
      low: wei !== undefined && wei < low,
      spent: spending.list().map((one) => ({ ...one, wei: String(one.wei) })),
      transactions: listPart(
        open.map(({ purpose, state, hash, code, message, broadcastError }) => ({
          purpose: this.#shown(purpose),
          state,
          hash: hash ?? null,
          code: this.#shownOr(code ?? broadcastError?.code),
          message: this.#shownOr(message ?? broadcastError?.message),
        })),
        most.transactions,
      ),
    };
  }

  #ownNode({ node, waitingFor }: RelayStatus): OwnNode {
    return {
      state: node?.state ?? 'unreachable',
      flavour: node?.flavour ?? null,
      epoch: node?.epoch ?? null,
      config: node === undefined ? null : chainHex(node.config),
      networkKey: node?.networkKey ?? null,
      code: this.#shownOr(node?.code),
      message: this.#shownOr(node?.message),
      waitingFor: this.#shown(waitingFor),
    };
  }

  #shown(value: string): string {
    return text(this.#options.redact(value));
  }

  #shownOr(value: string | undefined): string | null {
    return value === undefined ? null : this.#shown(value);
  }
}

function networkPart({
  networkKey,
  epoch,
  delay,
  requestWindow,
  platformsOpen,
}: NetworkView): Parts['network'] {
  return { networkKey, epoch, delay, requestWindow, platformsOpen };
}

function certificatePart(known: SiteCertificate | undefined): Parts['certificate'] {
  if (known === undefined) return null;
  const { serial, names, notAfter } = known;
  return { serial: text(serial), names: names.slice(0, 32).map((name) => text(name)), notAfter };
}

/** A copy that may be changed, as the schema's types have it. */
function listPart<T>(all: readonly T[], limit: number): { list: T[]; more: number } {
  const { list, more } = firstOf(all, limit);
  return { list: [...list], more };
}
