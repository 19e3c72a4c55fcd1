/**
 * The one place that spends gas: the nonce manager of one account on one chain, over a durable queue.
 *
 * - A purpose has at most one mined transaction: a signed transaction is stored before it is sent, and is sent again from
 *   the store. What replaces it has the same nonce, so only one of them can be mined.
 * - One transaction is in flight at a time; the next gets its nonce when that one is in a block. A host needs two for a
 *   join, so pipelining would buy nothing and cost nonce gaps.
 * - Gas is estimated first. What would revert is not sent: the contract's own error is reported instead.
 * - What is not mined in time is replaced at a higher fee, up to a ceiling.
 * - What a re-org drops is sent again unchanged, however deep: a transaction of ours whose nonce the chain has not reached is
 *   not on it. Nonces that nobody uses (because someone else's transaction with this key was dropped) are filled.
 * - A new nonce is signed only when another transaction has taken the old one, for so many blocks that it will stay.
 */

import { RpcRefusal } from '../../chain/json-rpc.ts';
import { type RpcErrorKind, shown } from '../../chain/rpc-errors.ts';
import type { Log } from '../../daemon/log.ts';
import type { Metrics } from '../../daemon/metrics.ts';
import { codeOf, Retryable } from '../../protocol/errors.ts';
import { type Address, addressKey } from '../../protocol/hex.ts';
import type { Rpc } from '../endpoint/rpc.ts';
import type { TransactionRequest } from '../handler.ts';
import { Rounds } from '../rounds.ts';
import type { Store } from '../store.ts';
import { BalanceWatch } from './balance.ts';
import { type Fees, firstFees, replacementFees } from './fees.ts';
import { fillerOf, kindOf } from './purpose.ts';
import { type Attempt, type Entry, MAX_ATTEMPTS, Queue } from './queue.ts';
import { Signer } from './signer.ts';
import { Spending } from './spent.ts';

export type TransactionState = Entry['state'];

/** A transaction as others see it. `code` and `message` say why it waits or failed. */
export interface TransactionStatus {
  purpose: string;
  state: TransactionState;
  hash: string | undefined;
  code: string | undefined;
  message: string | undefined;
  /** What the endpoint said when it last did not accept it, in its own words; `at` in Unix milliseconds. */
  broadcastError?: { code: string; message: string; at: number } | undefined;
}

export interface TransactionsOptions {
  store: Store;
  rpc: Rpc;
  chainId: number;
  /** 32 bytes, 0x-prefixed. Kept in memory only, never logged. */
  privateKey: string;
  log: Log;
  metrics: Metrics;
  /** Wei per gas; nothing is ever sent above it. */
  maxFee: bigint;
  /** Milliseconds without being mined after which the fee is raised. */
  bumpAfter: number;
  /** Blocks on top of a transaction's after which it counts as final here. */
  confirmations: number;
  /** Wei; below it the operator is warned. */
  lowBalance: bigint;
  pollInterval: number;
  /** What an estimate may come to; 1,000,000 by default. */
  maxGas?: bigint;
  /** The name of the setting that is `maxFee`, for the operator. */
  maxFeeSetting?: string;
  /** What a contract reverted with, in words; undefined for what is not known. */
  errorInWords?: (data: string) => string | undefined;
  now?: () => number;
}

const MAX_OPEN = 1000;
/** Estimates that revert before the purpose counts as failed; and polls after which it is looked at again even then. */
const MAX_TRIES = 5;
const FAILED_POLLS = 60;
/** Polls after which a final transaction whose effect its submitter misses is looked for again. */
const RECHECK_POLLS = 20;
/** Polls between looks at the chain while the only thing to do is to notice a re-org: when there may have been one, and else. */
const BREAK_POLLS = 10;
const IDLE_POLLS = 60;
const RESEND_AFTER_MS = 15_000;
/** Polls between looks at the chain while it has no newer block, and nothing is to be sent. */
const SAME_HEAD_POLLS = 5;
/** Polls between looks at the market or the balance while either holds a transaction back. */
const WAIT_POLLS = 15;
/**
 * Blocks, beyond the confirmations, for which something odd about our nonces must last before it is acted on: the endpoint
 * may lag, and a re-org may yet undo it.
 */
