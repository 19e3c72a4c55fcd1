/**
 * This host's part in gossip: one log of messages, fed by any number of carriers and by the host itself.
 *
 * Nothing that a carrier brings is trusted: a message is kept when its kind's own checks let it through, and a bad one is
 * left out by itself. Whoever subscribes sees what the log holds, then what is new.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { TUnsafe } from 'typebox';
import type { Log } from '../../lib/daemon/log.ts';
import type { Store } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import type {
  AskablePeer,
  Carrier,
  Entry,
  Exchange,
  Figure,
  PeerStatus,
  Place,
  SourcedEntry,
} from './carrier.ts';
import { idOf, type Message, type MessageKind, MessageKinds, messageId } from './message-kind.ts';
import { MessageLog, type MessageLogLimits, SELF } from './message-log.ts';
import { Refusals } from './refusals.ts';
import { SharedParts } from './shared-parts.ts';
import type { Sought } from './sought.ts';

export interface GossipOptions<Context> {
  store: Store;
  /** What is taken; every other message is refused. */
  kinds: readonly MessageKind<Message, Context>[];
  /** What the kinds' checks may ask, at the time of a check. */
  context(): Context;
  carriers: readonly Carrier[];
  log: Log<'warn'>;
  limits?: Partial<Omit<MessageLogLimits, 'reserved'>>;
  /** Called for each message that was refused, for the metrics. */
  onRefused?: (code: string) => void;
}

/** What a part of this host says to others with. */
export interface Publisher {
  /**
   * Durable when it returns; delivery to others goes on in the background, across restarts. The same message again is
   * the same entry.
   * @throws GOSSIP_* when our own checks refuse it: nobody else would take it either
   */
  publish(message: Message): Promise<Entry>;
}

/** Entries that a new subscriber is given at a time. */
const BATCH = 32;
/** How often this host's own message is given out again while it is published again and again. */
const RENEW_AFTER_MS = 30_000;
const MAX_RENEWED = 64;
/** Of any kind of message. */
const FAULTS = ['GOSSIP_MALFORMED', 'GOSSIP_TOO_LARGE'];
/** While none was seen. */
const LATENCY_MS = 200;

export class Gossip<Context = unknown> implements Exchange, Publisher {
  readonly messages: MessageLog;
  readonly parts: SharedParts;
  readonly #options: GossipOptions<Context>;
  readonly #kinds: MessageKinds<Context>;
  readonly #refusals = new Refusals();
  readonly #subscribers = new Set<(entry: Entry) => void>();
  readonly #waiters = new Set<() => void>();
  /** When this host's own messages were given out last, by id. */
  readonly #renewed = new Map<string, number>();
  #closed = false;

