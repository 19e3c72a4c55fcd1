/**
 * One connection to one peer: what it says is handled one message after the other, what it is asked and what it asks is bounded, and whoever
 * breaks the rules hears a code and is gone. Nothing is believed of it: records are judged by the store, and what it says to have is only
 * asked for.
 */
import { toHex } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { decodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import type { Pulse } from '../../../lib/protocol/records/pulse.ts';
import { ItemSet } from '../../../lib/protocol/records/sync/item-set.ts';
import {
  decodeMessage,
  encodeMessage,
  MAX_IDS,
  type Message,
} from '../../../lib/protocol/records/sync/messages.ts';
import {
  answerReconciliation,
  type Difference,
  Reconciliation,
} from '../../../lib/protocol/records/sync/reconcile.ts';
import type { Verdict } from '../types.ts';
import { Asking, type Desk } from './asking.ts';
import type { Fetcher } from './fetcher.ts';
import { Forgotten } from './forgotten.ts';
import { Giver } from './giver.ts';
import type { WireLimits } from './limits.ts';
import { PulseExchange } from './pulse-exchange.ts';
import type { Purse } from './purses.ts';
import type { SecureSocket } from './secure-socket.ts';
import type { LastReconciliation, PeerStatus, RecordStore } from './types.ts';

/** Of identities that the peer has, which need not be announced to it. */
const KNOWN = 8192;
/** Parts of the backlog: above the first nothing more is given, above the second nothing is announced. The rest is for what the peer is answered. */
const GIVING = 1 / 4;
const ANNOUNCING = 1 / 2;
/** Values that are asked for after one comparison. */
const VALUES = 256;

/** What a peer needs of the node that it is connected to. */
export interface PeerHost {
  readonly store: RecordStore;
  readonly fetcher: Fetcher;
  readonly limits: WireLimits;
  /** Who answers what peers ask beside records; absent: nobody. */
  readonly desk?: Desk | undefined;
  /** The members as they are now. */
  items(): ItemSet;
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds that only go on. */
  uptime(): number;
  /** These peers may have something to ask for. */
  wake(peers: readonly string[]): void;
  /** The store takes nothing for now: all peers are to ask again once it does. */
  awaitStore(): void;
  /** A member has its value now, which peers may lack. */
  tellOfValue(id: string): void;
}

/** A record as it came. */
interface Arrived {
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly isPruned: boolean;
}

export class Peer {
  readonly isDialled: boolean;
  readonly #host: PeerHost;
  readonly #socket: SecureSocket;
  readonly #since: number;
  readonly #purse: Purse;
  readonly #giver: Giver;
  readonly #pulses: PulseExchange;
  readonly #asking: Asking;
  /** With when, the oldest first. */
  readonly #asked = new Map<string, number>();
  readonly #known = new Set<string>();
  readonly #news = new Set<string>();
  /** What of it waits for others since the last comparison, with what it waits for. */
  readonly #waiting = new Map<string, readonly string[]>();
  /** What waited until its room was full. */
  readonly #forgotten: Forgotten;
  /** Asked for at once; fewer where what comes stands on more than there is room for. */
  #width: number;
  /** Members without their values: asked about up to this one; all of them at this uptime. */
  #values: { after: string | undefined; until: number } = { after: undefined, until: 0 };
  /** Values that came since it was asked for the last portion. */
  #restored = 0;
  readonly #resting = new Set<() => void>();
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
  #failure: unknown;
  /** Milliseconds from the last comparison to the next. */
  #pause: number;
  #next: NodeJS.Timeout | undefined;
  #overdue: NodeJS.Timeout | undefined;

  constructor(host: PeerHost, socket: SecureSocket, isDialled: boolean, purse: Purse) {
    this.#host = host;
    this.#socket = socket;
    this.isDialled = isDialled;
    this.#since = host.now();
    this.#pause = host.limits.again;
    this.#width = host.limits.asked;
    this.#forgotten = new Forgotten(host.limits.offered);
    socket.onClose(() => {
      for (const wake of this.#resting) wake();
    });
    this.#purse = purse;
    this.#pulses = new PulseExchange({
      pulses: host.store.pulses,
      interval: host.limits.pulses,
      perOwner: host.limits.pulsesOfOwner,
      allowance: purse.pulsesIn,
      uptime: () => host.uptime(),
      cpu,
      forgive: (milliseconds) => {
        this.#spent -= milliseconds;
      },
      send: (message) => this.#send(message),
      isBehind: () => this.#isOver || this.#socket.backlog >= host.limits.backlog * ANNOUNCING,
      paced: (work) => this.#paced(work),
      fail: (error) => this.#fail(error),
    });
    this.#asking = new Asking({
      desk: host.desk,
      within: host.limits.answeredWithin,
      send: (message) => this.#send(message),
      paced: (work) => this.#paced(work),
      fail: (error) => this.#fail(error),
    });
    this.#giver = new Giver(
      {
        get: (id) => host.store.get(id),
        know: (id) => this.#know(id),
        send: (message) => this.#send(message),
        paced: (work) => this.#paced(work),
        fail: (error) => this.#fail(error),
      },
      host.limits.owed,
    );
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
      const features = this.#pulses.features | this.#asking.features;
      this.#send({ kind: 'hello', network: this.#host.store.network, features });
      for (;;) {
        const code = await this.#turn();
        if (code !== undefined) return { code };
      }
    } catch (cause) {
      const code = this.#reason ?? codeOf(cause);
      this.close(code);
      return { code, cause: this.#failure ?? cause };
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

  /**
   * What the peer says to this; empty where it has nothing to say.
   * @param what up to 512 bytes
   * @throws WIRE_NO_ANSWERS, WIRE_ASKS, WIRE_LATE, WIRE_CLOSED
   */
  async askFor(what: Uint8Array): Promise<Uint8Array> {
    return this.#asking.ask(what);
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

  /** A member has its value now: the peer hears of it again. */
  tellAgain(id: string): void {
    if (!this.#isOver && this.#hasMet) this.#announce([id]);
  }

  /** A pulse that is new here. */
  tellPulse(pulse: Pulse): void {
    if (!this.#isOver) this.#pulses.tell(pulse);
  }

  /** Asks for what it offered, as far as that is allowed at once; in portions. */
  ask(): void {
    const { fetcher, store } = this.#host;
    if (this.#isOver || this.#asked.size > this.#width / 2) return;
    if (store.stopped !== undefined) {
      if (fetcher.queued(this.key) > 0) this.#host.awaitStore();
      return;
    }
    const ids = fetcher.take(this.key, Math.min(MAX_IDS, this.#width - this.#asked.size));
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
      const cpu = this.#purse.cpu.spend(this.#spent);
      const bytesIn = this.#purse.bytesIn.spend(this.#socket.receivedBytes - before);
      await this.#rest(Math.max(cpu, bytesIn, this.#purse.bytesOut.spend(0)));
    }
    await this.#socket.taken();
    return undefined;
  }

  /** Whether the message brought a new member, or what was asked for. */
  async #handle(message: Exclude<Message, { kind: 'refuse' }>): Promise<boolean> {
    if (message.kind !== 'hello' && !this.#hasMet) {
      throw new DstackError('SYNC_HELLO', 'the first message of a connection is a hello');
    }
    if (message.kind === 'records') return await this.#take(message.records);
    if (message.kind === 'tell') return this.#asking.hearAnswer(message.number, message.what);
    if (message.kind === 'want') await this.#giver.owe(message.ids);
    else this.#timed(() => this.#handleAtOnce(message));
    return false;
  }

  #handleAtOnce(message: Exclude<Message, { kind: 'refuse' | 'records' | 'want' | 'tell' }>): void {
    switch (message.kind) {
      case 'hello':
        this.#meet(message.network, message.features);
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
      case 'pulses':
        this.#pulses.hear(message.pulses);
        break;
      case 'pulse-digests':
        void this.#pulses.answer(message.digests);
        break;
      case 'lack':
        this.#miss(message.ids);
        break;
      case 'ask':
        this.#asking.hear(message.number, message.what);
        break;
    }
  }

  #meet(network: string, features: number): void {
    if (this.#hasMet) throw new DstackError('SYNC_HELLO', 'a connection has one hello');
    if (network !== this.#host.store.network) {
      throw new DstackError('SYNC_NETWORK', 'the peer is of another network');
    }
    this.#hasMet = true;
    this.#pulses.meet(features);
    this.#asking.meet(features);
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
    // Nothing is on its way: what still waits, does so for what nobody offered.
    this.#waiting.clear();
    this.#send({ kind: 'end', session });
    if (isWhole) {
      const found = { missingHere: missingHere.size, missingThere: missingThere.size, rounds };
      this.#last = { at: this.#host.uptime(), found };
    }
    fetcher.offer(
      this.key,
      [...missingHere].filter((id) => !store.has(id)),
    );
    // The order of time is not one in which they can be taken.
    this.#announce(store.inOrder([...missingThere]));
    this.#seekValues(missingThere);
    this.#pulses.compare(missingHere.size === 0);
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
    if (!this.#isBusy) this.reconcile();
    else if (!this.#isOver) {
      this.#next = setTimeout(() => this.#reconcileOnceDelivered(), this.#host.limits.again);
    }
  }

  get #isBusy(): boolean {
    return this.#asked.size > 0 || this.#host.fetcher.queued(this.key) > 0;
  }

  #hear(ids: readonly string[]): void {
    for (const id of ids) this.#know(id);
    const { store, fetcher } = this.#host;
    fetcher.offer(
      this.key,
      ids.filter((id) => !store.has(id) || store.lacksValue(id)),
      'announced',
    );
    this.ask();
  }

  /**
   * Asks for values that are not here: whoever gave their records first may have had them no more, or kept them back. That comparison does
   * not show them, so that each peer is asked, a portion at a time, and after the last from the beginning some time later.
   */
  #seekValues(missingThere: ReadonlySet<string>): void {
    const { store, fetcher, limits, uptime } = this.#host;
    if (uptime() < this.#values.until) return;
    const ids = store.lackingValues(VALUES, this.#values.after);
    const isLast = ids.length < VALUES;
    this.#values = { after: isLast ? undefined : ids.at(-1), until: isLast ? uptime() + limits.values : 0 };
    this.#restored = 0;
    fetcher.offer(
      this.key,
      ids.filter((id) => !missingThere.has(id)),
    );
  }

  async #take(records: readonly Uint8Array[]): Promise<boolean> {
    const arrived = this.#timed(() => records.map((bytes) => this.#requireAsked(bytes)));
    this.#expectDelivery();
    const verdicts = await this.#judge(arrived);
    let isUseful = false;
    for (const [i, verdict] of verdicts.entries()) isUseful = this.#settle(arrived[i]!, verdict) || isUseful;
    if (isUseful) this.#width = Math.min(this.#host.limits.asked, this.#width * 2);
    if (this.#restored > 0 && !this.#isBusy) this.#seekValues(new Set());
    this.ask();
    return isUseful;
  }

  /** What the store makes of each; nothing where it takes nothing for now. */
  async #judge(arrived: readonly Arrived[]): Promise<(Verdict | undefined)[]> {
    const { store } = this.#host;
    const adding = this.#timed(() => arrived.map(({ bytes }) => this.#add(bytes)));
    const verdicts = await Promise.all(adding);
    for (const [i, { bytes }] of arrived.entries()) {
      if (!isForRoom(verdicts[i])) continue;
      // One that was taken meanwhile may have made room.
      verdicts[i] = await this.#timed(() => this.#add(bytes));
      if (!isForRoom(verdicts[i])) continue;
      // Of what waits, the last is nearest to what is here: it has to have room, or the peer's ancestors never get in.
      this.#timed(() => store.forget(this.key));
      for (const [id, missing] of this.#waiting) this.#forgotten.remember(id, missing);
      this.#waiting.clear();
      this.#width = Math.max(1, this.#width >> 1);
      verdicts[i] = await this.#timed(() => this.#add(bytes));
    }
    return verdicts;
  }

  async #add(bytes: Uint8Array): Promise<Verdict | undefined> {
    const { store } = this.#host;
    try {
      return await store.add(bytes, this.key);
    } catch (error) {
      if (codeOf(error) === 'RECORDS_STOPPED') return undefined;
      throw error;
    }
  }

  /** Whether it brought something new. */
  #settle({ id, isPruned }: Arrived, verdict: Verdict | undefined): boolean {
    const { store, fetcher } = this.#host;
    if (verdict === undefined) {
      fetcher.failed(this.key, id);
      this.#host.awaitStore();
      return false;
    }
    if (verdict.kind === 'refused' && !isForRoom(verdict)) {
      // Another may have a good copy.
      this.#host.wake(fetcher.failed(this.key, id));
      throw new DstackError('SYNC_RECORD', `the peer sent a record that is none here: ${verdict.code}`);
    }
    // Another may have its value.
    if (isPruned) this.#host.wake(fetcher.failed(this.key, id));
    else fetcher.done(id);
    this.#know(id);
    if (verdict.kind === 'waiting') {
      this.#waiting.set(id, verdict.missing);
      // It is a member there, and so is what it stands on.
      this.#offer(verdict.missing.filter((one) => !store.has(one) && !this.#waiting.has(one)));
    }
    if (verdict.kind === 'members' && this.#forgotten.size > 0) {
      this.#offer(this.#forgotten.heirsOf(verdict.ids, 2 * this.#host.limits.asked).toReversed());
    }
    if (verdict.kind === 'restored') {
      this.#restored += 1;
      this.#host.tellOfValue(id);
    }
    const isUseful = verdict.kind === 'members' || verdict.kind === 'restored';
    if (isUseful) this.#records += 1;
    return isUseful;
  }

  /** Before anything else is done for it: what was not asked for costs a hash. */
  #requireAsked(bytes: Uint8Array): Arrived {
    let id: string;
    let isPruned: boolean;
    try {
      const record = decodeRecord(bytes);
      id = toHex(recordId(record));
      isPruned = record.value.kind === 'pruned';
    } catch (cause) {
      throw new DstackError('SYNC_RECORD', `the peer sent bytes that are no record: ${codeOf(cause)}`, {
        cause,
      });
    }
    if (this.#asked.delete(id)) return { id, bytes, isPruned };
    throw new DstackError('SYNC_UNASKED', 'the peer sent a record that it was not asked for');
  }

  /** To be asked for first. */
  #offer(ids: readonly string[]): void {
    const { store, fetcher } = this.#host;
    fetcher.offer(
      this.key,
      ids.filter((id) => !store.has(id)),
      'first',
    );
  }

  #miss(ids: readonly string[]): void {
    for (const id of ids) {
      if (!this.#asked.delete(id))
        throw new DstackError('SYNC_UNASKED', 'the peer lacks what it was not asked for');
      this.#host.wake(this.#host.fetcher.failed(this.key, id));
      // For a value it is asked without having offered the record.
      if (!this.#host.store.has(id)) this.#lacked += 1;
    }
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
      if (this.#isOver || this.#socket.backlog >= this.#host.limits.backlog * ANNOUNCING) return;
      this.#send({ kind: 'announce', ids: ids.slice(i, i + MAX_IDS) });
    }
  }

  #know(id: string): void {
    this.#known.add(id);
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.values().next().value!);
  }

  #send(message: Message): void {
    if (this.#isOver) return;
    this.#purse.bytesOut.spend(this.#socket.send(encodeMessage(message)));
  }

  /** Milliseconds until all is paid that this connection, or one before, has cost. */
  #debt(): number {
    const { cpu, bytesIn, bytesOut } = this.#purse;
    return Math.max(...[cpu, bytesIn, bytesOut].map((allowance) => allowance.spend(0)));
  }

  async #paced<T>(work: () => T): Promise<T> {
    await this.#socket.taken(GIVING);
    await this.#rest(this.#debt());
    const { result, milliseconds } = measured(work);
    this.#purse.cpu.spend(milliseconds);
    return result;
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#failure = error;
    this.close(codeOf(error));
  }

  #timed<T>(work: () => T): T {
    const { result, milliseconds } = measured(work);
    this.#spent += milliseconds;
    return result;
  }

  /** No longer than the connection lasts: what it still owes is its address's from then on. */
  async #rest(milliseconds: number): Promise<void> {
    if (milliseconds < 1 || this.#socket.isClosed) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#resting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.#resting.add(wake);
    });
  }

  #finish(): void {
    this.#isOver = true;
    this.#giver.stop();
    this.#asking.stop();
    clearTimeout(this.#next);
    clearTimeout(this.#overdue);
  }
}

/** Whether there is no room where it would have to wait. */
function isForRoom(verdict: Verdict | undefined): boolean {
  return verdict?.kind === 'refused' && verdict.code === 'RECORD_LIMBO_FULL';
}

/** With the time of the processor that it took. */
function measured<T>(work: () => T): { readonly result: T; readonly milliseconds: number } {
  const before = cpu();
  const result = work();
  return { result, milliseconds: cpu() - before };
}

/** Milliseconds of the processor that this thread has taken. */
function cpu(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
