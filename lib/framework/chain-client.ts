/**
 * The one reader of the chain. Every decision of a node rests on state read through it, never on an event or on what
 * the host says.
 *
 * Until reads are proven by a light client, an answer counts when a quorum of the measured endpoints gives the same
 * one, at a block that satisfies the network's confirmation rule. A minority of endpoints may lie, stall, forget or
 * answer for another chain: they are outvoted, and if no quorum remains the read fails.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { DstackError } from '../protocol/errors.ts';
import type { NetworkConfig } from '../protocol/network-config.ts';
import { Word0x } from '../protocol/schema.ts';
import { type RpcEndpoint, rpcEndpoint } from './json-rpc.ts';

/** A block that a quorum agreed on. `timestamp` in Unix seconds. */
export interface Head {
  number: number;
  hash: `0x${string}`;
  timestamp: number;
  /** How the reader knows: which rule, and how many endpoints said so. */
  proven: { by: 'quorum'; agreeing: number; of: number };
}

export interface ChainClient {
  readonly chainId: number;
  /** The newest block that satisfies the confirmation rule. @throws CHAIN_UNREACHABLE, CHAIN_DISAGREES */
  head(): Promise<Head>;
  /** The block at a number, for those who must know that a hash is canonical. Same refusals. */
  block(number: number): Promise<Head>;
  /** `eth_call` against the state of exactly that block. Returns 0x-hex. Same refusals. */
  call(to: string, data: string, at: Head): Promise<string>;
  /** Unix seconds by the chain: see ChainClock. @throws CHAIN_STALE */
  now(): number;
}

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,13})$', maxLength: 16 });
const HeaderSchema = Type.Object({ number: Quantity, hash: Word0x, timestamp: Quantity });
const DataSchema = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 1024 * 1024 });

/** With no newer header for this long, what depends on the chain's state must stop. Seconds. */
export const STALE_AFTER_SECONDS = 3600;

