/** What `network publish` writes and an audit reads: a folder with a network's public files, and what its chain said of it. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { FlavourSchema } from '../../lib/protocol/network-config.ts';
import { Address0x, Count, HexOf, parseJson, Strict, Word0x } from '../../lib/protocol/schema.ts';
import { parseTape, TAPE_MAX_BYTES, type Tape } from './chain-tape.ts';

/** `published.json`: whose folder it is, and how the audit was made whose answers are in `chain.json`. */
const List = Type.Array(HexOf(32), { maxItems: 10_000 });
export const PublishedSchema = Strict({
  version: Type.Literal(1),
  chainId: Count,
  contract: Address0x,
  flavour: FlavourSchema,
  /** The block as of which it was published. */
  block: Strict({ number: Count, hash: Word0x, timestamp: Count }),
  from: Count,
  /** How many blocks below the newest; null for the finalized one. */
  depth: Type.Union([Count, Type.Null()]),
  /** What is allowed as of that block, in words for people: an audit takes it from the events. */
  allowed: Strict({ measurement: List, config: List, platform: List }),
});
export type Published = Static<typeof PublishedSchema>;

export const PUBLISHED = 'published.json';
export const CHAIN = 'chain.json';
const PUBLISHED_MAX_BYTES = 4 * 1024 * 1024;

export interface Publication {
  readonly folder: string;
  readonly published: Published;
  /** Read when it is needed: it may be large. @throws PUBLISHED_CHAIN and the file system's own errors */
  tape(): Tape;
}

/** Whether there is a folder of this name. */
export const isFolder = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** @throws PUBLISHED_MALFORMED, and the file system's own errors */
export function readPublication(folder: string): Publication {
  const path = join(folder, PUBLISHED);
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new DstackError(
      'PUBLISHED_MALFORMED',
      `${folder} has no ${PUBLISHED}: it is not what \`npx dstack network publish\` wrote; for a relay's archive give the contract, and the folder as --archive`,
    );
  const text = readBounded(path, { maxBytes: PUBLISHED_MAX_BYTES }).toString();
  const published = parseJson(PublishedSchema, text, 'PUBLISHED_MALFORMED', path, PUBLISHED_MAX_BYTES);
  return {
    folder,
    published,
    tape: () => readTape(folder),
  };
}

function readTape(folder: string): Tape {
  const path = join(folder, CHAIN);
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new DstackError('PUBLISHED_CHAIN', `${folder} has no ${CHAIN}: ask the chain itself, --rpc URL`);
  return parseTape(readBounded(path, { maxBytes: TAPE_MAX_BYTES }).toString());
}
