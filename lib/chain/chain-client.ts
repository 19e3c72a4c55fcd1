/**
 * The one reader of the chain. Every decision of a node rests on state read through it, never on an event or on what
 * the host says.
 *
 * Until reads are proven by a light client, an answer counts when a quorum of the measured endpoints gives the same
 * one, at a block that satisfies the network's confirmation rule. A minority of endpoints may lie, stall, forget or
 * answer for another chain: they are outvoted, and if no quorum remains the read fails.
 *
 * Nor can they take the reader back in time: a head counts only if a quorum is near it (chain-heads.ts), an accepted head is
 * never followed by a lower one, and the clock never goes back (chain-clock.ts). All that a lie can do is make the reader
 * wait, and the error code says why.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { DstackError } from '../protocol/errors.ts';
import type { Hex } from '../protocol/hex.ts';
import type { NetworkConfig } from '../protocol/network-config.ts';
import { Word0x } from '../protocol/schema.ts';
import { ChainClock } from './chain-clock.ts';
import { type Claim, NEAR, nearHeads } from './chain-heads.ts';
import { type RpcEndpoint, RpcRefusal, rpcEndpoint } from './json-rpc.ts';

/** A block that a quorum agreed on. `timestamp` in Unix seconds. */
export interface Head {
  number: number;
  hash: Hex;
  timestamp: number;
  /** How the reader knows: which rule, and how many endpoints said so. */
  proven: { by: 'quorum'; agreeing: number; of: number };
}

export interface ChainClient {
  readonly chainId: number;
  /**
   * The newest block that satisfies the confirmation rule: asked for now, never below one accepted before, and not stale.
   * State read at a head that has just been returned is therefore fresh.
   * @throws CHAIN_UNREACHABLE, CHAIN_DISAGREES, CHAIN_HEADS_APART, CHAIN_BEHIND, CHAIN_STALE
   */
  head(): Promise<Head>;
  /** The block at a number, for callers that must know whether a hash is canonical. @throws CHAIN_UNREACHABLE, CHAIN_DISAGREES */
  block(number: number): Promise<Head>;
  /**
   * `eth_call` against the state of exactly that block. Returns 0x-hex.
   * @throws CHAIN_UNREACHABLE, CHAIN_DISAGREES; CALL_REVERTED when a quorum says that the contract refuses it
   */
  call(to: string, data: string, at: Head): Promise<string>;
  /** The chain's time in Unix seconds: see ChainClock. @throws CHAIN_STALE */
  now(): number;
  /** How far this reader has got, so that another reader on this machine can continue from there. @throws CHAIN_STALE before the first head */
  reached(): Reached;
}

/** The newest accepted block, the newest accepted header's timestamp, and the clock; the last two in Unix seconds. */
export interface Reached {
  block: number;
  timestamp: number;
  now: number;
}

/**
 * For how long the others are waited for once a quorum has answered alike, milliseconds: what they say is of use, but an endpoint that never
 * answers would make each read take as long as a call may.
 */
const GRACE = 1_000;

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,13})$', maxLength: 16 });
const HeaderSchema = Type.Object({ number: Quantity, hash: Word0x, timestamp: Quantity });
const DataSchema = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 1024 * 1024 });