  constructor(options: GossipOptions<Context>) {
    const { store, kinds, limits, carriers } = options;
    this.#options = options;
    this.#kinds = new MessageKinds(kinds);
    const reserved = carriers.flatMap(({ peers }) => peers);
    this.messages = new MessageLog(store, this.#kinds, { ...limits, reserved });
    this.parts = new SharedParts(this.#kinds);
    for (const carrier of carriers) carrier.attach(this);
  }

  /** Opens what carriers are reached by. @throws what the system refuses it with */
  async listen(): Promise<void> {
    for (const carrier of this.#options.carriers) await carrier.listen?.();
  }

  /** What operators of other hosts write into their settings to reach this one, beside the port for all of them. */
  addresses(): string[] {
    return this.#options.carriers.flatMap((carrier) => carrier.address?.() ?? []);
  }

  /** Peers of the operator's choice that can be asked for files now. */
  askable(): AskablePeer[] {
    return this.#options.carriers.flatMap((carrier) => carrier.askable?.() ?? []);
  }

  /** For the metrics. */
  figures(): Figure[] {
    return this.#options.carriers.flatMap((carrier) => carrier.figures?.() ?? []);
  }

  /** Starts exchanging messages. */
  start(): void {
    for (const carrier of this.#options.carriers) carrier.start();
  }

  /** Serves what carriers have to serve to other hosts. */
  routes(app: FastifyInstance): void {
    for (const carrier of this.#options.carriers) carrier.routes?.(app);
  }

  /** Which peer of this host's settings makes a request; undefined for anyone else. */
  callerOf(request: FastifyRequest): string | undefined {
    for (const carrier of this.#options.carriers) {
      const caller = carrier.callerOf?.(request);
      if (caller !== undefined) return caller;
    }
    return undefined;
  }

  /** Which peers could be reached when last tried. */
  peers(): PeerStatus[] {
    return this.#options.carriers.flatMap((carrier) => carrier.status());
  }

  /** Milliseconds that a message takes to the next relay, as far as carriers have seen. */
  latency(): number {
    const seen = this.#options.carriers.flatMap((carrier) => carrier.latency?.() ?? []);
    return seen.length === 0 ? LATENCY_MS : Math.max(...seen);
  }

  async close(): Promise<void> {
    const closing = this.#options.carriers.map((carrier) => carrier.close());
    this.#closed = true;
    this.#notify();
    await Promise.all(closing);
  }

  async publish(message: Message): Promise<Entry> {
    // What is held was admitted, and may be too old to be so again.
    const isHeld = this.messages.get(messageId(message)) !== undefined;
    const { entry, fresh } = isHeld ? this.messages.add(message, SELF) : await this.accept(message, SELF);
    return this.#renew(entry, fresh) ?? entry;
  }

  /**
   * Calls back for every message after `since` (0: all that are still held), in order, then for each new one.
   * Returns the way to stop. A callback that throws is logged, and does not see the message again.
   */
  subscribe(callback: (entry: Entry) => void, since: number): () => void {
    let position = since;
    for (
      let batch = this.messages.after(position, BATCH);
      batch.length > 0;
      batch = this.messages.after(position, BATCH)
    ) {
      for (const { sequence, id, message } of batch) {
        this.#deliver(callback, { sequence, id, message });
        position = sequence;
      }
    }
    this.#subscribers.add(callback);
    return () => this.#subscribers.delete(callback);
  }

  /** The form of a message that may be published. */
  get schema(): TUnsafe<Message> {
    return this.#kinds.schema;
  }

  get identity(): string {
    return this.messages.identity;
  }

  get last(): number {
    return this.messages.last;
  }

  after(sequence: number, limit: number): SourcedEntry[] {
    return this.messages.after(sequence, limit);
  }

  idsAfter(sequence: number, limit: number): Place[] {
    return this.messages.idsAfter(sequence, limit);
  }

  idsAbout(subject: string): string[] {
    return this.messages.idsAbout(subject);
  }

  onChain(): [subject: string, until: number][] {
    return this.messages.onChain();
  }

  subjectOf(value: unknown): string {
    return this.messages.subjectOf(this.#checked(value));
  }

  get sought(): Sought {
    return this.messages.sought;
  }

  get(id: string): Entry | undefined {
    return this.messages.get(id);
  }

  holds(id: string): boolean {
    return this.messages.holds(id);
  }

  knows(id: string, source: string): boolean {
    return this.messages.place(id, source) !== undefined || this.#refusals.has(id);
  }

  isEarly(value: unknown, code: string): boolean {
    const type = (value as Partial<Message> | null)?.type ?? '';
    return (
      this.#kinds.types.includes(type) && this.#kinds.of(value as Message).earlyCodes?.includes(code) === true
    );
  }

  isFault(value: unknown, code: string): boolean {
    const type = (value as Partial<Message> | null)?.type ?? '';
    if (!this.#kinds.types.includes(type) || FAULTS.includes(code)) return true;
    return this.#kinds.of(value as Message).faultCodes?.includes(code) === true;
  }

  async accept(value: unknown, source: string): Promise<{ entry: Entry; fresh: boolean }> {
    const id = idOf(value) ?? '';
    const place = this.messages.place(id, source);
    // The same as what has this id.
    if (place !== undefined)
      return { entry: { sequence: place, id, message: value as Message }, fresh: false };
    try {
      const message = this.#checked(value);
      if (Buffer.byteLength(JSON.stringify(message)) > MESSAGE_MAX_BYTES) {
        throw new DstackError(
          'GOSSIP_TOO_LARGE',
          `a message of more than ${MESSAGE_MAX_BYTES} bytes is not kept`,
        );
      }
      const admitted = await this.#kinds.of(message).admit(message, this.#options.context());
      const added = this.messages.add(admitted, source);
      if (added.fresh) this.#announce(added.entry);
      // Who sends what is kept in another form, or has no place, need not be asked for it at once again.
      if (added.entry.id !== id || added.entry.sequence === 0) this.#refusals.add(id);
      this.parts.note(admitted);
      return added;
    } catch (error) {
      this.#options.onRefused?.(codeOf(error));
      const isLastWord = !(error instanceof Retryable) && !this.isEarly(value, codeOf(error));
      if (id !== '' && source !== SELF && isLastWord) this.#refusals.add(id);
      throw error;
    }
  }

  change(sequence: number, wait: number): Promise<void> {
    if (this.last > sequence || wait <= 0 || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, wait);
      this.#waiters.add(done);
    });
  }

  #checked(value: unknown): Message {
    return this.#kinds.check(value);
  }

  /** What is published again is given out again, once in a while: a peer may have had no room for it, or lost it. */
  #renew({ id }: Entry, fresh: boolean): Entry | undefined {
    const now = Date.now();
    const known = this.#renewed.get(id);
    if (!fresh && known !== undefined && now - known < RENEW_AFTER_MS) return undefined;
    this.#renewed.delete(id);
    this.#renewed.set(id, now);
    if (this.#renewed.size > MAX_RENEWED) this.#renewed.delete(this.#renewed.keys().next().value!);
    // After a restart it is not known when it was given out last: the pause begins anew.
    if (fresh || known === undefined) return undefined;
    const entry = this.messages.renew(id);
    this.#notify();
    return entry;
  }

  #announce(entry: Entry): void {
    for (const subscriber of this.#subscribers) this.#deliver(subscriber, entry);
    this.#notify();
  }

  #deliver(callback: (entry: Entry) => void, entry: Entry): void {
    try {
      callback(entry);
    } catch (error) {
      this.#options.log.warn({ code: codeOf(error) }, `a subscriber failed on message ${entry.id}`);
    }
  }

  #notify(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}
