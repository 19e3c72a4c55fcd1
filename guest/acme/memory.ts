/**
 * What the daemon remembers across its own ends and the machine's: orders of the last week, failures, and the certificate. On the
 * encrypted disk where there is one, else in memory that a restart of the daemon leaves alone. The host can put an old disk
 * in: then orders are forgotten, and the authority's own limits are what is left.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { DomainName } from '../../lib/protocol/network-config.ts';
import { Count, HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';

const MAX_BYTES = 64 * 1024;

const Remembered = Strict({
  version: Type.Literal(1),
  /** Random, once: nodes that want to order at the same time must not do it at the same moment. */
  node: HexOf(16),
  /** Which names, by hash, and when; Unix seconds by the chain's clock. */
  orders: Type.Array(Strict({ names: HexOf(32), at: Count, certificate: Type.Optional(HexOf(32)) }), {
    maxItems: 200,
  }),
  /**
   * What went wrong in a row for these names: orders that brought no certificate, tries that got no order; when it was last, and
   * until when the authority asked to be left alone.
   */
  failures: Type.Optional(
    Strict({ names: HexOf(32), orders: Count, tries: Count, at: Count, until: Type.Optional(Count) }),
  ),
  /** The network's account with the authority of this directory, and how records of the DNS name that authority. */
  account: Type.Optional(
    Strict({
      directory: Type.String({ maxLength: 300 }),
      url: Type.String({ maxLength: 300 }),
      issuers: Type.Array(DomainName, { maxItems: 8 }),
    }),
  ),
  chain: Type.Optional(Type.String({ maxLength: 16 * 1024 })),
});
export type Remembered = Static<typeof Remembered>;

/** What names an order is for. */
export const namesHash = (names: readonly string[]): Hex => toHex(sha256(utf8([...names].sort().join('\n'))));

/**
 * @param folders where it may be kept, the best first; one that is not there now may be there later
 * @param warn called with what is wrong with a file, which is then left out of account
 */
export class Memory {
  readonly #folders: readonly string[];
  readonly #warn: (problem: string) => void;
  value: Remembered;

  constructor(folders: readonly string[], warn: (problem: string) => void) {
    this.#folders = folders;
    this.#warn = warn;
    const found = folders.map((folder) => this.#read(folder)).filter((value) => value !== undefined);
    // Where the best folder could not be written to for a while, another one knows more.
    this.value = found.sort((a, b) => lastEvent(b) - lastEvent(a))[0] ?? {
      version: 1,
      node: toHex(new Uint8Array(randomBytes(16))),
      orders: [],
    };
  }

  /** Durable when it returns. @throws DstackError ACME_MEMORY where none of the folders can be written to */
  save(value: Remembered): void {
    this.value = value;
    const problems: string[] = [];
    for (const folder of this.#folders.filter((each) => existsSync(each))) {
      try {
        writeDurably(join(folder, FILE), JSON.stringify(value), 0o600);
        return;
      } catch (error) {
        problems.push((error as Error).message);
      }
    }
    const why = problems.join('; ') || 'there is none of them';
    throw new DstackError('ACME_MEMORY', `nothing can be kept in ${this.#folders.join(' or ')}: ${why}`);
  }

  #read(folder: string): Remembered | undefined {
    const file = join(folder, FILE);
    if (!existsSync(file)) return undefined;
    try {
      return parseJson(Remembered, readFileSync(file, 'utf8'), 'ACME_MEMORY', file, MAX_BYTES);
    } catch (error) {
      this.#warn((error as Error).message);
      return undefined;
    }
  }
}

const FILE = 'site.json';

/** Unix seconds. */
const lastEvent = ({ orders, failures }: Remembered): number =>
  Math.max(0, failures?.at ?? 0, ...orders.map(({ at }) => at));
