/**
 * One connection to one peer: what it says is handled one message after the other, what it is asked and what it asks is bounded, and whoever
 * breaks the rules hears a code and is gone. Nothing is believed of it: records are judged by the store, and what it says to have is only
 * asked for.
 */
import { toHex } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { decodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { ItemSet } from '../../../lib/protocol/records/sync/item-set.ts';
import {
  decodeMessage,
  encodeMessage,
  MAX_IDS,
  MAX_MESSAGE_BYTES,
  type Message,
  sizeInMessage,
} from '../../../lib/protocol/records/sync/messages.ts';
import {
  answerReconciliation,
  type Difference,
  Reconciliation,
} from '../../../lib/protocol/records/sync/reconcile.ts';
import { Allowance } from './allowance.ts';
import type { Fetcher } from './fetcher.ts';
import type { WireLimits } from './limits.ts';
import type { SecureSocket } from './secure-socket.ts';
import type { LastReconciliation, PeerStatus, RecordStore } from './types.ts';

/** Of identities that the peer has, which need not be announced to it. */
const KNOWN = 8192;

/** What a peer needs of the node that it is connected to. */
export interface PeerHost {
  readonly store: RecordStore;
  readonly fetcher: Fetcher;
  readonly limits: WireLimits;
  /** The members as they are now. */
  items(): ItemSet;
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds that only go on. */
  uptime(): number;
  /** These peers may have something to ask for. */
  wake(peers: readonly string[]): void;
}

export class Peer {
  readonly isDialled: boolean;
  readonly #host: PeerHost;
  readonly #socket: SecureSocket;
  readonly #since: number;
  readonly #cpu: Allowance;
  readonly #bytesIn: Allowance;
  readonly #bytesOut: Allowance;
  /** With when, the oldest first. */
  readonly #asked = new Map<string, number>();
  readonly #known = new Set<string>();
  readonly #news = new Set<string>();
  /** Ours, while it runs. */
  #own: { readonly session: number; readonly reconciliation: Reconciliation } | undefined;
  #sessions = 0;
  /** The peer's: the state that its questions are answered from. */
  #theirs: { readonly session: number; items: ItemSet; questions: number } | undefined;
  /** With the uptime at which it ended. */
  #last: { readonly at: number; readonly found: Omit<LastReconciliation, 'age'> } | undefined;
  #lacked = 0;
  #records = 0;
  /** Milliseconds of the processor that the message at hand took. */
  #spent = 0;
  #hasMet = false;
  #isOver = false;
  /** Why this node ended it. */
  #reason: string | undefined;
  /** Milliseconds from the last comparison to the next. */
  #pause: number;
  #next: NodeJS.Timeout | undefined;
  #overdue: NodeJS.Timeout | undefined;

  constructor(host: PeerHost, socket: SecureSocket, isDialled: boolean) {
    this.#host = host;
    this.#socket = socket;
    this.isDialled = isDialled;
    this.#since = host.now();
    this.#pause = host.limits.again;
    const { cpu, bytesIn, bytesOut } = host.limits;
    this.#cpu = new Allowance(cpu);
    this.#bytesIn = new Allowance(bytesIn);
    this.#bytesOut = new Allowance(bytesOut);
  }

  /** The peer's static key. */
  get key(): string {
    return this.#socket.key;
  }

  get status(): PeerStatus {
    const last = this.#last;
    return {
      key: this.key,
      address: this.#socket.address,
      isDialled: this.isDialled,
      since: this.#since,
      last: last && { ...last.found, age: this.#host.uptime() - last.at },
      received: { bytes: this.#socket.receivedBytes, records: this.#records },
      sentBytes: this.#socket.sentBytes,
    };
  }

  /** Speaks with the peer until the connection ends. @returns why it did, `PEER_…` if the peer said so */
  async run(): Promise<{ readonly code: string; readonly cause?: unknown }> {
    try {
      this.#send({ kind: 'hello', network: this.#host.store.network, features: 0 });
      for (;;) {
        const code = await this.#turn();
        if (code !== undefined) return { code };
      }
    } catch (cause) {
      const code = this.#reason ?? codeOf(cause);
      this.close(code);
      return { code, cause };
    } finally {
      this.#finish();
    }
  }

  /** Tells the peer why, and ends. */
  close(code: string): void {
    if (this.#isOver) return;
    this.#reason = code;
    if (!this.#socket.isClosed) this.#send({ kind: 'refuse', code });
    this.#finish();
    this.#socket.end();
  }

  /** Compares all members with the peer's, unless that is under way. */
  reconcile(): void {
    if (this.#isOver || this.#own !== undefined || !this.#hasMet) return;
    clearTimeout(this.#next);
    this.#sessions += 1;
    const reconciliation = new Reconciliation(this.#host.items(), this.#host.limits.reconcile);
    this.#own = { session: this.#sessions, reconciliation };
    this.#send({ kind: 'question', session: this.#sessions, ranges: reconciliation.open() });
  }

  /** New members, which the peer hears of unless it is known to have them. */
  tell(ids: Iterable<string>): void {
    if (this.#isOver || !this.#hasMet) return;
    const isFirst = this.#news.size === 0;
    for (const id of ids) if (!this.#known.has(id)) this.#news.add(id);
    if (isFirst && this.#news.size > 0) setImmediate(() => this.#announceNews());
  }

  /** Asks for what it offered, as far as that is allowed at once; in portions. */
  ask(): void {
    const { fetcher, limits } = this.#host;
    if (this.#isOver || this.#asked.size > limits.asked / 2) return;
    const ids = fetcher.take(this.key, Math.min(MAX_IDS, limits.asked - this.#asked.size));
    if (ids.length === 0) return;
    const now = performance.now();
    for (const id of ids) this.#asked.set(id, now);
    this.#expectDelivery();
    this.#send({ kind: 'want', ids });
  }

  /** One message. @returns the code with which the peer ends, if it does */
  async #turn(): Promise<string | undefined> {
    const before = this.#socket.receivedBytes;
    const bytes = await this.#socket.receive();
    if (this.#isOver) throw new DstackError('WIRE_CLOSED', 'this node has ended the connection');
    this.#spent = 0;
    const message = this.#timed(() => decodeMessage(bytes));
    if (message.kind === 'refuse') {
      this.#finish();
      this.#socket.end();
      return `PEER_${message.code}`;
    }
    const isUseful = await this.#handle(message);
    if (!isUseful) {
      // What brought a new member was worth it.
      const cpu = this.#cpu.spend(this.#spent);
      const bytesIn = this.#bytesIn.spend(this.#socket.receivedBytes - before);
      await this.#rest(Math.max(cpu, bytesIn, this.#bytesOut.spend(0)));
    }
    await this.#socket.taken();
    return undefined;
  }

  /** Whether the message brought a new member. */
  async #handle(message: Exclude<Message, { kind: 'refuse' }>): Promise<boolean> {
    if (message.kind !== 'hello' && !this.#hasMet) {
      throw new DstackError('SYNC_HELLO', 'the first message of a connection is a hello');
    }
    if (message.kind === 'records') return await this.#take(message.records);
    if (message.kind === 'want') await this.#give(message.ids);
    else this.#timed(() => this.#handleAtOnce(message));
    return false;
  }

  #handleAtOnce(message: Exclude<Message, { kind: 'refuse' | 'records' | 'want' }>): void {
    switch (message.kind) {
      case 'hello':
        this.#meet(message.network);
        break;
      case 'question':
        this.#answer(message.session, message.ranges);
        break;
      case 'answer':
        this.#goOn(message.session, message.ranges);
        break;
      case 'end':
        if (this.#theirs?.session === message.session) this.#theirs.items = ItemSet.empty;
        break;
      case 'announce':
        this.#hear(message.ids);
        break;
      case 'lack':
        this.#miss(message.ids);
        break;
    }
  }

  #meet(network: string): void {
    if (this.#hasMet) throw new DstackError('SYNC_HELLO', 'a connection has one hello');
    if (network !== this.#host.store.network) {
      throw new DstackError('SYNC_NETWORK', 'the peer is of another network');
    }
    this.#hasMet = true;
    this.reconcile();
  }

  #answer(session: number, ranges: Uint8Array): void {
    const { limits } = this.#host;
    if (this.#theirs === undefined || session > this.#theirs.session) {
      this.#theirs = { session, items: this.#host.items(), questions: 0 };
    }
    this.#theirs.questions += 1;
    if (session !== this.#theirs.session || this.#theirs.questions > limits.reconcile.rounds) {
      throw new DstackError(
        'SYNC_ROUNDS',
        'too many questions, or one of an old reconciliation; begin another',
      );
    }
    const answer = answerReconciliation(this.#theirs.items, ranges, limits.reconcile.messageBytes);
    this.#send({ kind: 'answer', session, ranges: answer });
  }

  #goOn(session: number, ranges: Uint8Array): void {
    if (this.#own?.session !== session) {
      throw new DstackError('SYNC_SESSION', 'an answer to a question that was not asked');
    }
    const { reconciliation } = this.#own;
    const question = reconciliation.next(ranges);
    if (question === undefined) this.#conclude(session, reconciliation);
    else this.#send({ kind: 'question', session, ranges: question });
  }

  #conclude(session: number, { difference, rounds }: Reconciliation): void {
    const { missingHere, missingThere, isWhole } = difference;
    const { store, fetcher } = this.#host;
    this.#own = undefined;
    this.#send({ kind: 'end', session });
    if (isWhole) {
      const found = { missingHere: missingHere.size, missingThere: missingThere.size, rounds };
      this.#last = { at: this.#host.uptime(), found };
    }
    fetcher.offer(
      this.key,
      [...missingHere].filter((id) => !store.has(id)),
    );
    this.#announce([...missingThere]);
    this.ask();
    this.#pause = this.#pauseAfter(difference);
    // Not all nodes at the same time.
    const pause = this.#pause * (0.75 + Math.random() / 2);
    this.#next = setTimeout(() => this.#reconcileOnceDelivered(), pause);
  }

  /** What only the peer lacks it fetches by itself: to tell it again and again what it is about to fetch is of no use. */
  #pauseAfter({ missingHere, missingThere, isWhole }: Difference): number {
    const { interval, again } = this.#host.limits;
    if (isWhole && missingHere.size + missingThere.size === 0) return interval;
    if (missingHere.size > 0 || this.#pause === interval) return again;
    return Math.min(interval, this.#pause * 2);
  }

  /** What is on its way would be asked for again. */
  #reconcileOnceDelivered(): void {
    const isBusy = this.#asked.size > 0 || this.#host.fetcher.queued(this.key) > 0;
    if (!isBusy) this.reconcile();
    else if (!this.#isOver) {
      this.#next = setTimeout(() => this.#reconcileOnceDelivered(), this.#host.limits.again);
    }
  }

  #hear(ids: readonly string[]): void {
    for (const id of ids) this.#know(id);
    const { store, fetcher } = this.#host;
    fetcher.offer(
      this.key,
      ids.filter((id) => !store.has(id)),
    );
    this.ask();
  }

  /** In as many messages as it takes, each once the one before was taken. */
  async #give(ids: readonly string[]): Promise<void> {
    const lacking: string[] = [];
    let records: Uint8Array[] = [];
    let size = 2;
    const flush = async (): Promise<void> => {
      if (records.length === 0) return;
      await this.#sendPaced({ kind: 'records', records });
      [records, size] = [[], 2];
    };
    for (const id of ids) {
      const bytes = this.#timed(() => this.#host.store.get(id));
      if (bytes === undefined) {
        lacking.push(id);
        continue;
      }
      this.#know(id);
      if (size + sizeInMessage(bytes) > MAX_MESSAGE_BYTES) await flush();
      records.push(bytes);
      size += sizeInMessage(bytes);
    }
    await flush();
    if (lacking.length > 0) await this.#sendPaced({ kind: 'lack', ids: lacking });
  }

  async #take(records: readonly Uint8Array[]): Promise<boolean> {
    const ids = this.#timed(() => records.map((bytes) => this.#requireAsked(bytes)));
    this.#expectDelivery();
    const verdicts = this.#timed(() => records.map((bytes) => this.#host.store.add(bytes, this.key)));
    let isUseful = false;
    for (const [i, verdict] of (await Promise.all(verdicts)).entries()) {
      const id = ids[i]!;
      if (verdict.kind === 'refused' && verdict.code !== 'RECORD_LIMBO_FULL') {
        // Another may have a good copy.
        this.#host.wake(this.#host.fetcher.failed(this.key, id));
        throw new DstackError('SYNC_RECORD', `the peer sent a record that is none here: ${verdict.code}`);
      }
      this.#host.fetcher.done(id);
      this.#know(id);
      if (verdict.kind === 'members' || verdict.kind === 'restored') {
        isUseful = true;
        this.#records += 1;
      }
      // It is a member there, and so is what it stands on.
      if (verdict.kind === 'waiting') this.#offerMissing(verdict.missing);
    }
    this.ask();
    return isUseful;
  }

  /** Before anything else is done for it: what was not asked for costs a hash. */
  #requireAsked(bytes: Uint8Array): string {
    let id: string;
    try {
      id = toHex(recordId(decodeRecord(bytes)));
    } catch (cause) {
      throw new DstackError('SYNC_RECORD', `the peer sent bytes that are no record: ${codeOf(cause)}`, {
        cause,
      });
    }
    if (this.#asked.delete(id)) return id;
    throw new DstackError('SYNC_UNASKED', 'the peer sent a record that it was not asked for');
  }

  #offerMissing(missing: readonly string[]): void {
    const { store, fetcher } = this.#host;
    fetcher.offer(
      this.key,
      missing.filter((id) => !store.has(id) && !this.#asked.has(id)),
    );
  }

  #miss(ids: readonly string[]): void {
    for (const id of ids) {
      if (!this.#asked.delete(id))
        throw new DstackError('SYNC_UNASKED', 'the peer lacks what it was not asked for');
      this.#host.wake(this.#host.fetcher.failed(this.key, id));
    }
    this.#lacked += ids.length;
    if (this.#lacked > this.#host.limits.lacking) {
      throw new DstackError(
        'SYNC_WITHHELD',
        `the peer does not have ${this.#lacked} records that it offered`,
      );
    }
    this.#expectDelivery();
    this.ask();
  }

  /** Of what it was asked for first: who gives the rest and not that is waited for no longer than who gives nothing. */
  #expectDelivery(): void {
    clearTimeout(this.#overdue);
    const [oldest] = this.#asked.values();
    if (oldest === undefined) return;
    const left = oldest + this.#host.limits.deliveredWithin - performance.now();
    this.#overdue = setTimeout(() => this.close('SYNC_WITHHELD'), Math.max(0, left));
  }

  #announceNews(): void {
    const ids = [...this.#news];
    this.#news.clear();
    this.#announce(ids);
  }

  /** To a peer that does not take what waits for it, nothing: it finds out when it compares. */
  #announce(ids: readonly string[]): void {
    for (let i = 0; i < ids.length; i += MAX_IDS) {
      if (this.#isOver || this.#socket.backlog >= this.#host.limits.backlog) return;
      this.#send({ kind: 'announce', ids: ids.slice(i, i + MAX_IDS) });
    }
  }

  #know(id: string): void {
    this.#known.add(id);
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.values().next().value!);
  }

  #send(message: Message): void {
    if (this.#isOver) return;
    this.#bytesOut.spend(this.#socket.send(encodeMessage(message)));
  }

  async #sendPaced(message: Message): Promise<void> {
    await this.#socket.taken();
    if (this.#isOver) return;
    await this.#rest(this.#bytesOut.spend(this.#socket.send(encodeMessage(message))));
  }

  #timed<T>(work: () => T): T {
    const before = process.threadCpuUsage();
    try {
      return work();
    } finally {
      const { user, system } = process.threadCpuUsage(before);
      this.#spent += (user + system) / 1000;
    }
  }

  async #rest(milliseconds: number): Promise<void> {
    if (milliseconds < 1) return;
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
  }

  #finish(): void {
    this.#isOver = true;
    clearTimeout(this.#next);
    clearTimeout(this.#overdue);
  }
}
