/**
 * The line of one contract's requests, as its host moves it: the next request's data from the event that has its hash, an answer from the
 * enclave, one transaction that settles it, and so on.
 *
 * What is next is what the contract says, at each look anew. What is stored here only saves asking the enclave, or paying, twice:
 * after a crash, a re-organisation, or with an empty store, the line goes on where the contract is.
 */
import { Type } from 'typebox';
import type { Log } from '../../daemon/log.ts';
import { codeOf, DstackError, messageOf, Retryable } from '../../protocol/errors.ts';
import type { Address, Hex } from '../../protocol/hex.ts';
import { bareHex, sameHex } from '../../protocol/hex.ts';
import { check, Strict, Word0x } from '../../protocol/schema.ts';
import {
  type AppDomain,
  type AppRequest,
  AppRequestSchema,
  type Attested,
  AttestedSchema,
  decodeProgress,
  decodeRequested,
  hashOfRequest,
  kindName,
  PROGRESS_CALL,
  REQUESTED,
  requestHash,
  settleCall,
  settlePurpose,
} from '../app/answer.ts';
import { ANSWER_PATH } from '../app/router.ts';
import type { Enclave } from '../handler.ts';
import { Rounds } from '../rounds.ts';
import { type Store, Table } from '../store.ts';
import { within } from '../within.ts';
import type { ChainClient } from './chain-client.ts';
import { type ContractHandler, firstBlock, type StartBlock } from './host.ts';
import { RequestSearch } from './request-search.ts';

/** What the host adds to a request, out of whatever it can show: proofs, or earlier events. The enclave checks it. */
export type Assemble = (request: AppRequest, chain: ChainClient) => Promise<unknown>;

export interface AppLineOptions {
  contract: Address;
  chain: ChainClient;
  enclave: Enclave;
  store: Store;
  log: Log;
  /** By kind. */
  assemble: Readonly<Record<string, Assemble>>;
  pollInterval: number;
  /** Before which the contract has no requests. */
  startBlock: StartBlock;
}

/** How a line stands. */
export interface LineStatus {
  requested: number | undefined;
  settled: number | undefined;
  /** Why it does not go on. */
  reason: string | undefined;
}

/** Settled requests that are kept: a re-organisation may make one of them the next again. */
const KEPT = 1000;
/** Rows that are looked at for it at once. */
const PAGE = 100;
/** Looks at the chain for which it may not show yet what a transaction in a block has done. */
const PATIENCE = 10;
/** For putting together what goes with a request, milliseconds. */
const ASSEMBLE_MAX_MS = 60_000;
/** The longest pause after what failed, milliseconds; and while nothing answers, as when the enclave is being started again. */
const PAUSE_MAX_MS = 15_000;
const AWAY_PAUSE_MAX_MS = 1_000;

const PendingSchema = Strict({ hash: Word0x, purpose: Type.String({ maxLength: 200 }) });

export class AppLine {
  readonly contract: Address;
  readonly #options: AppLineOptions;
  readonly #domain: AppDomain;
  readonly #requests: Table<typeof AppRequestSchema>;
  /** The one answer that is on its way to the chain. */
  readonly #pending: Table<typeof PendingSchema>;
  readonly #rounds = new Rounds(() => this.#round());
  #status: LineStatus = { requested: undefined, settled: undefined, reason: undefined };
  #failures = 0;
  #looks = 0;
  readonly #search: RequestSearch;
  /** How often the next request was not among those that are kept. */
  #misses = 0;
  readonly #stopping = new AbortController();