const BELIEVE_AFTER_BLOCKS = 8;
/** A wider gap is an endpoint's lie about our nonce: it is not filled; transactions are signed again below it. */
const MAX_FILL = 8;
/** Dropped transactions that are taken up again in one round. */
const MAX_REOPEN = 16;
const FILL_GAS = 21_000n;
/** Waiting transactions that are looked at in one round. */
const MAX_TRIED = 8;
/** Refusals of a transaction that no endpoint ever accepted, before others have their turn. */
const MAX_REFUSALS = 5;

/** Codes of the reasons why an endpoint refuses a transaction; any other is TX_NOT_SENT. */
const REFUSALS: Partial<Record<RpcErrorKind, string>> = {
  'no-funds': 'TX_NO_FUNDS',
  'type-unsupported': 'TX_TYPE_UNSUPPORTED',
  'fee-too-low': 'TX_FEE_TOO_LOW',
  'replacement-underpriced': 'TX_FEE_TOO_LOW',
  'fee-too-high': 'TX_FEE_TOO_HIGH',
  'gas-too-low': 'TX_GAS',
  'nonce-too-low': 'TX_NONCE',
  'nonce-too-high': 'TX_NONCE',
};
/** Refusals that are about the transaction itself, so that sending it again unchanged may not help. */
const FOR_WHAT_IT_IS: readonly RpcErrorKind[] = [
  'unknown',
  'no-funds',
  'type-unsupported',
  'fee-too-high',
  'gas-too-low',
];
/** After these there is no point in going on with other entries. */
const ENDS_THE_ROUND: readonly string[] = ['RPC_RATE_LIMITED', 'RPC_WRONG_CHAIN'];

export class Transactions {
  readonly address: Address;
  readonly balance: BalanceWatch;
  readonly spending = new Spending();
  readonly #options: Required<TransactionsOptions>;
  readonly #signer: Signer;
  readonly #queue: Queue;
  readonly #rounds = new Rounds(() => this.#round());
  /** A missing nonce and the head when it was first missed. */
  #gap: { nonce: number; since: number } | undefined;
  #lookedAt = 0;
  /** The newest block then; empty when something failed. */
  #lookedAtHead = '';
  /** Of the chain's heads, when it was last looked at: another number may be a re-organisation. */
  #breaks = 0;
  #problem = '';
  /** The endpoint has refused an EIP-1559 transaction for its type. */
  #legacy = false;