export interface ChainClientOptions {
  config: Pick<NetworkConfig, 'chainId' | 'endpoints' | 'quorum' | 'confirmation'>;
  /** Unix seconds; a node's clock never shows an earlier time. */
  builtAt?: number;
  /** How far this machine has got already: restarting a process must not take it back in time. */
  from?: Reached;
  /** For one call, milliseconds. */
  timeout?: number;
  /** Calls of one endpoint at once; 4 by default. */
  connections?: number;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

export function chainClient(options: ChainClientOptions): ChainClient {
  const { chainId, quorum, confirmation } = options.config;
  const { timeout, connections } = options;
  const endpoints = options.config.endpoints.map((url) => rpcEndpoint(url, { timeout, connections }));
  const depth = 'depth' in confirmation ? confirmation.depth : 0;
  const [tag, near] =
    'finalized' in confirmation
      ? (['finalized', NEAR.finalized] as const)
      : (['latest', NEAR.latest] as const);
  const clock = new ChainClock(options.builtAt ?? 0, options.monotonic ?? (() => performance.now()));
  const { from } = options;
  if (from !== undefined) clock.accept(from.timestamp, from.now);
  let accepted: Head | undefined;
  const lowest = () => accepted?.number ?? from?.block ?? 0;
  const onChain = new WeakSet<RpcEndpoint>();

  /**
   * All answers that arrived, were well formed, and came from an endpoint of our chain.
   * @param isEnough whether they decide, so that further ones need not be waited for
   */
  async function ask<T extends TSchema>(
    schema: T,
    method: string,
    params: readonly unknown[],
    isEnough: (answers: readonly Static<T>[]) => boolean,
  ): Promise<Static<T>[]> {
    const failures: string[] = [];
    const answers: Static<T>[] = [];
    let reverted = 0;
    const { promise: decided, resolve: nowDecided } = Promise.withResolvers<void>();
    let grace: NodeJS.Timeout | undefined;
    const all = Promise.all(
      endpoints.map(async (endpoint) => {
        try {
          await assertChain(endpoint);
          answers.push(await endpoint.call(schema, method, params));
        } catch (error) {
          failures.push((error as Error).message);
          if (error instanceof RpcRefusal && error.kind === 'reverted') reverted += 1;
        }
        if (reverted >= quorum || isEnough(answers)) grace ??= setTimeout(nowDecided, GRACE);
      }),
    );
    await Promise.race([all, decided]);
    clearTimeout(grace);
    if (reverted >= quorum)
      throw new DstackError('CALL_REVERTED', `the contract refuses the call: ${failures.join('; ')}`);
    if (answers.length < quorum) {
      throw new DstackError(
        'CHAIN_UNREACHABLE',
        `${answers.length} of ${endpoints.length} endpoints answered ${method}, ${quorum} are needed: ${failures.join('; ')}`,
      );
    }
    return [...answers];
  }

  async function assertChain(endpoint: RpcEndpoint): Promise<void> {
    if (onChain.has(endpoint)) return;
    const id = await endpoint.call(Quantity, 'eth_chainId', []);
    if (Number(id) !== chainId) {
      throw new DstackError('CHAIN_WRONG_ID', `${endpoint.name} serves chain ${Number(id)}, not ${chainId}`);
    }
    onChain.add(endpoint);
  }

  /** The answer that most gave; answers are compared as text. */
  function leading<T>(answers: readonly T[]): { answer: T; agreeing: number } | undefined {
    const votes = new Map<string, { answer: T; agreeing: number }>();
    for (const answer of answers) {
      const key = JSON.stringify(answer);
      const vote = votes.get(key) ?? { answer, agreeing: 0 };
      vote.agreeing += 1;
      votes.set(key, vote);
    }
    return [...votes.values()].sort((a, b) => b.agreeing - a.agreeing)[0];
  }
  const isAgreed = (answers: readonly unknown[]) => (leading(answers)?.agreeing ?? 0) >= quorum;

  /** The answer that a quorum gave. */
  function agreed<T>(answers: readonly T[], what: string): { answer: T; agreeing: number } {
    const best = leading(answers);
    if (best === undefined || best.agreeing < quorum) {
      throw new DstackError(
        'CHAIN_DISAGREES',
        `no ${quorum} of ${endpoints.length} endpoints agree on ${what}; the best answer has ${best?.agreeing ?? 0}`,
      );
    }
    return best;
  }

  async function block(number: number): Promise<Head> {
    const plain = (headers: readonly Static<typeof HeaderSchema>[]) =>
      headers.map(({ number, hash, timestamp }) => ({ number, hash, timestamp }));
    const params = [`0x${number.toString(16)}`, false];
    const headers = await ask(HeaderSchema, 'eth_getBlockByNumber', params, (some) => isAgreed(plain(some)));
    const { answer, agreeing } = agreed(plain(headers), `block ${number}`);
    if (Number(answer.number) !== number) {
      throw new DstackError(
        'CHAIN_DISAGREES',
        `asked for block ${number}, was given ${Number(answer.number)}`,
      );
    }
    return {
      number,
      hash: answer.hash,
      timestamp: Number(answer.timestamp),
      proven: { by: 'quorum', agreeing, of: endpoints.length },
    };
  }

  /** The highest head that counts and that a quorum agrees on: one endpoint's claim about a later block stops nothing. */
  async function firstAccepted(claims: readonly Claim[]): Promise<Head> {
    let refusal: unknown;
    for (const claim of nearHeads(claims, quorum, near)) {
      try {
        return await accept(claim);
      } catch (error) {
        refusal ??= error;
      }
    }
    throw (
      refusal ?? apart(claims.map(({ number, timestamp }) => `block ${number} of ${timestamp}`).join(', '))
    );
  }

  /** Throws unless the head that `claim` leads to may follow what was accepted before. */
  async function accept(claim: Claim): Promise<Head> {
    const confirmed = Math.max(0, claim.number - depth);
    const head = await (confirmed < lowest() ? sameAgain(confirmed) : block(confirmed));
    // The claimed time of the newest block may be a lie; the agreed one is not.
    if (depth === 0 && head.timestamp + near.seconds < claim.timestamp) {
      throw apart(`block ${head.number} is of ${head.timestamp}, the endpoints claim ${claim.timestamp}`);
    }
    // Another read may have got further in the meantime.
    if (accepted === undefined || head.number >= accepted.number) accepted = head;
    clock.accept(Math.max(head.timestamp, claim.timestamp));
    return accepted;
  }

  /** Endpoints a few blocks apart are no reason to go back, nor to stop while a quorum has the block. */
  async function sameAgain(confirmed: number): Promise<Head> {
    const number = lowest();
    try {
      if (number - confirmed <= near.blocks) return await block(number);
    } catch {}
    throw new DstackError(
      'CHAIN_BEHIND',
      `the endpoints show block ${confirmed} as their newest, this node has seen block ${number}; it waits until they have it again`,
    );
  }

  function apart(how: string): DstackError {
    return new DstackError(
      'CHAIN_HEADS_APART',
      `no ${quorum} of ${endpoints.length} endpoints are within ${near.blocks} blocks and ${near.seconds} s of each other: ${how}`,
    );
  }

  return {
    chainId,
    block,
    async head() {
      const claimsOf = (headers: readonly Static<typeof HeaderSchema>[]) =>
        headers.map(({ number, timestamp }) => ({ number: Number(number), timestamp: Number(timestamp) }));
      const headers = await ask(
        HeaderSchema,
        'eth_getBlockByNumber',
        [tag, false],
        (some) => nearHeads(claimsOf(some), quorum, near).length > 0,
      );
      const head = await firstAccepted(claimsOf(headers));
      clock.now();
      return head;
    },
    async call(to, data, at) {
      const answers = await ask(DataSchema, 'eth_call', [{ to, data }, { blockHash: at.hash }], isAgreed);
      return agreed(answers, `a call to ${to} at block ${at.number}`).answer;
    },
    now: () => clock.now(),
    reached() {
      const reading = clock.reading();
      if (reading === undefined) throw new DstackError('CHAIN_STALE', 'no block has been accepted yet');
      return { block: lowest(), ...reading };
    },
  };
}
