/** The words that describe a network, with what its founder wrote anew since. */
import { toHex } from '../../../lib/protocol/encoding.ts';
import { decodeRecord } from '../../../lib/protocol/records/codec.ts';
import { AMENDABLE, type Amendment, amendmentOf, isFirst } from '../../../lib/protocol/records/genesis.ts';
import type { RecordsNode } from '../node.ts';

export type Words = Readonly<Record<(typeof AMENDABLE)[number], string>>;

type Said = Amendment & { readonly timestamp: number; readonly id: string };

/** Of the founder's amendments the newest counts for each word, by time and then by identity, so that all nodes say the same. */
export class NetworkWords {
  readonly #node: RecordsNode;
  readonly #said = new Map<(typeof AMENDABLE)[number], Said>();

  constructor(node: RecordsNode) {
    this.#node = node;
    this.#readAll();
    node.subscribe((items) => {
      for (const { id } of items) this.#read(id, node.get(id)!);
    });
  }

  get words(): Words {
    const { name, contact, comment } = this.#node.genesis.rules;
    const first = { name, contact, comment };
    return Object.fromEntries(
      AMENDABLE.map((word) => [word, this.#said.get(word)?.[word] ?? first[word]]),
    ) as Words;
  }

  /** A part at a time, each from where the one before ended. */
  #readAll(): void {
    const owners = [toHex(this.#node.genesis.owner)];
    for (let from = 0; ; ) {
      const { sets, isCut } = this.#node.query({ owners, from });
      const found = sets.flat();
      for (const { id, bytes } of found) this.#read(id, bytes);
      const last = Math.max(from, ...found.map(({ timestamp }) => timestamp));
      if (!isCut || last === from) return;
      from = last;
    }
  }

  #read(id: string, bytes: Uint8Array): void {
    const record = decodeRecord(bytes);
    if (record.type !== 'genesis' || isFirst(record)) return;
    const said: Said = {
      ...amendmentOf(record, this.#node.genesis.rules),
      timestamp: record.timestamp,
      id,
    };
    for (const word of AMENDABLE) {
      const known = this.#said.get(word);
      if (said[word] !== undefined && (known === undefined || isLater(said, known)))
        this.#said.set(word, said);
    }
  }
}

function isLater(a: Said, b: Said): boolean {
  return a.timestamp > b.timestamp || (a.timestamp === b.timestamp && a.id > b.id);
}
