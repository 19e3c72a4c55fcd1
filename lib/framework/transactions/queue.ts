/**
 * The durable part of a payer, for one account on one chain: its transactions by purpose, which of them are unfinished, and
 * which of them each nonce belongs to. Nothing in here uses the network.
 */
import { type Static, Type } from 'typebox';
import { codeOf } from '../../protocol/errors.ts';
import { type Address, addressKey } from '../../protocol/hex.ts';
import { Count, Strict, Word0x } from '../../protocol/schema.ts';
import { TRANSACTION_DATA_MAX, type TransactionRequest } from '../handler.ts';
import { type Store, type StoreOperation, Table } from '../store.ts';

const Wei = Type.String({ pattern: '^[0-9]{1,30}$', maxLength: 30 });

const AttemptSchema = Strict({
  hash: Word0x,
  nonce: Count,
  /** The signed transaction, to be sent again as it is. */
  raw: Type.String({ maxLength: 80 * 1024 }),
  maxFee: Wei,
  tip: Wei,
  /** A legacy transaction, from before EIP-1559; both prices are then its gas price. */
  legacy: Type.Optional(Type.Literal(true)),
  /** Unix milliseconds. */
  at: Count,
});

const EntrySchema = Strict({
  purpose: Type.String({ maxLength: 200 }),
  to: Type.String({ maxLength: 42 }),
  data: Type.String({ maxLength: TRANSACTION_DATA_MAX }),
  order: Count,
  state: Type.Union([
    /** Waits for its turn, for gas money, or for an estimate that does not revert. */
    Type.Literal('queued'),
    /** Signed, stored, and sent or about to be. */
    Type.Literal('sent'),
    /** In a block, not yet deep enough. */
    Type.Literal('mined'),
    Type.Literal('final'),
    /** Not sent because it would revert, or mined and reverted. */
    Type.Literal('failed'),
  ]),
  tries: Count,
  notBefore: Count,
  /** The newest attempt's nonce; present from `sent` on. */
  nonce: Type.Optional(Count),
  gas: Type.Optional(Wei),
  /** Everything signed for this purpose that may still be mined. */
  attempts: Type.Array(AttemptSchema, { maxItems: 64 }),
  /** The hash that was mined. */
  hash: Type.Optional(Word0x),
  block: Type.Optional(Count),
  sentAgainAt: Type.Optional(Count),
  /** Since when it has been waiting to be mined at its present fee, Unix milliseconds. */
  waitsSince: Type.Optional(Count),
  /** The head when its nonce was first seen to be used by a transaction that is not ours. */
  lostSince: Type.Optional(Count),
  /** When it became final or failed, Unix milliseconds. */
  closedAt: Type.Optional(Count),
  /** What the endpoint said when it last did not accept it, and when (Unix milliseconds); absent once it is accepted. */
  refusal: Type.Optional(
    Strict({ code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 300 }), at: Count }),
  ),
  /** How often it was refused for what it is, counted until an endpoint accepts it. */
  refusals: Type.Optional(Count),
  /** An endpoint accepted it: it may be mined at any time. */
  taken: Type.Optional(Type.Literal(true)),
  code: Type.Optional(Type.String({ maxLength: 64 })),
  message: Type.Optional(Type.String({ maxLength: 500 })),
});
export type Attempt = Static<typeof AttemptSchema>;
export type Entry = Static<typeof EntrySchema>;
const EmptySchema = Strict({});
const OrderSchema = Strict({ order: Count });
const OwnerSchema = Strict({ purpose: Type.String({ maxLength: 200 }) });

export const MAX_ATTEMPTS = 64;

export class Queue {
  readonly #store: Store;
  readonly #entries: Table<typeof EntrySchema>;
  /** Purposes that are neither final nor failed. */
  readonly #open: Table<typeof EmptySchema>;
  readonly #orders: Table<typeof OrderSchema>;
  /** The purpose for which a nonce was last signed. */
  readonly #nonces: Table<typeof OwnerSchema>;

  readonly #onSpoiled: (purpose: string, reason: string) => void;

