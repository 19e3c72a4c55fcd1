/**
 * What a peer asked for and is still to get. It is given beside what the peer says, never instead of listening: two nodes that give to each other
 * and do not read would wait for each other.
 */
import {
  MAX_IDS,
  MAX_MESSAGE_BYTES,
  type Message,
  sizeInMessage,
} from '../../../lib/protocol/records/sync/messages.ts';

/** What giving needs of the connection. */
export interface GivingTo {
  /** A member's bytes. */
  get(id: string): Uint8Array | undefined;
  /** The peer has it from now on. */
  know(id: string): void;
  send(message: Message): void;
  /** Does the work at the peer's cost, once the peer took enough of what was sent to it, and has paid for it. */
  paced<T>(work: () => T): Promise<T>;
  /** What giving ended with. */
  fail(error: unknown): void;
}

export class Giver {
  readonly #to: GivingTo;
  readonly #limit: number;
  readonly #owed: string[] = [];
  /** Of `#owed`, so many are given. */
  #given = 0;
  /** A record that did not fit into the last message. */
  #carried: Uint8Array | undefined;
  #isGiving = false;
  #isOver = false;
  #room: PromiseWithResolvers<void> | undefined;

  /** @param limit records that are owed, above which nothing more is heard: who asks for more than that waits for itself */
  constructor(to: GivingTo, limit: number) {
    this.#to = to;
    this.#limit = limit;
  }

  get owed(): number {
    return this.#owed.length - this.#given;
  }

  /** Returns when more may be asked for. */
  async owe(ids: readonly string[]): Promise<void> {
    this.#owed.push(...ids);
    if (!this.#isGiving) void this.#giveAll();
    if (this.owed <= this.#limit || this.#isOver) return;
    this.#room ??= Promise.withResolvers();
    await this.#room.promise;
  }

  stop(): void {
    this.#isOver = true;
    this.#room?.resolve();
  }

  async #giveAll(): Promise<void> {
    this.#isGiving = true;
    try {
      while (this.owed > 0 || this.#carried !== undefined) {
        await this.#to.paced(() => this.#isOver || this.#giveSome());
        if (this.#isOver) return;
        if (this.owed <= this.#limit) {
          this.#room?.resolve();
          this.#room = undefined;
        }
      }
    } catch (error) {
      this.#to.fail(error);
    } finally {
      this.#isGiving = false;
    }
  }

  /** As much as fits into one message. */
  #giveSome(): void {
    const records: Uint8Array[] = [];
    const lacking: string[] = [];
    let size = 2;
    while (records.length < MAX_IDS && lacking.length < MAX_IDS) {
      const bytes = this.#carried ?? this.#next(lacking);
      this.#carried = bytes;
      if (bytes === undefined || size + sizeInMessage(bytes) > MAX_MESSAGE_BYTES) break;
      this.#carried = undefined;
      records.push(bytes);
      size += sizeInMessage(bytes);
    }
    if (records.length > 0) this.#to.send({ kind: 'records', records });
    if (lacking.length > 0) this.#to.send({ kind: 'lack', ids: lacking });
  }

  /** The next one that is here. */
  #next(lacking: string[]): Uint8Array | undefined {
    while (this.owed > 0 && lacking.length < MAX_IDS) {
      const id = this.#owed[this.#given]!;
      this.#given += 1;
      const bytes = this.#to.get(id);
      if (bytes !== undefined) this.#to.know(id);
      else lacking.push(id);
      if (this.#given === MAX_IDS || this.owed === 0) {
        this.#owed.splice(0, this.#given);
        this.#given = 0;
      }
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }
}
