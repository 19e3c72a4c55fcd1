/**
 * What the owner has to know of the chain besides the contract's state, before and after signing: all of it is taken from a quorum of
 * endpoints. One that lies is outvoted; where no quorum is left, nothing is signed.
 *
 * Gas and fees are the exception, since honest endpoints may differ in them: the median is taken, and the ceilings are the owner's
 * own.
 */
import { Type } from 'typebox';
import { type RpcEndpoint, RpcRefusal } from '../../lib/chain/json-rpc.ts';
import { hostEndpoint, type Receipt, Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { type Fees, firstFees } from '../../lib/framework/transactions/fees.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import {
  describeNetworkError,
  type NetworkError,
  parseNetworkError,
} from '../../lib/protocol/network-contract.ts';
import { requireFirstBlock } from './chains.ts';

const Code = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 128 * 1024 });
const Small = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,12})$', maxLength: 15 });

/** More than a deployment takes. */
const MAX_GAS = 8_000_000n;

export interface EndpointsOptions {
  readonly chainId: number;
  /** Zero address before there is one. */
  readonly contract: Address;
  /** The endpoints that are believed. */
  readonly urls: readonly string[];
  /** How many of them have to agree. */
  readonly quorum: number;
  /** The endpoints that are given the transaction, and asked what it may cost. */
  readonly sendTo: readonly string[];
}

interface Endpoint {
  readonly name: string;
  readonly url: string;
  readonly raw: RpcEndpoint;
  readonly rpc: Rpc;
}

interface Unsigned {
  readonly from: string;
  readonly to?: string;
  readonly data: string;
}

export class Endpoints {
  readonly #asked: readonly Endpoint[];
  readonly #sendTo: readonly Endpoint[];
  readonly #options: EndpointsOptions;
  #firstBlock = 'unknown';

  private constructor(options: EndpointsOptions) {
    const all = new Map(
      [...options.urls, ...options.sendTo].map((url) => [url, endpointOf(url, options)] as const),
    );
    this.#options = options;
    this.#asked = options.urls.map((url) => all.get(url)!);
    this.#sendTo = options.sendTo.map((url) => all.get(url)!);
  }

