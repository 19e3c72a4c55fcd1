/**
 * The one place that spends gas: a durable queue and the nonce manager of the host's key.
 *
 * - A purpose has at most one transaction, ever: a signed transaction is stored before it is sent, and is sent again
 *   from the store. What replaces it has the same nonce, so only one of them can be mined.
 * - One transaction is in flight at a time; the next gets its nonce when that one is in a block. A host needs two for a
 *   join, so pipelining would buy nothing and cost nonce gaps.
 * - Gas is estimated first. What would revert is not sent: the contract's own error is reported instead.
 * - What is not mined in time is replaced at a higher fee, up to a ceiling.
 * - A transaction stays watched until it is `confirmations` deep; if a re-org drops it, it is sent again.
 */
import { computeAddress, SigningKey, Transaction } from 'ethers';
import { type Static, Type } from 'typebox';
import type { TransactionRequest } from '../../lib/framework/handler.ts';
import { RpcRefusal } from '../../lib/framework/json-rpc.ts';
import { Rounds } from '../../lib/framework/rounds.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { describeNetworkError, parseNetworkError } from '../../lib/protocol/network-contract.ts';
import { Count, Strict, Word0x } from '../../lib/protocol/schema.ts';
import type { Metrics } from './metrics.ts';
import type { Rpc } from './rpc.ts';

const Wei = Type.String({ pattern: '^[0-9]{1,30}$', maxLength: 30 });

const AttemptSchema = Strict({
  hash: Word0x,
  /** The signed transaction, to be sent again as it is. */
  raw: Type.String({ maxLength: 64 * 1024 }),
  maxFee: Wei,
  tip: Wei,
  at: Count,
});

const EntrySchema = Strict({
  purpose: Type.String({ maxLength: 200 }),
  to: Type.String({ maxLength: 42 }),
  data: Type.String({ maxLength: 32 * 1024 }),
  order: Count,
  state: Type.Union([
    /** Waits for its turn, for gas money, or for an estimate that does not revert. */
    Type.Literal('queued'),
    /** Signed, stored, and sent or about to be. */
    Type.Literal('sent'),
    /** In a block, not yet deep enough. */
    Type.Literal('mined'),
    Type.Literal('final'),
    /** Never sent because it would revert, or reverted. */
    Type.Literal('failed'),
  ]),
  tries: Count,
  notBefore: Count,
  nonce: Type.Optional(Count),
  gas: Type.Optional(Wei),
  attempts: Type.Array(AttemptSchema, { maxItems: 64 }),
  /** The hash that was mined. */
  hash: Type.Optional(Word0x),
  block: Type.Optional(Count),
  sentAgainAt: Type.Optional(Count),
  lostSince: Type.Optional(Count),
  code: Type.Optional(Type.String({ maxLength: 64 })),
  message: Type.Optional(Type.String({ maxLength: 500 })),
});
type Entry = Static<typeof EntrySchema>;
const EmptySchema = Strict({});
const OrderSchema = Strict({ order: Count });

export type TransactionState = Entry['state'];

/** A transaction as others see it. `code` and `message` say why it waits or failed. */
export interface TransactionStatus {
  purpose: string;
  state: TransactionState;
  hash: string | undefined;
  code: string | undefined;
  message: string | undefined;
}

export interface TransactionsLog {
  info(fields: object, msg: string): void;
  warn(fields: object, msg: string): void;
}

export interface TransactionsOptions {
  store: Store;
  rpc: Rpc;
  chainId: number;
  /** 32 bytes, 0x-prefixed. Kept in memory only, never logged. */
  privateKey: string;
  log: TransactionsLog;
  metrics: Metrics;
  /** Wei per gas; nothing is ever sent above it. */
  maxFee: bigint;
  /** Milliseconds without being mined until the fee is raised. */
  bumpAfter: number;
  /** Blocks on top of a transaction until it is no longer watched. */
  confirmations: number;
  /** Wei; below it the operator is warned. */
  lowBalance: bigint;
  pollInterval: number;
  now?: () => number;
}

