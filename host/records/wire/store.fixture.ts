/** For tests: a node's members in memory, as `Intake` takes them. */

import { toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf, type DstackError } from '../../../lib/protocol/errors.ts';
import { encodeRecord } from '../../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../../lib/protocol/records/format.ts';
import type { Genesis } from '../../../lib/protocol/records/genesis.ts';
import { recordId } from '../../../lib/protocol/records/identity.ts';
import { Intake, type LimboRoom, type Member } from '../../../lib/protocol/records/intake.ts';
import {
  FOUNDER,
  genesisRecord,
  idOf,
  MemoryMembers,
  NOW,
  networkOf,
  SECOND,
  write,
} from '../../../lib/protocol/records/network.fixture.ts';
import { NOON } from '../../../lib/protocol/records/records.fixture.ts';
import type { Item, Verdict } from '../types.ts';
import type { RecordStore } from './types.ts';

export const first = genesisRecord();

export class MemoryStore implements RecordStore {
  readonly network: string;
  /** Set by tests. */
  stopped: DstackError | undefined;
  readonly #members = new MemoryMembers();
  readonly #intake: Intake;
  readonly #listeners = new Set<(items: readonly Item[]) => void>();

  constructor(
    records: readonly DagRecord[] = [],
    genesis: Genesis = networkOf(),
    room: LimboRoom = { records: 1000, bytes: 1 << 22 },
  ) {
    this.network = toHex(genesis.id);
    this.#intake = new Intake(genesis, this.#members, room);
    for (const record of records) this.#intake.offer(encodeRecord(record), 'self', NOW);
  }

  get ids(): string[] {
    return this.#members.ids;
  }

  get waiting(): number {
    return this.#intake.waiting().length;
  }

  has = (id: string): boolean => this.#members.all.has(id);
  get = (id: string): Uint8Array | undefined => this.#members.all.get(id)?.bytes;

  lacksValue = (id: string): boolean => this.has(id) && this.#members.lacksValue(id);

  lackingValues(limit: number, after?: string): string[] {
    const ids = [...this.#members.all.keys()];
    return ids
      .slice(after === undefined ? 0 : ids.indexOf(after) + 1)
      .filter((id) => this.lacksValue(id))
      .slice(0, limit);
  }

  inOrder(ids: readonly string[]): string[] {
    const asked = new Set(ids);
    return [...this.#members.all.keys()].filter((id) => asked.has(id));
  }

  async add(bytes: Uint8Array, from: string): Promise<Verdict> {
    if (this.stopped !== undefined) throw this.stopped;
    try {
      const outcome = this.#intake.offer(bytes, from, NOW);
      if (outcome.kind === 'members') {
        const items = outcome.ids.map((id) => itemOf(this.#members.all.get(id)!));
        for (const listener of this.#listeners) listener(items);
      }
      return outcome;
    } catch (error) {
      return { kind: 'refused', code: codeOf(error), message: String(error) };
    }
  }

  items(): Iterable<Item> {
    return [...this.#members.all.values()].map(itemOf);
  }

  subscribe(listener: (items: readonly Item[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  forget(from: string): void {
    this.#intake.forget(from);
  }
}

function itemOf({ id, record }: Member): Item {
  return { id, timestamp: record.timestamp };
}

/** Genesis, and so many records that stand on it, each with a value of its own. */
export function history(count: number, label: string): DagRecord[] {
  const root = recordId(first);
  return [
    first,
    ...Array.from({ length: count }, (_, i) =>
      write(FOUNDER, {
        links: [root],
        timestamp: NOON + (i + 1) * SECOND,
        value: utf8(`${label} ${i}`),
      }),
    ),
  ];
}

/** Each stands on the one before. */
export function chain(count: number, label: string, from: DagRecord = first): DagRecord[] {
  const records: DagRecord[] = [];
  for (let i = 0; i < count; i++) {
    const links = [recordId(records.at(-1) ?? from)];
    records.push(write(FOUNDER, { links, timestamp: NOON + (i + 1) * SECOND, value: utf8(`${label} ${i}`) }));
  }
  return records;
}

export { idOf };