  /**
   * Asks every endpoint which chain it serves: one that names another than the owner did ends the command, even if a quorum would
   * outvote it.
   * @throws RPC_WRONG_CHAIN, CHAIN_OTHER_GENESIS, CHAIN_UNREACHABLE
   */
  static async open(options: EndpointsOptions): Promise<Endpoints> {
    const endpoints = new Endpoints(options);
    const all = [...new Set([...endpoints.#asked, ...endpoints.#sendTo])];
    await Promise.all(
      all.map(async ({ rpc, name }) => {
        const first = await rpc.blockHash(0).catch((error) => {
          if (codeOf(error) !== 'RPC_WRONG_CHAIN') return undefined;
          throw new DstackError('RPC_WRONG_CHAIN', `${name}: ${(error as Error).message}, and --chain-id`);
        });
        // Not answering is not lying; each question finds out whether enough of them answer.
        if (first !== undefined) requireFirstBlock(options.chainId, first, name);
      }),
    );
    const agreed = await endpoints.agree('the first block', ({ rpc }) => rpc.blockHash(0));
    endpoints.#firstBlock = agreed ?? 'unknown';
    // Again: one that failed above, or said that it has none, was not checked.
    requireFirstBlock(options.chainId, endpoints.#firstBlock, endpoints.names.join(', '));
    return endpoints;
  }

  /** The hash of block 0, as a quorum gives it. */
  get firstBlock(): string {
    return this.#firstBlock;
  }

  /** Host names: the rest of a URL may contain a key. */
  get names(): readonly string[] {
    return this.#asked.map(({ name }) => name);
  }

  /** The nonce after the last mined transaction. */
  nonce(account: string): Promise<number> {
    return this.agree(`the nonce of ${account}`, ({ rpc }) => rpc.nonce(account));
  }

  /** Whether the endpoints know a transaction of the account that is not mined yet. A lie can only make the owner wait. */
  async hasPending(account: string, mined: number): Promise<boolean> {
    const sent = await Promise.all(
      this.#sendTo.map(({ raw }) =>
        raw.call(Small, 'eth_getTransactionCount', [account, 'pending']).then(Number, () => 0),
      ),
    );
    return middle(sent, 'lower') > mined;
  }

  balance(account: string): Promise<bigint> {
    return this.agree(`the balance of ${account}`, ({ rpc }) => rpc.balance(account));
  }

  /** The code at an address; `0x` where there is none. */
  code(address: string): Promise<string> {
    return this.agree(`the code at ${address}`, ({ raw }) =>
      raw.call(Code, 'eth_getCode', [address, 'latest']),
    );
  }

  /** Undefined until a quorum has the same one. */
  async receipt(hash: string): Promise<Receipt | undefined> {
    return await this.agree(
      `the receipt of ${hash}`,
      async ({ rpc }) => (await rpc.receipt(hash)) ?? null,
    ).then(
      (receipt) => receipt ?? undefined,
      (error) => {
        if (['CHAIN_DISAGREES', 'CHAIN_UNREACHABLE'].includes(codeOf(error))) return undefined;
        throw error;
      },
    );
  }

  /**
   * The gas limit to sign, a quarter above the estimate.
   * @throws CONTRACT_REFUSED with the contract's own reason when a quorum gives the same one, CHAIN_DISAGREES, TX_GAS
   */
  async gas(transaction: Unsigned): Promise<bigint> {
    const answers = await this.#ask(({ rpc }) => rpc.estimateGas(transaction as Required<Unsigned>));
    const estimates = answers.flatMap((answer) => ('value' in answer ? [answer.value] : []));
    if (estimates.length < this.#options.quorum) this.#count('whether the contract takes this', answers);
    const gas = (middle(estimates, 'upper') * 5n) / 4n;
    if (gas <= MAX_GAS) return gas;
    throw new DstackError(
      'TX_GAS',
      `this is estimated to take ${gas} gas, more than ${MAX_GAS}: something is wrong with the endpoints or the contract`,
    );
  }

  /** @param ceiling wei per gas @throws TX_FEE_CEILING, CHAIN_UNREACHABLE */
  async fees(ceiling: bigint): Promise<Fees> {
    const asked = await Promise.all(
      this.#sendTo.map(({ rpc, name, url }) =>
        firstFees(rpc, ceiling).then(
          (fees) => ({ fees }),
          (error) => ({ failure: without(url, name, error) }),
        ),
      ),
    );
    const known = asked.flatMap((answer) => ('fees' in answer ? [answer.fees] : []));
    if (known.length === 0) {
      const failures = asked.flatMap((answer) => ('failure' in answer ? [answer.failure] : []));
      throw new DstackError('CHAIN_UNREACHABLE', `no endpoint says what gas costs: ${failures.join('; ')}`);
    }
    const sorted = known.toSorted((a, b) =>
      Number((a?.maxFee ?? ceiling + 1n) - (b?.maxFee ?? ceiling + 1n)),
    );
    const fees = sorted[(sorted.length - 1) >> 1];
    if (fees !== undefined) return fees;
    throw new DstackError(
      'TX_FEE_CEILING',
      `gas costs more than the ceiling of ${ceiling} wei (--max-fee-gwei): wait, or raise the ceiling if you believe the price`,
    );
  }

  /** Hands the transaction to every endpoint. @throws TRANSACTION_REFUSED when none accepts it */
  async send(raw: string): Promise<void> {
    const failures: string[] = [];
    const taken = await Promise.all(
      this.#sendTo.map(({ rpc, name, url }) =>
        rpc.send(raw).then(
          () => true,
          (error) => {
            failures.push(without(url, name, error));
            return false;
          },
        ),
      ),
    );
    if (taken.includes(true)) return;
    throw new DstackError(
      'TRANSACTION_REFUSED',
      `no endpoint accepted the transaction: ${failures.join('; ')}. It is signed, and may still be mined if one of them kept it`,
    );
  }

  /**
   * The answer that a quorum gave, compared as text; a refusal by the contract is an answer too.
   * @throws CONTRACT_REFUSED, CHAIN_DISAGREES, CHAIN_UNREACHABLE, RPC_WRONG_CHAIN
   */
  async agree<T>(what: string, ask: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    return this.#count(what, await this.#ask(ask));
  }

  #ask<T>(ask: (endpoint: Endpoint) => Promise<T>): Promise<Answer<T>[]> {
    return Promise.all(
      this.#asked.map(async (endpoint) => {
        try {
          const value = await ask(endpoint);
          return { value, text: textOf(value), name: endpoint.name };
        } catch (error) {
          if (codeOf(error) === 'RPC_WRONG_CHAIN') throw error;
          if (error instanceof RpcRefusal && error.data !== undefined && error.data !== '0x') {
            return { revert: error.data, text: `a refusal, ${error.data}`, name: endpoint.name };
          }
          return { failure: without(endpoint.url, endpoint.name, error) };
        }
      }),
    );
  }

  #count<T>(what: string, answers: readonly Answer<T>[]): T {
    const { quorum } = this.#options;
    const given = answers.flatMap((answer) => ('failure' in answer ? [] : [answer]));
    if (given.length < quorum) {
      const failures = answers.flatMap((answer) => ('failure' in answer ? [answer.failure] : []));
      throw new DstackError(
        'CHAIN_UNREACHABLE',
        `${given.length} of ${answers.length} endpoints say ${what}, ${quorum} are needed: ${failures.join('; ')}`,
      );
    }
    const votes = Map.groupBy(given, ({ text }) => text);
    const best = [...votes.values()].toSorted((a, b) => b.length - a.length)[0]!;
    if (best.length < quorum) {
      const said = given.map(({ name, text }) => `${name}: ${text.slice(0, 80)}`).join('; ');
      throw new DstackError(
        'CHAIN_DISAGREES',
        `no ${quorum} of ${answers.length} endpoints agree on ${what}: ${said}`,
      );
    }
    const answer = best[0]!;
    if ('value' in answer) return answer.value;
    throw refused(answer.revert);
  }
}