  /** @param onSpoiled told of each open entry that can't be read; it is then no longer open, and its purpose stays taken */
  constructor(
    store: Store,
    chainId: number,
    account: Address,
    onSpoiled: (purpose: string, reason: string) => void = () => {},
  ) {
    this.#store = store;
    this.#onSpoiled = onSpoiled;
    const prefix = `tx/${chainId}/${addressKey(account)}`;
    this.#entries = new Table(store, `${prefix}/entry/`, EntrySchema);
    this.#open = new Table(store, `${prefix}/open/`, EmptySchema);
    this.#orders = new Table(store, `${prefix}/`, OrderSchema);
    this.#nonces = new Table(store, `${prefix}/nonce/`, OwnerSchema);
  }

  get(purpose: string): Entry | undefined {
    return this.#entries.get(purpose);
  }

  /** How many are open. */
  count(): number {
    return this.#open.count();
  }

  /** What is neither final nor failed, oldest first. */
  open(): Entry[] {
    return this.#open
      .list()
      .flatMap(({ id }) => this.#readable(id) ?? [])
      .sort((a, b) => a.order - b.order);
  }

  /** Durable when it returns. */
  add(request: TransactionRequest): Entry {
    const order = this.#nextOrder();
    const entry: Entry = { ...request, order, state: 'queued', tries: 0, notBefore: 0, attempts: [] };
    this.#store.batch([...this.#opening(entry), this.#orders.putting('order', { order })]);
    return entry;
  }

  put(entry: Entry): void {
    this.#entries.put(entry.purpose, entry);
  }

  /** The same entry, moved behind all others. */
  putBack(entry: Entry): void {
    const order = this.#nextOrder();
    this.#store.batch([...this.#opening({ ...entry, order }), this.#orders.putting('order', { order })]);
  }

  /** Stores an entry with a newly signed attempt; from then on that nonce is the entry's. */
  putSigned(entry: Entry, nonce: number): void {
    this.#store.batch([
      ...this.#opening(entry),
      this.#nonces.putting(keyOf(nonce), { purpose: entry.purpose }),
    ]);
  }

  /** Gives up an entry's nonce, because it is another's or will never be reached. */
  putWithoutNonce(entry: Entry, nonce: number): void {
    this.#store.batch([...this.#opening(entry), this.#nonces.deleting(keyOf(nonce))]);
  }

  /** The same for an entry that is finished. */
  closeWithoutNonce(entry: Entry, nonce: number): void {
    this.#store.batch([...this.#closing(entry), this.#nonces.deleting(keyOf(nonce))]);
  }

  close(entry: Entry): void {
    this.#store.batch(this.#closing(entry));
  }

  reopen(entry: Entry): void {
    this.#store.batch(this.#opening(entry));
  }

  /** Entries that have signed `nonce` or a higher one, lowest first, at most `limit`. */
  ownersFrom(nonce: number, limit: number): { nonce: number; entry: Entry }[] {
    return this.#nonces
      .list({ limit, ...(nonce > 0 ? { after: keyOf(nonce - 1) } : {}) })
      .flatMap(({ id, value }) => {
        const entry = this.#readable(value.purpose);
        return entry === undefined ? [] : [{ nonce: Number(id), entry }];
      });
  }

  /** The lowest nonce that is neither mined (according to `chainNonce`) nor signed for anything. */
  nextNonce(chainNonce: number): number {
    const after = chainNonce > 0 ? { after: keyOf(chainNonce - 1) } : {};
    return this.#nonces
      .list({ limit: 100_000, ...after })
      .reduce((next, { id }) => (Number(id) === next ? next + 1 : next), chainNonce);
  }

  #nextOrder(): number {
    return (this.#orders.get('order')?.order ?? 0) + 1;
  }

  /** One entry that can't be read must not stop the account's others. */
  #readable(purpose: string): Entry | undefined {
    try {
      return this.#entries.get(purpose);
    } catch (error) {
      if (codeOf(error) !== 'STORE_CORRUPT') throw error;
      if (this.#open.has(purpose)) {
        this.#open.delete(purpose);
        this.#onSpoiled(purpose, (error as Error).message);
      }
      return undefined;
    }
  }

  #closing(entry: Entry): StoreOperation[] {
    return [this.#entries.putting(entry.purpose, entry), this.#open.deleting(entry.purpose)];
  }

  #opening(entry: Entry): StoreOperation[] {
    return [this.#entries.putting(entry.purpose, entry), this.#open.putting(entry.purpose, {})];
  }
}

/** Sixteen digits, so that the store's order is that of the numbers. */
const keyOf = (nonce: number): string => String(nonce).padStart(16, '0');
