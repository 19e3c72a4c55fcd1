/**
 * Records as they come in, in any order and from anybody, become members in an order in which each stands on members. What stands on something
 * that is not here yet waits in limbo, and nobody can fill that for others: each peer has a room of its own.
 *
 * Nothing is remembered of refused bytes but, by the caller if it likes, their own hash: a bad copy has the identity of the good one, and must not shut it
 * out. Nor must a copy without its value shut out the value. What is refused for its ancestry is refused in every copy, and what waits for it
 * with it.
 */
import { toHex } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { decodeRecord } from './codec.ts';
import type { DagRecord } from './format.ts';
import type { Genesis } from './genesis.ts';
import { recordId } from './identity.ts';
import {
  type FactsOf,
  factsOfMember,
  isEarly,
  type MemberFacts,
  verifyAlone,
  verifyAncestry,
} from './membership.ts';

/** Where members are kept. */
export interface Members {
  readonly factsOf: FactsOf;
  /** Of a member: whether its value is still wanted. Not where the store itself threw it away. */
  lacksValue(id: string): boolean;
  /** Called once for each, after all that it stands on. */
  add(member: Member): void;
  /** Called with the whole record of a member whose value was lacking. */
  restore(id: string, record: DagRecord, bytes: Uint8Array): void;
}

export interface Member {
  readonly id: string;
  readonly record: DagRecord;
  /** Its one encoding, as it came. */
  readonly bytes: Uint8Array;
  readonly facts: MemberFacts;
}

export interface LimboRoom {
  /** For each peer. */
  readonly records: number;
  readonly bytes: number;
}

export type Outcome =
  /** Nothing new; whether this copy is a good one was not looked at. */
  | { readonly kind: 'known'; readonly id: string }
  /** A member has its value now. */
  | { readonly kind: 'restored'; readonly id: string }
  /** It is a member, and so are those that waited for it, in this order. */
  | { readonly kind: 'members'; readonly ids: readonly string[] }
  /** For these, which no one has offered yet or which wait themselves. */
  | { readonly kind: 'waiting'; readonly id: string; readonly missing: readonly string[] }
  /** Of the future: not kept; to be offered again then. @property until milliseconds since 1970 */
  | { readonly kind: 'early'; readonly id: string; readonly until: number };

interface Waiting {
  readonly id: string;
  readonly record: DagRecord;
  readonly bytes: Uint8Array;
  readonly from: string;
  readonly missing: Set<string>;
}

export class Intake {
  readonly #genesis: Genesis;
  readonly #members: Members;
  readonly #room: LimboRoom;
  readonly #waiting = new Map<string, Waiting>();
  /** Who waits for an identity. */
  readonly #waitingFor = new Map<string, Set<string>>();
  readonly #used = new Map<string, { records: number; bytes: number }>();

  constructor(genesis: Genesis, members: Members, room: LimboRoom) {
    this.#genesis = genesis;
    this.#members = members;
    this.#room = room;
  }