const MAX_OPEN = 1000;
const MAX_GAS = 1_000_000n;
const MAX_TRIES = 5;
const RESEND_AFTER_MS = 15_000;
/** A nonce that is used up while none of our hashes has a receipt: after so long, someone else used the key. */
const LOST_AFTER_MS = 120_000;
const BALANCE_EVERY_MS = 60_000;
const WAIT_FOR_MONEY_MS = 15_000;

export class Transactions {
  readonly address: string;
  readonly #options: Required<TransactionsOptions>;
  readonly #key: SigningKey;
  readonly #entries: Table<typeof EntrySchema>;
  /** Purposes that are not final yet. */
  readonly #open: Table<typeof EmptySchema>;
  readonly #orders: Table<typeof OrderSchema>;
  readonly #rounds = new Rounds(() => this.#round());
  #balanceAt = 0;
  #problem = '';

  /** @throws GAS_KEY when the key is not one */
  constructor(options: TransactionsOptions) {
    this.#options = { now: Date.now, ...options };
    try {
      this.#key = new SigningKey(options.privateKey);
      this.address = computeAddress(this.#key);
    } catch {
      // The cause would quote the key.
      throw new DstackError('GAS_KEY', 'the gas key is not a secp256k1 private key of 32 bytes');
    }
    this.#entries = new Table(options.store, 'tx/entry/', EntrySchema);
    this.#open = new Table(options.store, 'tx/open/', EmptySchema);
    this.#orders = new Table(options.store, 'tx/', OrderSchema);
  }

  start(): void {
    this.#rounds.start();
  }

  async stop(): Promise<void> {
    await this.#rounds.stop();
  }

  /**
   * Durable when it returns. A purpose that was ever submitted is left as it is.
   * @throws TX_QUEUE_FULL
   */
  submit(request: TransactionRequest): void {
    if (this.#entries.get(request.purpose) !== undefined) return;
    if (this.#open.count() >= MAX_OPEN) {
      throw new DstackError(
        'TX_QUEUE_FULL',
        `${MAX_OPEN} transactions wait already; is the chain endpoint working?`,
      );
    }
    const order = (this.#orders.get('order')?.order ?? 0) + 1;
    const entry: Entry = { ...request, order, state: 'queued', tries: 0, notBefore: 0, attempts: [] };
    this.#options.store.batch([
      this.#entries.putting(request.purpose, entry),
      this.#open.putting(request.purpose, {}),
      this.#orders.putting('order', { order }),
    ]);
    this.#options.log.info({ purpose: request.purpose }, `transaction queued: ${kindOf(request.purpose)}`);
    this.#rounds.wake();
  }

  status(purpose: string): TransactionStatus | undefined {
    const entry = this.#entries.get(purpose);
    return entry === undefined ? undefined : statusOf(entry);
  }

  /** Everything that is not final. */
  open(): TransactionStatus[] {
    return this.#pending().map(statusOf);
  }

  async #round(): Promise<number> {
    try {
      await this.#step();
      this.#problem = '';
    } catch (error) {
      const problem = `${codeOf(error)}: ${(error as Error).message}`;
      if (problem !== this.#problem)
        this.#options.log.warn({ code: codeOf(error) }, `transactions wait: ${problem}`);
      this.#problem = problem;
    }
    return this.#options.pollInterval;
  }

  async #step(): Promise<void> {
    await this.#checkBalance();
    for (const entry of this.#pending()) {
      if (entry.state === 'sent') await this.#follow(entry);
      else if (entry.state === 'mined') await this.#confirm(entry);
    }
    const open = this.#pending();
    this.#options.metrics.gauge('dstack_relay_transactions_open', 'Transactions not final yet.', open.length);
    if (open.some((entry) => entry.state === 'sent')) return;
    const next = open.find((entry) => entry.state === 'queued' && entry.notBefore <= this.#options.now());
    if (next !== undefined) await this.#send(next);
  }

  /** Estimates, prices, signs, stores, then sends. */
  async #send(entry: Entry): Promise<void> {
    const { rpc } = this.#options;
    const from = this.address;
    let gas: bigint;
    try {
      gas = ((await rpc.estimateGas({ from, to: entry.to, data: entry.data })) * 5n) / 4n;
    } catch (error) {
      if (!(error instanceof RpcRefusal)) throw error;
      this.#refused(entry, error);
      return;
    }
    if (gas > MAX_GAS) {
      this.#fail(
        entry,
        'TX_GAS',
        `it is estimated to take ${gas} gas, more than ${MAX_GAS}: the endpoint or the contract is wrong`,
      );
      return;
    }
    const fees = await this.#fees();
    if (fees === undefined) {
      this.#wait(
        entry,
        'TX_FEE_CEILING',
        `the base fee is above the ceiling of ${this.#options.maxFee} wei (DSTACK_MAX_FEE_GWEI)`,
      );
      return;
    }
    if ((await rpc.balance(from)) < gas * fees.maxFee) {
      this.#wait(
        entry,
        'TX_NO_FUNDS',
        `${from} has too little for ${gas} gas at ${fees.maxFee} wei: send it some`,
      );
      return;
    }
    const used = this.#pending().flatMap(({ nonce }) => (nonce === undefined ? [] : [nonce + 1]));
    const nonce = Math.max(await rpc.nonce(from), ...used);
    await this.#sendAttempt({ ...entry, nonce, gas: String(gas) }, fees);
  }

  /** Stores a signed attempt before the network can see it. */
  async #sendAttempt(entry: Entry, fees: Fees): Promise<void> {
    const transaction = Transaction.from({
      type: 2,
      chainId: this.#options.chainId,
      nonce: entry.nonce!,
      to: entry.to,
      data: entry.data,
      gasLimit: BigInt(entry.gas!),
      maxFeePerGas: fees.maxFee,
      maxPriorityFeePerGas: fees.tip,
    });
    transaction.signature = this.#key.sign(transaction.unsignedHash);
    const attempt = {
      hash: transaction.hash!,
      raw: transaction.serialized,
      maxFee: String(fees.maxFee),
      tip: String(fees.tip),
      at: this.#options.now(),
    };
    const { lostSince: _, code: __, message: ___, ...rest } = entry;
    const stored: Entry = {
      ...rest,
      state: 'sent',
      attempts: [...entry.attempts, attempt],
      sentAgainAt: this.#options.now(),
    };
    this.#entries.put(entry.purpose, stored);
    this.#options.metrics.count(
      'dstack_relay_transactions_sent_total',
      'Signed transactions, replacements included.',
      {
        kind: kindOf(entry.purpose),
      },
    );
    this.#options.log.info(
      { purpose: entry.purpose, hash: attempt.hash, nonce: entry.nonce, maxFee: attempt.maxFee },
      entry.attempts.length === 0
        ? `sending ${kindOf(entry.purpose)}`
        : `raising the fee of ${kindOf(entry.purpose)}`,
    );
    await this.#broadcast(attempt.raw, entry.purpose);
  }

  async #broadcast(raw: string, purpose: string): Promise<void> {
    try {
      await this.#options.rpc.send(raw);
    } catch (error) {
      // Known already, or mined meanwhile: the receipt will tell. Anything else is tried again.
      if (error instanceof RpcRefusal && /known|nonce too low/i.test(error.reason)) return;
      this.#options.log.warn({ purpose, code: codeOf(error) }, `not sent yet: ${(error as Error).message}`);
    }
  }

  /** A sent transaction: mined? gone? to be sent again, or at a higher fee? */
  async #follow(entry: Entry): Promise<void> {
    const { rpc, now, bumpAfter, log, metrics } = this.#options;
    for (const attempt of entry.attempts) {
      const receipt = await rpc.receipt(attempt.hash);
      if (receipt === undefined) continue;
      metrics.count(
        'dstack_relay_gas_used_total',
        'Gas of mined transactions.',
        { kind: kindOf(entry.purpose) },
        receipt.gasUsed,
      );
      if (!receipt.succeeded) {
        this.#fail(
          { ...entry, hash: attempt.hash },
          'TX_REVERTED',
          `it was mined in block ${receipt.block} and reverted`,
        );
        return;
      }
      this.#entries.put(entry.purpose, {
        ...entry,
        state: 'mined',
        hash: attempt.hash,
        block: receipt.block,
      });
      log.info(
        { purpose: entry.purpose, hash: attempt.hash, block: receipt.block, gas: receipt.gasUsed },
        `${kindOf(entry.purpose)} is mined`,
      );
      return;
    }
    if ((await rpc.nonce(this.address)) > entry.nonce!) {
      this.#lost(entry);
      return;
    }
    const last = entry.attempts.at(-1)!;
    if (now() - last.at >= bumpAfter && entry.attempts.length < 64) {
      const fees = await this.#fees(last);
      if (fees !== undefined) {
        await this.#sendAttempt(entry, fees);
        return;
      }
    }
    if (now() - (entry.sentAgainAt ?? 0) >= RESEND_AFTER_MS) {
      this.#entries.put(entry.purpose, { ...entry, sentAgainAt: now() });
      await this.#broadcast(last.raw, entry.purpose);
    }
  }

  /** The nonce is used up, but not by us as far as the endpoint knows: it may lag, so this takes a while to believe. */
  #lost(entry: Entry): void {
    const { now, log } = this.#options;
    const since = entry.lostSince ?? now();
    if (now() - since < LOST_AFTER_MS) {
      if (entry.lostSince === undefined) this.#entries.put(entry.purpose, { ...entry, lostSince: since });
      return;
    }
    log.warn(
      { purpose: entry.purpose, nonce: entry.nonce },
      'someone else uses the gas key: its nonce is gone; trying another',
    );
    const { nonce: _, gas: __, lostSince: ___, ...rest } = entry;
    this.#entries.put(entry.purpose, { ...rest, state: 'queued', attempts: [], notBefore: 0 });
  }

  async #confirm(entry: Entry): Promise<void> {
    const { rpc, confirmations, log } = this.#options;
    if ((await rpc.head()) - entry.block! < confirmations) return;
    const receipt = await rpc.receipt(entry.hash!);
    if (receipt === undefined) {
      log.warn({ purpose: entry.purpose }, 'the chain was re-organised: sending it again');
      const { hash: _, block: __, ...rest } = entry;
      this.#entries.put(entry.purpose, { ...rest, state: 'sent', sentAgainAt: 0 });
      return;
    }
    if (receipt.block !== entry.block) {
      this.#entries.put(entry.purpose, { ...entry, block: receipt.block });
      return;
    }
    // Its signed forms are of no more use; that it was done must be remembered for ever.
    this.#close({ ...entry, state: 'final', attempts: [] });
  }

  /** What a transaction would revert with. The endpoint may only be behind, so it is asked a few times. */
  #refused(entry: Entry, error: RpcRefusal): void {
    const named = error.data === undefined ? undefined : namedError(error.data);
    if (named === undefined && /insufficient funds/i.test(error.reason)) {
      this.#wait(entry, 'TX_NO_FUNDS', `${this.address} has too little for gas: send it some`);
      return;
    }
    const message = named ?? error.message;
    if (entry.tries + 1 >= MAX_TRIES) {
      this.#fail(entry, 'TX_WOULD_REVERT', message);
      return;
    }
    const pause = 500 * 2 ** entry.tries;
    this.#tell(entry, 'TX_WOULD_REVERT', message);
    this.#entries.put(entry.purpose, {
      ...entry,
      tries: entry.tries + 1,
      notBefore: this.#options.now() + pause,
      code: 'TX_WOULD_REVERT',
      message: message.slice(0, 500),
    });
  }

  #wait(entry: Entry, code: string, message: string): void {
    this.#tell(entry, code, message);
    const notBefore = this.#options.now() + WAIT_FOR_MONEY_MS;
    this.#entries.put(entry.purpose, { ...entry, notBefore, code, message: message.slice(0, 500) });
  }

  #tell(entry: Entry, code: string, message: string): void {
    if (entry.code === code && entry.message === message.slice(0, 500)) return;
    this.#options.log.warn({ purpose: entry.purpose, code }, `${kindOf(entry.purpose)} waits: ${message}`);
  }

  #fail(entry: Entry, code: string, message: string): void {
    this.#options.log.warn({ purpose: entry.purpose, code }, `${kindOf(entry.purpose)} failed: ${message}`);
    this.#options.metrics.count('dstack_relay_transactions_failed_total', 'Transactions given up.', { code });
    this.#close({ ...entry, state: 'failed', attempts: [], code, message: message.slice(0, 500) });
  }

  #close(entry: Entry): void {
    this.#options.store.batch([
      this.#entries.putting(entry.purpose, entry),
      this.#open.deleting(entry.purpose),
    ]);
  }

  /** Fees for a first attempt, or, above `previous`, for its replacement; undefined when the ceiling forbids it. */
  async #fees(previous?: { maxFee: string; tip: string }): Promise<Fees | undefined> {
    const { rpc, maxFee: ceiling } = this.#options;
    const baseFee = (await rpc.latest()).baseFee ?? 0n;
    // Without the method, one gwei is what clients agree on.
    const suggested = await rpc.priorityFee().catch((error) => {
      if (error instanceof RpcRefusal) return 1_000_000_000n;
      throw error;
    });
    let tip = suggested;
    let maxFee = 2n * baseFee + tip;
    if (previous !== undefined) {
      // Clients take a replacement only when both fees rise by an eighth or more.
      tip = larger(tip, raised(BigInt(previous.tip)));
      maxFee = larger(maxFee, raised(BigInt(previous.maxFee)));
    }
    maxFee = smaller(maxFee, ceiling);
    tip = smaller(tip, maxFee);
    const tooLow = maxFee < baseFee + (baseFee >> 3n);
    const noRise =
      previous !== undefined &&
      (maxFee < raised(BigInt(previous.maxFee)) || tip < raised(BigInt(previous.tip)));
    return (previous === undefined ? tooLow : noRise) ? undefined : { maxFee, tip };
  }

  async #checkBalance(): Promise<void> {
    const { now, rpc, metrics, lowBalance, log } = this.#options;
    if (now() - this.#balanceAt < BALANCE_EVERY_MS) return;
    const balance = await rpc.balance(this.address);
    this.#balanceAt = now();
    metrics.gauge('dstack_relay_gas_balance_eth', 'What the gas key has, in ether.', Number(balance) / 1e18);
    if (balance < lowBalance) {
      log.warn({ address: this.address, wei: String(balance) }, 'the gas key runs low: send it some ether');
    }
  }

  #pending(): Entry[] {
    return this.#open
      .list()
      .flatMap(({ id }) => this.#entries.get(id) ?? [])
      .sort((a, b) => a.order - b.order);
  }
}

interface Fees {
  maxFee: bigint;
  tip: bigint;
}

/** The contract's refusal in words, undefined when it is not one of its own. */
function namedError(data: string): string | undefined {
  try {
    const error = parseNetworkError(data);
    return error === undefined ? undefined : describeNetworkError(error);
  } catch {
    return undefined;
  }
}

const statusOf = (entry: Entry): TransactionStatus => ({
  purpose: entry.purpose,
  state: entry.state,
  hash: entry.hash ?? entry.attempts.at(-1)?.hash,
  code: entry.code,
  message: entry.message,
});

/** `register` of `register:0x…`. */
const kindOf = (purpose: string): string => purpose.split(':')[0]!;
const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const raised = (fee: bigint): bigint => (fee * 9n) / 8n + 1n;
