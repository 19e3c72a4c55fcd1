/**
 * What two nodes ask each other beside records: small questions, and answers of up to one message, in words that the wire does not know. Of what is
 * too large to be kept by everybody, the answers are the parts (host/relay/desk.ts). Nobody answers who did not say so in its hello.
 *
 * The questions of a peer are answered a few at a time, at its own cost. So many of them may wait; who asks more breaks the rules.
 */
import { DstackError } from '../../../lib/protocol/errors.ts';
import { MAX_ASKS, type Message } from '../../../lib/protocol/records/sync/messages.ts';

/** Bit of a hello's features. */
export const ANSWERS = 2;
/** Questions of one peer that are answered at once: each may wait for the disk. */
const AT_ONCE = 4;

/** Who answers. */
export interface Desk {
  /** Undefined for what is not here. What is thrown is as good. */
  answer(what: Uint8Array): Promise<Uint8Array | undefined>;
}

interface Host {
  readonly desk: Desk | undefined;
  /** Milliseconds in which an answer has to come. */
  readonly within: number;
  send(message: Message): void;
  /** Does the work at the peer's cost, once the peer took enough of what was sent to it, and has paid for it. */
  paced<T>(work: () => T): Promise<T>;
  /** What answering ended with. */
  fail(error: unknown): void;
}

interface Asked {
  readonly late: NodeJS.Timeout;
  readonly answer: PromiseWithResolvers<Uint8Array>;
}

export class Asking {
  readonly #host: Host;
  /** By number: what this node asked and has no answer to. */
  readonly #asked = new Map<number, Asked>();
  /** What came too late for whoever asked; the peer may still answer it. */
  readonly #givenUp = new Set<number>();
  readonly #waiting: { readonly number: number; readonly what: Uint8Array }[] = [];
  readonly #met = Promise.withResolvers<boolean>();
  #count = 0;
  /** Of the peer's, so many are being answered. */
  #answering = 0;
  #isOver = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** For this node's hello. */
  get features(): number {
    return this.#host.desk === undefined ? 0 : ANSWERS;
  }

  meet(features: number): void {
    this.#met.resolve((features & ANSWERS) !== 0);
  }

  /** @throws WIRE_NO_ANSWERS, WIRE_ASKS, WIRE_LATE, WIRE_CLOSED */
  async ask(what: Uint8Array): Promise<Uint8Array> {
    if (!(await this.#met.promise)) {
      throw new DstackError(
        'WIRE_NO_ANSWERS',
        'that node answers nothing beside records: it is of an earlier release, or no relay',
      );
    }
    if (this.#isOver) throw closed();
    if (this.#asked.size + this.#givenUp.size >= MAX_ASKS) {
      throw new DstackError('WIRE_ASKS', `${MAX_ASKS} questions wait for their answers already: ask later`);
    }
    this.#count += 1;
    const number = this.#count;
    const answer = Promise.withResolvers<Uint8Array>();
    const late = setTimeout(() => this.#giveUp(number), this.#host.within);
    this.#asked.set(number, { late, answer });
    this.#host.send({ kind: 'ask', number, what });
    return await answer.promise;
  }

  /** @returns whether somebody waits for it @throws SYNC_UNASKED */
  hearAnswer(number: number, what: Uint8Array): boolean {
    const asked = this.#asked.get(number);
    if (asked === undefined) {
      if (this.#givenUp.delete(number)) return false;
      throw new DstackError('SYNC_UNASKED', 'the peer answers what it was not asked');
    }
    this.#asked.delete(number);
    clearTimeout(asked.late);
    asked.answer.resolve(what);
    return true;
  }

  /** A question of the peer's. @throws SYNC_ASKS where nobody answers, and for more than may wait */
  hear(number: number, what: Uint8Array): void {
    if (this.#host.desk === undefined) throw new DstackError('SYNC_ASKS', 'this node answers no questions');
    if (this.#waiting.length + this.#answering >= MAX_ASKS) {
      throw new DstackError('SYNC_ASKS', `${MAX_ASKS} questions may wait for their answers, and no more`);
    }
    this.#waiting.push({ number, what });
    if (this.#answering < AT_ONCE) void this.#answerAll(this.#host.desk);
  }

  /** The connection is over. */
  stop(): void {
    this.#isOver = true;
    this.#met.resolve(true);
    for (const { late, answer } of this.#asked.values()) {
      clearTimeout(late);
      answer.reject(closed());
    }
    this.#asked.clear();
    this.#waiting.length = 0;
  }

  /** One after the other, until none waits. */
  async #answerAll(desk: Desk): Promise<void> {
    this.#answering += 1;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
        const { number, what } = next;
        const told = await this.#host.paced(() =>
          this.#isOver ? undefined : desk.answer(what).catch(() => undefined),
        );
        await this.#host.paced(() => {});
        if (this.#isOver) return;
        this.#host.send({ kind: 'tell', number, what: told ?? new Uint8Array() });
      }
    } catch (error) {
      this.#host.fail(error);
    } finally {
      this.#answering -= 1;
    }
  }

  #giveUp(number: number): void {
    const asked = this.#asked.get(number)!;
    this.#asked.delete(number);
    this.#givenUp.add(number);
    asked.answer.reject(new DstackError('WIRE_LATE', 'that node did not answer in time: ask another'));
  }
}

const closed = (): DstackError =>
  new DstackError('WIRE_CLOSED', 'the connection ended before the answer came: ask again, or another');