type Answer<T> =
  | { readonly value: T; readonly text: string; readonly name: string }
  | { readonly revert: string; readonly text: string; readonly name: string }
  | { readonly failure: string };

function endpointOf(url: string, { chainId, contract }: EndpointsOptions): Endpoint {
  const raw = hostEndpoint(url);
  return { name: new URL(url).host, url, raw, rpc: new Rpc({ url, endpoint: raw, chainId, contract }) };
}

function refused(data: string): DstackError {
  const known = parseNetworkError(data);
  return known === undefined
    ? new DstackError('CONTRACT_REFUSED', `the contract refuses this: ${data.slice(0, 200)}`)
    : new DstackError('CONTRACT_REFUSED', `${inWords(known)}${NOT_THE_OWNER[known.name] ?? ''}`);
}

/** With an app's name instead of its id, which no owner types. What is no name, as a lying endpoint may have it, stays as it is. */
function inWords(error: NetworkError): string {
  const text = describeNetworkError(error);
  if (!('app' in error)) return text;
  try {
    return text.replace(error.app, appName(fromHex(error.app)));
  } catch {
    return text;
  }
}

/** This error is of a library, whose source says nothing to the owner. */
const NOT_THE_OWNER: Readonly<Record<string, string>> = {
  OwnableUnauthorizedAccount:
    ': the contract does only what its owner signs, and this is the key of another account',
};

/** A URL may contain the owner's key to the endpoint, so only its host is shown. */
function without(url: string, name: string, error: unknown): string {
  return `${name}: ${(error as Error).message.replaceAll(url, name).slice(0, 300)}`;
}

const textOf = (value: unknown): string =>
  JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? String(part) : part)) ?? 'nothing';

/** The median: with an honest majority it lies between values that honest endpoints gave. */
function middle<T extends number | bigint>(values: readonly T[], which: 'lower' | 'upper'): T {
  const sorted = values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return sorted[which === 'lower' ? (sorted.length - 1) >> 1 : sorted.length >> 1]!;
}