export interface ChainClientOptions {
  config: Pick<NetworkConfig, 'chainId' | 'endpoints' | 'quorum' | 'confirmation'>;
  /** Unix seconds; no clock of a node is before it. */
  builtAt?: number;
  /** Of one call, milliseconds. */
  timeout?: number;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

export function chainClient(options: ChainClientOptions): ChainClient {
  const { chainId, quorum, confirmation } = options.config;
  const endpoints = options.config.endpoints.map((url) => rpcEndpoint(url, { timeout: options.timeout }));
  const clock = new ChainClock(options.builtAt ?? 0, options.monotonic ?? (() => performance.now()));
  const onChain = new WeakSet<RpcEndpoint>();

  /** All answers that arrived, were well formed, and came from an endpoint on our chain. */
  async function ask<T extends TSchema>(
    schema: T,
    method: string,
    params: readonly unknown[],
  ): Promise<Static<T>[]> {
    const failures: string[] = [];
    const settled = await Promise.all(
      endpoints.map(async (endpoint) => {
        try {
          await assertChain(endpoint);
          return [await endpoint.call(schema, method, params)];
        } catch (error) {
          failures.push((error as Error).message);
          return [];
        }
      }),
    );
    const answers = settled.flat() as Static<T>[];
    if (answers.length < quorum) {
      throw new DstackError(
        'CHAIN_UNREACHABLE',
        `${answers.length} of ${endpoints.length} endpoints answered ${method}, ${quorum} are needed: ${failures.join('; ')}`,
      );
    }
    return answers;
  }

  async function assertChain(endpoint: RpcEndpoint): Promise<void> {
    if (onChain.has(endpoint)) return;
    const id = await endpoint.call(Quantity, 'eth_chainId', []);
    if (Number(id) !== chainId) {
      throw new DstackError('CHAIN_WRONG_ID', `${endpoint.url} serves chain ${Number(id)}, not ${chainId}`);
    }
    onChain.add(endpoint);
  }

  /** The answer that a quorum gave, compared by its text. */
  function agreed<T>(answers: readonly T[], what: string): { answer: T; agreeing: number } {
    const votes = new Map<string, { answer: T; agreeing: number }>();
    for (const answer of answers) {
      const key = JSON.stringify(answer);
      const vote = votes.get(key) ?? { answer, agreeing: 0 };
      vote.agreeing += 1;
      votes.set(key, vote);
    }
    const best = [...votes.values()].sort((a, b) => b.agreeing - a.agreeing)[0];
    if (best === undefined || best.agreeing < quorum) {
      throw new DstackError(
        'CHAIN_DISAGREES',
        `no ${quorum} of ${endpoints.length} endpoints agree on ${what}; the best answer has ${best?.agreeing ?? 0}`,
      );
    }
    return best;
  }

  async function block(number: number): Promise<Head> {
    const headers = await ask(HeaderSchema, 'eth_getBlockByNumber', [`0x${number.toString(16)}`, false]);
    const { answer, agreeing } = agreed(
      headers.map(({ number, hash, timestamp }) => ({ number, hash, timestamp })),
      `block ${number}`,
    );
    if (Number(answer.number) !== number) {
      throw new DstackError(
        'CHAIN_DISAGREES',
        `asked for block ${number}, was given ${Number(answer.number)}`,
      );
    }
    return {
      number,
      hash: answer.hash as `0x${string}`,
      timestamp: Number(answer.timestamp),
      proven: { by: 'quorum', agreeing, of: endpoints.length },
    };
  }

  return {
    chainId,
    block,
    async head() {
      const tag = 'finalized' in confirmation ? 'finalized' : 'latest';
      const newest = await ask(HeaderSchema, 'eth_getBlockByNumber', [tag, false]);
      const numbers = newest.map((header) => Number(header.number)).sort((a, b) => b - a);
      // The highest block that a quorum has reached: one endpoint far ahead, or behind, does not move it.
      const reached = numbers[quorum - 1]!;
      const depth = 'depth' in confirmation ? confirmation.depth : 0;
      const head = await block(Math.max(0, reached - depth));
      // Likewise for time, and never behind the block that a quorum agreed on: of the few that the host lets through,
      // half may be liars, and a median theirs.
      const times = newest.map((header) => Number(header.timestamp)).sort((a, b) => b - a);
      clock.accept(head.number, Math.max(head.timestamp, times[quorum - 1]!));
      return head;
    },
    async call(to, data, at) {
      const answers = await ask(DataSchema, 'eth_call', [{ to, data }, { blockHash: at.hash }]);
      return agreed(answers, `a call to ${to} at block ${at.number}`).answer;
    },
    now: () => clock.now(),
  };
}

/**
 * Time by the chain: the timestamp that a quorum has reached plus what a monotonic clock says has passed since.
 * The host sets the machine's clock, so that one is never asked.
 */
class ChainClock {
  readonly #builtAt: number;
  readonly #monotonic: () => number;
  #accepted: { block: number; seconds: number; at: number } | undefined;

  constructor(builtAt: number, monotonic: () => number) {
    this.#builtAt = builtAt;
    this.#monotonic = monotonic;
  }

  /** Only a newer block moves the clock: a chain that stands still grows stale. */
  accept(block: number, seconds: number): void {
    if (this.#accepted !== undefined && block <= this.#accepted.block) return;
    this.#accepted = { block, seconds, at: this.#monotonic() };
  }

  now(): number {
    const last = this.#accepted;
    if (last === undefined) throw new DstackError('CHAIN_STALE', 'no block has been accepted yet');
    const passed = (this.#monotonic() - last.at) / 1000;
    if (passed > STALE_AFTER_SECONDS) {
      throw new DstackError(
        'CHAIN_STALE',
        `no new block for ${Math.round(passed)} s (the last was ${last.block}); check the chain's endpoints`,
      );
    }
    return Math.max(this.#builtAt, Math.floor(last.seconds + passed));
  }
}