  constructor(options: AppLineOptions) {
    this.#options = options;
    this.#domain = { chainId: options.chain.chainId, contract: options.contract };
    this.#requests = new Table(options.store, 'line/request/', AppRequestSchema);
    this.#pending = new Table(options.store, 'line/', PendingSchema);
    this.contract = options.contract;
    this.#search = new RequestSearch(options.chain.logsOf(this.contract), (head) =>
      firstBlock(options.startBlock, this.contract, head),
    );
  }

  /** Keeps each request by its hash: of two of one number, the contract says which is meant. */
  handler(): ContractHandler<AppRequest> {
    return {
      contract: this.contract,
      name: 'requests',
      topic: REQUESTED,
      decode: decodeRequested,
      request: async (request) => {
        this.#requests.put(rowOf(request.sequence, hashOfRequest(request)), request);
        this.#rounds.wake();
        return { kind: 'skip', reason: `request ${request.sequence} is in line` };
      },
      settle: async () => [],
    };
  }

  start(): void {
    this.#rounds.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Retryable('STOPPED', 'the host is being stopped'));
    await this.#rounds.stop();
  }

  status(): LineStatus {
    return this.#status;
  }

  async #round(): Promise<number> {
    const { pollInterval, log, contract } = this.#options;
    try {
      const reason = await this.#step();
      this.#failures = 0;
      this.#status = { ...this.#status, reason };
      return pollInterval;
    } catch (error) {
      const reason = `${codeOf(error)}: ${messageOf(error)}`.slice(0, 500);
      if (reason !== this.#status.reason)
        log.warn({ contract, code: codeOf(error) }, `the line waits, and is tried again: ${reason}`);
      this.#status = { ...this.#status, reason };
      this.#failures += 1;
      const longest = codeOf(error) === 'ENCLAVE_UNREACHABLE' ? AWAY_PAUSE_MAX_MS : PAUSE_MAX_MS;
      return Math.min(longest, pollInterval * 2 ** Math.min(this.#failures, 10));
    }
  }

  /** @returns what it waits for; undefined when nothing is open */
  async #step(): Promise<string | undefined> {
    const { chain, contract, enclave, assemble, log } = this.#options;
    const { requested, settled, next } = decodeProgress(await chain.query(contract, PROGRESS_CALL));
    this.#status = { ...this.#status, requested, settled };
    this.#forget(settled);
    if (settled >= requested) return undefined;
    const sequence = settled + 1;
    if (await this.#isOnItsWay(next)) return `the answer to request ${sequence} is on its way`;
    const request = await this.#requestOf(sequence, next);
    if (request === undefined) return `the event of request ${sequence} is not confirmed yet`;
    const kind = kindName(request.kind) ?? '';
    // Whoever makes a request may have the choice of its kind, and `constructor` is one.
    const assembling = Object.hasOwn(assemble, kind) ? assemble[kind] : undefined;
    const evidence =
      assembling &&
      (await within(
        ASSEMBLE_MAX_MS,
        `assemble for ${kind}`,
        () => assembling(request, chain),
        this.#stopping.signal,
      ));
    const reply = await enclave.request(ANSWER_PATH, {
      request,
      ...(evidence === undefined ? {} : { evidence }),
    });
    const answer: Attested = check(AttestedSchema, reply, 'ENCLAVE_REPLY', "the enclave's answer");
    if (!sameHex(requestHash(answer), next))
      throw new DstackError('ENCLAVE_REPLY', `the enclave answered something else than request ${sequence}`);
    const purpose = settlePurpose(this.#domain, answer);
    await chain.sendTransaction({ purpose, to: contract, data: settleCall(answer) });
    this.#pending.put('pending', { hash: next, purpose });
    this.#looks = 0;
    log.info({ contract, sequence, code: answer.code }, 'answered');
    return `the answer to request ${sequence} is on its way`;
  }

  /** The event loop has it soon after it was made. What has not come so, or can't be read, is looked for. */
  async #requestOf(sequence: number, hash: Hex): Promise<AppRequest | undefined> {
    const row = rowOf(sequence, hash);
    const kept = readable(() => this.#requests.get(row));
    if (kept !== undefined) {
      this.#misses = 0;
      return kept;
    }
    this.#misses += 1;
    if (this.#misses < PATIENCE) return undefined;
    const found = await this.#search.find(hash);
    if (found !== undefined) this.#requests.put(row, found);
    return found;
  }

  /** Whether a transaction that was sent for this request may still settle it. */
  async #isOnItsWay(hash: Hex): Promise<boolean> {
    // What can't be read counts as missing: the enclave is asked once more.
    const pending = readable(() => this.#pending.get('pending'));
    if (pending === undefined || !sameHex(pending.hash, hash)) return false;
    const transaction = await this.#options.chain.transaction(pending.purpose);
    const { state } = transaction ?? { state: 'failed' };
    if (state === 'failed') {
      const { code, message } = transaction ?? {};
      const { contract, log } = this.#options;
      log.warn({ contract, code: code ?? 'TX_UNKNOWN' }, `the enclave is asked again: ${message ?? ''}`);
      return false;
    }
    if (state === 'queued' || state === 'sent') return true;
    // In a block, and the contract does not show it: the endpoint is behind, or the chain is another one now.
    this.#looks += 1;
    return this.#looks < PATIENCE;
  }

  #forget(settled: number): void {
    const before = rowOf(Math.max(0, settled - KEPT), '' as Hex);
    const { sound, spoiled } = this.#requests.sift({ limit: PAGE });
    const old = [...sound, ...spoiled].filter(({ id }) => id < before);
    if (old.length > 0) this.#options.store.batch(old.map(({ id }) => this.#requests.deleting(id)));
  }
}

/** Undefined also for what is spoiled. */
function readable<T>(read: () => T | undefined): T | undefined {
  try {
    return read();
  } catch (error) {
    if (codeOf(error) !== 'STORE_CORRUPT') throw error;
    return undefined;
  }
}

/** Sixteen digits, so that the store's order is that of the numbers. */
const rowOf = (sequence: number, hash: Hex): string =>
  `${String(sequence).padStart(16, '0')}/${hash === '' ? '' : bareHex(hash)}`;