  /** @throws GAS_KEY when the key is not a private key */
  constructor(options: TransactionsOptions) {
    this.#options = {
      now: Date.now,
      maxGas: 1_000_000n,
      maxFeeSetting: 'maxFee',
      errorInWords: () => undefined,
      ...options,
    };
    this.#signer = new Signer(options.privateKey, options.chainId);
    this.address = this.#signer.address;
    this.#queue = new Queue(options.store, options.chainId, this.address, (purpose, reason) =>
      options.log.warn(
        { purpose, code: 'STORE_CORRUPT' },
        `a transaction is set aside, others go on: ${reason}`,
      ),
    );
    const metrics = options.metrics.of({
      account: addressKey(this.address),
      chain: String(options.chainId),
    });
    this.#options.metrics = metrics;
    this.balance = new BalanceWatch({ ...this.#options, address: this.address });
  }

  start(): void {
    this.#rounds.start();
  }

  async stop(): Promise<void> {
    await this.#rounds.stop();
  }

  /**
   * Durable when it returns. A purpose that is in progress is left alone. Submitting a finished one says that its effect is
   * missing: then the transaction is looked for again, and sent again if a re-org dropped it.
   * @throws TX_QUEUE_FULL, STORE_VALUE when the request is malformed
   */
  submit(request: TransactionRequest): void {
    const known = this.#queue.get(request.purpose);
    if (known !== undefined) {
      this.#submitAgain(known);
      return;
    }
    if (this.#queue.count() >= MAX_OPEN) {
      throw new Retryable(
        'TX_QUEUE_FULL',
        `${MAX_OPEN} transactions wait already; is the chain endpoint working?`,
      );
    }
    this.#queue.add(request);
    this.#options.log.info({ purpose: request.purpose }, `transaction queued: ${kindOf(request.purpose)}`);
    this.#rounds.wake();
  }

  status(purpose: string): TransactionStatus | undefined {
    const entry = this.#queue.get(purpose);
    return entry === undefined ? undefined : statusOf(entry);
  }

  /** Why there is no progress at present, if there is none. */
  problem(): string | undefined {
    return this.#problem === '' ? undefined : this.#problem;
  }

  /** Everything that is neither final nor failed. */
  open(): TransactionStatus[] {
    return this.#queue.open().map(statusOf);
  }

  #submitAgain(entry: Entry): void {
    const { now, pollInterval } = this.#options;
    const rested = (polls: number) => now() - (entry.closedAt ?? 0) >= polls * pollInterval;
    const { closedAt: _, ...rest } = entry;
    if (entry.hash !== undefined && (entry.state === 'final' || entry.state === 'failed')) {
      if (rested(RECHECK_POLLS)) this.#queue.reopen({ ...rest, state: 'mined' });
    } else if (entry.state === 'failed' && rested(FAILED_POLLS)) {
      // Nothing was mined for it: the reason why the contract or the endpoint refused it may be gone.
      this.#queue.reopen({ ...rest, state: 'queued', tries: 0, notBefore: 0 });
    }
  }

  async #round(): Promise<number> {
    try {
      await this.#step();
      this.#problem = '';
    } catch (error) {
      this.#lookedAtHead = '';
      const problem = `${codeOf(error)}: ${(error as Error).message}`;
      if (problem !== this.#problem)
        this.#options.log.warn({ code: codeOf(error) }, `transactions wait: ${problem}`);
      this.#problem = problem;
    }
    return this.#options.pollInterval;
  }

  async #step(): Promise<void> {
    const { rpc, metrics, now, pollInterval } = this.#options;
    await this.balance.look();
    const { breaks } = rpc.heads;
    const polls = breaks === this.#breaks ? IDLE_POLLS : BREAK_POLLS;
    if (this.#queue.count() === 0 && now() - this.#lookedAt < polls * pollInterval) return;
    const head = await rpc.head();
    if (head.hash === this.#lookedAtHead && !this.#isDue()) return;
    [this.#lookedAt, this.#lookedAtHead, this.#breaks] = [now(), head.hash, breaks];
    const chain = { head: head.number, nonce: await rpc.nonce(this.address) };
    this.#takeUpDropped(chain.nonce);
    for (const entry of this.#queue.open()) {
      if (entry.state === 'sent') await this.#alone(entry, () => this.#follow(entry, chain));
      else if (entry.state === 'mined') await this.#alone(entry, () => this.#confirm(entry, chain.head));
    }
    await this.#closeGap(chain);
    const open = this.#queue.open();
    metrics.gauge('dstack_relay_transactions_open', 'Transactions not final yet.', open.length);
    if (open.some((entry) => entry.state === 'sent')) return;
    const due = open.filter((entry) => isWaiting(entry, now()));
    for (const entry of due.slice(0, MAX_TRIED)) {
      let goOn = true;
      const well = await this.#alone(entry, async () => {
        goOn = await this.#send(entry, chain.nonce);
      });
      if (!well) this.#putBack(this.#queue.get(entry.purpose) ?? entry);
      if (!goOn) return;
    }
  }

  /** Whether there is something to do although the chain has not gone on: an endpoint may show late what is in its newest block. */
  #isDue(): boolean {
    const { now, pollInterval } = this.#options;
    if (now() - this.#lookedAt >= SAME_HEAD_POLLS * pollInterval) return true;
    const open = this.#queue.open();
    return open.every(({ state }) => state !== 'sent') && open.some((entry) => isWaiting(entry, now()));
  }

  /**
   * An error with one entry is reported for that entry, and holds no other back.
   * @returns whether there was none
   */
  async #alone(entry: Entry, step: () => Promise<void>): Promise<boolean> {
    const code = 'TX_ENDPOINT';
    try {
      await step();
    } catch (error) {
      this.#lookedAtHead = '';
      if (!(error instanceof Retryable) || ENDS_THE_ROUND.includes(error.code)) throw error;
      const current = this.#queue.get(entry.purpose) ?? entry;
      const message = `${error.code}: ${shown(error.message, 400)}`;
      this.#tell(current, code, message);
      if (current.code !== code || current.message !== message)
        this.#queue.put({ ...current, code, message });
      return false;
    }
    const current = this.#queue.get(entry.purpose);
    if (current?.code === code && current.state !== 'queued') {
      const { code: _, message: __, ...rest } = current;
      this.#queue.put(rest);
    }
    return true;
  }

  /** Entries that were finished and, by their nonce, are no longer on the chain. */
  #takeUpDropped(chainNonce: number): void {
    for (const { nonce, entry } of this.#queue.ownersFrom(chainNonce, MAX_REOPEN)) {
      if (entry.state !== 'final' && entry.state !== 'failed') continue;
      this.#sendAgain({ ...entry, nonce });
    }
  }

  /** Has its signed form sent again in this round. */
  #sendAgain(entry: Entry): void {
    this.#options.log.warn({ purpose: entry.purpose }, 'the chain was re-organised: sending it again');
    const { hash: _, block: __, code: ___, message: ____, closedAt: _____, ...rest } = entry;
    this.#queue.reopen({ ...rest, state: 'sent', sentAgainAt: 0, waitsSince: this.#options.now() });
  }

  /**
   * Estimates, prices, signs, stores, then sends.
   * @returns whether another entry may still have its turn
   */
  async #send(entry: Entry, chainNonce: number): Promise<boolean> {
    if (entry.attempts.length > 0 && (await this.#findMined(entry))) return true;
    const { rpc, maxFee } = this.#options;
    const from = this.address;
    let gas: bigint;
    try {
      gas = ((await rpc.estimateGas({ from, to: entry.to, data: entry.data })) * 5n) / 4n;
    } catch (error) {
      if (!(error instanceof RpcRefusal)) throw error;
      return this.#refused(entry, error);
    }
    const { maxGas } = this.#options;
    if (gas > maxGas) {
      const why = `it is estimated to take ${gas} gas, more than ${maxGas}: the endpoint or the contract is wrong`;
      this.#fail(entry, 'TX_GAS', why);
      return true;
    }
    const fees = await firstFees(rpc, maxFee, this.#legacy);
    if (fees === undefined) {
      const why = `the chain's fee is above the ceiling of ${maxFee} wei (${this.#options.maxFeeSetting})`;
      this.#wait(entry, 'TX_FEE_CEILING', why);
      return false;
    }
    if ((await rpc.balance(from)) < gas * fees.maxFee) {
      const why = `${from} has too little for ${gas} gas at ${fees.maxFee} wei: send it some`;
      this.#wait(entry, 'TX_NO_FUNDS', why);
      return false;
    }
    await this.#sendAttempt({ ...entry, gas: String(gas) }, this.#queue.nextNonce(chainNonce), fees);
    return false;
  }

  /** Stores a signed attempt before the network can see it. */
  async #sendAttempt(entry: Entry, nonce: number, fees: Fees): Promise<void> {
    const { now, metrics, log } = this.#options;
    const signed = this.#signer.sign({
      nonce,
      to: entry.to,
      data: entry.data,
      gas: BigInt(entry.gas!),
      fees,
    });
    const prices = {
      maxFee: String(fees.maxFee),
      tip: String(fees.tip),
      ...(fees.legacy && { legacy: true }),
    };
    const attempt: Attempt = { ...signed, nonce, ...prices, at: now() } as Attempt;
    const { lostSince: _, code: __, message: ___, ...rest } = entry;
    const attempts = [...entry.attempts, attempt].slice(-MAX_ATTEMPTS);
    this.#queue.putSigned(
      { ...rest, state: 'sent', nonce, attempts, sentAgainAt: now(), waitsSince: now() },
      nonce,
    );
    metrics.count('dstack_relay_transactions_sent_total', 'Signed transactions, replacements included.', {
      kind: kindOf(entry.purpose),
    });
    log.info(
      { purpose: entry.purpose, hash: attempt.hash, nonce, maxFee: attempt.maxFee },
      entry.nonce === nonce
        ? `raising the fee of ${kindOf(entry.purpose)}`
        : `sending ${kindOf(entry.purpose)}`,
    );
    await this.#broadcast(attempt.raw, entry.purpose, attempt);
  }

  /** @param attempt the entry's attempt that is sent; without it the endpoint's answer says nothing about the entry */
  async #broadcast(raw: string, purpose: string, attempt?: Attempt): Promise<void> {
    try {
      await this.#options.rpc.send(raw);
    } catch (error) {
      if (!(error instanceof RpcRefusal && error.kind === 'already-known')) {
        this.#notTaken(purpose, error as Error, attempt);
        return;
      }
    }
    const entry = attempt && this.#queue.get(purpose);
    if (entry === undefined || (entry.taken && entry.refusal === undefined)) return;
    const { refusal: _, refusals: __, ...rest } = entry;
    this.#queue.put({ ...rest, taken: true });
  }

  /** It will be tried again; meanwhile the operator can read why the endpoint refuses it. */
  #notTaken(purpose: string, error: Error, attempt: Attempt | undefined): void {
    const { log, now, metrics } = this.#options;
    const kind = error instanceof RpcRefusal ? error.kind : undefined;
    const code = kind === undefined ? codeOf(error) : (REFUSALS[kind] ?? 'TX_NOT_SENT');
    const message = shown(error instanceof RpcRefusal ? error.reason : error.message);
    metrics.count('dstack_relay_broadcasts_refused_total', 'Transactions that the endpoint did not take.', {
      code,
    });
    const entry = attempt && this.#queue.get(purpose);
    if (entry?.refusal?.code !== code || entry.refusal.message !== message) {
      log.warn({ purpose, code }, `not sent yet: ${message}`);
    }
    if (kind === 'type-unsupported' && !attempt?.legacy) this.#legacy = true;
    if (entry === undefined) return;
    const counts = kind !== undefined && FOR_WHAT_IT_IS.includes(kind) && !entry.taken;
    this.#queue.put({
      ...entry,
      refusal: { code, message, at: now() },
      ...(counts && { refusals: (entry.refusals ?? 0) + 1 }),
    });
  }

  /** A sent transaction: mined? gone? to be sent again, or at a higher fee? */
  async #follow(entry: Entry, chain: { head: number; nonce: number }): Promise<void> {
    const { rpc, now, bumpAfter, maxFee } = this.#options;
    if (await this.#findMined(entry)) return;
    if (chain.nonce > entry.nonce!) {
      this.#lost(entry, chain.head);
      return;
    }
    const { lostSince, ...current } = entry;
    if (lostSince !== undefined) this.#queue.put(current);
    const last = entry.attempts.findLast((attempt) => attempt.nonce === entry.nonce)!;
    if (this.#legacy && !last.legacy && !entry.taken) {
      const fees = await firstFees(rpc, maxFee, true);
      if (fees !== undefined) {
        await this.#sendAttempt(current, entry.nonce!, fees);
        return;
      }
    }
    if ((entry.refusals ?? 0) >= MAX_REFUSALS && this.#othersWait()) {
      this.#letOthersPass(current);
      return;
    }
    if (now() - (entry.waitsSince ?? last.at) >= bumpAfter && entry.attempts.length < MAX_ATTEMPTS) {
      const previous = { maxFee: BigInt(last.maxFee), tip: BigInt(last.tip) };
      const fees = await replacementFees(rpc, maxFee, previous, this.#legacy);
      if (fees !== undefined) {
        await this.#sendAttempt(current, entry.nonce!, fees);
        return;
      }
      const why = `it was sent at ${last.maxFee} wei a gas; the ceiling of ${maxFee} wei (${this.#options.maxFeeSetting}) forbids more`;
      this.#tell(entry, 'TX_FEE_CEILING', why);
      Object.assign(current, { code: 'TX_FEE_CEILING', message: why });
    }
    if (now() - (entry.sentAgainAt ?? 0) >= Math.min(RESEND_AFTER_MS, bumpAfter)) {
      this.#queue.put({ ...current, sentAgainAt: now() });
      await this.#broadcast(last.raw, entry.purpose, last);
    }
  }

  #othersWait(): boolean {
    const { now } = this.#options;
    return this.#queue.open().some((entry) => isWaiting(entry, now()));
  }

  /**
   * No endpoint ever accepted it, so its nonce is free for the next in line. Should it be mined all the same, the next one
   * finds its nonce gone and takes another, and this one is found by its hash before it is signed again.
   */
  #letOthersPass(entry: Entry): void {
    const { nonce, gas: _, refusals: __, refusal, ...rest } = entry;
    if (entry.purpose === fillerOf(nonce!)) return;
    const code = 'TX_REFUSED';
    const message = refusal === undefined ? 'no endpoint takes it' : `${refusal.code}: ${refusal.message}`;
    this.#tell(entry, code, message);
    this.#queue.putWithoutNonce({ ...rest, refusal, state: 'queued', code, message } as Entry, nonce!);
    this.#putBack(this.#queue.get(entry.purpose)!);
  }

  /** Moves it behind all others; it is not tried again at once. */
  #putBack(entry: Entry): void {
    const { now, pollInterval } = this.#options;
    this.#queue.putBack({ ...entry, notBefore: now() + Math.min(15_000, WAIT_POLLS * pollInterval) });
  }

  /** Whether one of its attempts (newest first) is in a block; if so, that is stored. */
  async #findMined(entry: Entry): Promise<boolean> {
    const { rpc, log, metrics } = this.#options;
    for (const attempt of entry.attempts.toReversed()) {
      const receipt = await rpc.receipt(attempt.hash);
      if (receipt === undefined) continue;
      const kind = kindOf(entry.purpose);
      const gas = Number(receipt.gasUsed);
      metrics.count('dstack_relay_gas_used_total', 'Gas of mined transactions.', { kind }, gas);
      this.spending.add(kind, gas, receipt.price);
      const { hash, nonce } = attempt;
      const { lostSince: _, code: __, message: ___, refusal: ____, refusals: _____, ...rest } = entry;
      const found: Entry = { ...rest, nonce, hash, block: receipt.block };
      if (!receipt.succeeded) {
        this.#fail(found, 'TX_REVERTED', `it was mined in block ${receipt.block} and reverted`);
        return true;
      }
      this.#queue.put({ ...found, state: 'mined' });
      log.info({ purpose: entry.purpose, hash, block: receipt.block, gas }, `${kind} is mined`);
      return true;
    }
    return false;
  }

  /** The nonce is used, but not by us as far as the endpoint knows. The endpoint may lag, so this is believed only if it lasts. */
  #lost(entry: Entry, head: number): void {
    const { log, confirmations, now } = this.#options;
    const since = Math.min(entry.lostSince ?? head, head);
    if (head - since < confirmations + BELIEVE_AFTER_BLOCKS) {
      if (entry.lostSince !== since) this.#queue.put({ ...entry, lostSince: since });
      return;
    }
    const { nonce, gas: _, lostSince: __, ...rest } = entry;
    if (entry.purpose === fillerOf(nonce!)) {
      this.#queue.closeWithoutNonce({ ...entry, state: 'final', attempts: [], closedAt: now() }, nonce!);
      return;
    }
    const why = 'someone else uses the gas key: its nonce is gone; trying another';
    log.warn({ purpose: entry.purpose, nonce }, why);
    this.#queue.putWithoutNonce({ ...rest, state: 'queued', notBefore: 0 }, nonce!);
  }

  async #confirm(entry: Entry, head: number): Promise<void> {
    const { rpc, confirmations, now } = this.#options;
    if (head - entry.block! < confirmations) return;
    const receipt = await rpc.receipt(entry.hash!);
    if (receipt === undefined) {
      this.#sendAgain(entry);
    } else if (receipt.block !== entry.block) {
      this.#queue.put({ ...entry, block: receipt.block });
    } else if (!receipt.succeeded) {
      this.#fail(entry, 'TX_REVERTED', `it was mined in block ${receipt.block} and reverted`);
    } else {
      this.#queue.close({ ...entry, ...settled(entry), state: 'final', closedAt: now() });
    }
  }

  /**
   * A transaction of ours can't be mined while a lower nonce is missing. Dropped ones of ours have been sent again by now, so
   * the missing one was someone else's, or was taken to be, or the endpoint lied about it.
   */
  async #closeGap(chain: { head: number; nonce: number }): Promise<void> {
    const sent = this.#queue.open().filter(({ state }) => state === 'sent');
    const lowest = Math.min(...sent.map(({ nonce }) => nonce!));
    const missing = this.#queue.nextNonce(chain.nonce);
    if (sent.length === 0 || missing >= lowest) {
      this.#gap = undefined;
      return;
    }
    const before = sent.find(({ attempts }) => attempts.some(({ nonce }) => nonce === missing));
    if (before !== undefined) {
      await this.#goBack(before, missing);
      return;
    }
    if (this.#gap?.nonce !== missing || this.#gap.since > chain.head) {
      this.#gap = { nonce: missing, since: chain.head };
    }
    const { confirmations, log } = this.#options;
    if (chain.head - this.#gap.since < confirmations + BELIEVE_AFTER_BLOCKS) return;
    this.#gap = undefined;
    if (lowest - missing > MAX_FILL) {
      const why =
        "the endpoint said a nonce far above the chain's: signing again with the one that the chain is waiting for";
      log.warn({ missing, lowest }, why);
      for (const entry of sent) {
        const { nonce, gas: _, ...rest } = entry;
        this.#queue.putWithoutNonce({ ...rest, state: 'queued', notBefore: 0 }, nonce!);
        await this.#cancel(entry, nonce!);
      }
      return;
    }
    const why = 'a transaction of the gas key that is not ours was dropped: filling its nonce';
    log.warn({ nonce: missing }, why);
    await this.#fill(missing);
  }

  /** It was given another nonce because its first one seemed to be used; but the chain is waiting for that first one. */
  async #goBack(entry: Entry, nonce: number): Promise<void> {
    const { now, log } = this.#options;
    log.warn({ purpose: entry.purpose, nonce }, 'its first nonce is free after all: going back to it');
    const given = entry.nonce!;
    this.#queue.putWithoutNonce(entry, given);
    this.#queue.putSigned({ ...entry, nonce, waitsSince: now(), sentAgainAt: 0 }, nonce);
    await this.#cancel(entry, given);
  }

  /** Replaces what was signed with a nonce that is given up, so that the purpose is not carried out twice. */
  async #cancel(entry: Entry, nonce: number): Promise<void> {
    const { rpc, maxFee } = this.#options;
    const last = entry.attempts.findLast((attempt) => attempt.nonce === nonce)!;
    const fees = await replacementFees(
      rpc,
      maxFee,
      { maxFee: BigInt(last.maxFee), tip: BigInt(last.tip) },
      this.#legacy,
    );
    if (fees === undefined) return;
    const { raw } = this.#signer.sign({ nonce, to: this.address, gas: FILL_GAS, fees });
    await this.#broadcast(raw, entry.purpose);
  }

  /** Uses up a nonce, by sending nothing to this account itself. */
  async #fill(nonce: number): Promise<void> {
    const { rpc, maxFee } = this.#options;
    const fees = await firstFees(rpc, maxFee, this.#legacy);
    if (fees === undefined) return;
    const purpose = fillerOf(nonce);
    const entry = this.#queue.get(purpose) ?? this.#queue.add({ purpose, to: this.address, data: '0x' });
    await this.#sendAttempt({ ...entry, gas: String(FILL_GAS) }, nonce, fees);
  }

  /**
   * The estimate was refused. The endpoint may just be behind, so it is asked a few times.
   * @returns whether another entry may have its turn
   */
  #refused(entry: Entry, error: RpcRefusal): boolean {
    const named = error.data === undefined ? undefined : this.#options.errorInWords(error.data);
    if (named === undefined && error.kind === 'no-funds') {
      this.#wait(entry, 'TX_NO_FUNDS', `${this.address} has too little for gas: send it some`);
      return false;
    }
    // A failure of the endpoint itself says nothing about the transaction.
    if (error.data === undefined && error.kind !== 'reverted') throw error;
    const message = (named ?? error.message).slice(0, 500);
    if (entry.tries + 1 >= MAX_TRIES) {
      this.#fail(entry, 'TX_WOULD_REVERT', message);
      return true;
    }
    const notBefore = this.#options.now() + 500 * 2 ** entry.tries;
    this.#tell(entry, 'TX_WOULD_REVERT', message);
    this.#queue.putBack({ ...entry, tries: entry.tries + 1, notBefore, code: 'TX_WOULD_REVERT', message });
    return true;
  }

  #wait(entry: Entry, code: string, message: string): void {
    this.#tell(entry, code, message);
    const { now, pollInterval } = this.#options;
    const notBefore = now() + Math.min(15_000, WAIT_POLLS * pollInterval);
    this.#queue.put({ ...entry, notBefore, code, message: message.slice(0, 500) });
  }

  #tell(entry: Entry, code: string, message: string): void {
    if (entry.code === code && entry.message === message.slice(0, 500)) return;
    this.#options.log.warn({ purpose: entry.purpose, code }, `${kindOf(entry.purpose)} waits: ${message}`);
  }

  #fail(entry: Entry, code: string, message: string): void {
    const { log, metrics, now } = this.#options;
    log.warn({ purpose: entry.purpose, code }, `${kindOf(entry.purpose)} failed: ${message}`);
    metrics.count('dstack_relay_transactions_failed_total', 'Transactions given up.', { code });
    const closed = { code, message: message.slice(0, 500), closedAt: now() };
    this.#queue.close({ ...entry, ...settled(entry), ...closed, state: 'failed' });
  }
}

/** What a finished entry keeps: the signed form, which a re-org may make necessary again. */
function settled({ attempts, hash }: Entry): { attempts: Attempt[] } {
  return { attempts: attempts.filter((attempt) => attempt.hash === hash) };
}

/** Whether it is to be sent now. */
const isWaiting = ({ state, notBefore }: Entry, now: number): boolean =>
  state === 'queued' && notBefore <= now;

const statusOf = (entry: Entry): TransactionStatus => ({
  purpose: entry.purpose,
  state: entry.state,
  hash: entry.hash ?? entry.attempts.at(-1)?.hash,
  code: entry.code,
  message: entry.message,
  broadcastError: entry.refusal,
});