  /**
   * Takes one record of a peer.
   * @param from the peer; whose room it waits in
   * @param now milliseconds since 1970, by this node's clock
   * @throws RECORD_… of codec.ts and membership.ts for what can never be a member; RECORD_LIMBO_FULL for what could, but has to wait where no
   *   room is left: offer it after what it stands on
   */
  offer(bytes: Uint8Array, from: string, now: number): Outcome {
    const record = decodeRecord(bytes);
    const id = toHex(recordId(record));
    const isMember = this.#members.factsOf(id) !== undefined;
    if (isMember && !this.#bringsValue(record, this.#members.lacksValue(id))) return { kind: 'known', id };
    const waiting = this.#waiting.get(id);
    if (waiting !== undefined && !this.#bringsValue(record, waiting.record.value.kind === 'pruned')) {
      return { kind: 'waiting', id, missing: [...waiting.missing] };
    }

    verifyAlone(record, this.#genesis);
    if (isMember) {
      this.#members.restore(id, record, bytes);
      return { kind: 'restored', id };
    }
    if (isEarly(record, this.#genesis, now)) {
      return { kind: 'early', id, until: record.timestamp - this.#genesis.rules.drift };
    }
    const missing = this.#judge(id, record);
    if (missing.length === 0) return { kind: 'members', ids: this.#admit({ id, record, bytes }) };
    this.#keep({ id, record, bytes: bytes.slice(), from, missing: new Set(missing) });
    return { kind: 'waiting', id, missing };
  }

  /** Identities that something waits for and that nobody has offered: what to ask peers for. */
  wanted(): string[] {
    return [...this.#waitingFor.keys()].filter((id) => !this.#waiting.has(id));
  }

  /** What waits, by identity: a peer that compares its records with ours need not send these again. */
  waiting(): string[] {
    return [...this.#waiting.keys()];
  }

  /** A peer is gone, or its room is needed: what only it sent and what waits is dropped; others may offer it again. */
  forget(from: string): void {
    for (const waiting of [...this.#waiting.values()]) if (waiting.from === from) this.#release(waiting);
  }

  #bringsValue(record: DagRecord, isLacking: boolean): boolean {
    return isLacking && record.value.kind === 'whole';
  }

  /** @throws what a record is refused for, which is then true of all that waits for it as well */
  #judge(id: string, record: DagRecord): string[] {
    try {
      return verifyAncestry(record, this.#genesis, this.#members.factsOf);
    } catch (error) {
      this.#dropHeirsOf(id);
      throw error;
    }
  }

  #admit(first: Omit<Member, 'facts'>): string[] {
    const queue = [first];
    for (const { id, record, bytes } of queue) {
      const own = this.#waiting.get(id);
      if (own !== undefined) this.#release(own);
      this.#members.add({ id, record, bytes, facts: factsOfMember(record, this.#members.factsOf) });
      // However many waited for it, each peer in a room of its own: they are no arguments of one call.
      for (const heir of this.#readyAfter(id)) queue.push(heir);
    }
    return queue.map(({ id }) => id);
  }

  /** Those that waited for nothing but this, and are members now; they are out of limbo. */
  #readyAfter(id: string): Waiting[] {
    const heirs = [...(this.#waitingFor.get(id) ?? [])].map((heir) => this.#waiting.get(heir)!);
    this.#waitingFor.delete(id);
    for (const heir of heirs) heir.missing.delete(id);
    const ready = heirs.filter(({ missing }) => missing.size === 0);
    for (const heir of ready) this.#release(heir);
    return ready.filter(({ id: heir, record }) => this.#isMember(heir, record));
  }

  #isMember(id: string, record: DagRecord): boolean {
    try {
      return this.#judge(id, record).length === 0;
    } catch (error) {
      // Who sent it was told that it waits; that it is refused now is no fault of what came in.
      if (error instanceof DstackError) return false;
      throw error;
    }
  }

  #dropHeirsOf(id: string): void {
    const doomed = [id];
    for (const one of doomed) {
      for (const heir of this.#waitingFor.get(one) ?? []) {
        const waiting = this.#waiting.get(heir);
        if (waiting === undefined) continue;
        doomed.push(heir);
        this.#release(waiting);
      }
    }
  }

  /** In place of a copy without its value, if there is one. */
  #keep(waiting: Waiting): void {
    const used = this.#used.get(waiting.from) ?? { records: 0, bytes: 0 };
    if (used.records + 1 > this.#room.records || used.bytes + waiting.bytes.length > this.#room.bytes) {
      throw new DstackError(
        'RECORD_LIMBO_FULL',
        `${used.records} records of this peer wait for others already; offer those that they link to first`,
      );
    }
    const copy = this.#waiting.get(waiting.id);
    if (copy !== undefined) this.#release(copy);
    this.#charge(waiting.from, 1, waiting.bytes.length);
    this.#waiting.set(waiting.id, waiting);
    for (const id of waiting.missing) {
      const heirs = this.#waitingFor.get(id) ?? new Set();
      this.#waitingFor.set(id, heirs.add(waiting.id));
    }
  }

  #release({ id, from, bytes, missing }: Waiting): void {
    this.#waiting.delete(id);
    for (const one of missing) {
      const heirs = this.#waitingFor.get(one);
      heirs?.delete(id);
      if (heirs?.size === 0) this.#waitingFor.delete(one);
    }
    this.#charge(from, -1, -bytes.length);
  }

  #charge(from: string, records: number, bytes: number): void {
    const used = this.#used.get(from) ?? { records: 0, bytes: 0 };
    const after = { records: used.records + records, bytes: used.bytes + bytes };
    if (after.records === 0) this.#used.delete(from);
    else this.#used.set(from, after);
  }
}
