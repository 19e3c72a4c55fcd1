/**
 * Brings one file of an app from another relay by records, into a draft. The parts that are there stay there, whoever gave them: another relay, or this one
 * after a restart, goes on with the next. What is small is one part; an image's archive is made here of its pieces.
 */
import { writeFile } from 'node:fs/promises';
import { CONFIG_IN_ARCHIVE_MAX_BYTES, ImageRefused, layersInConfig } from '../../lib/archives/archive.ts';
import { alignUp } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { AskablePeer } from '../gossip/carrier.ts';
import { APP_FILE_MAX_BYTES, type AppFileKind } from './app-files.ts';
import { type AskedPiece, lastPart, partsBefore } from './asked-parts.ts';
import { ImageDraft } from './image-draft.ts';

/** Whose drafts are everybody's: no other kind of draft has this mark. */
export const RECORDS_MARK = '0'.repeat(16);
/** A header, and the blocks that a piece and the archive's end may need. */
const AROUND = 4096;

export interface ByRecords {
  readonly peer: AskablePeer;
  readonly kind: AppFileKind;
  /** 64 hex digits. */
  readonly hash: string;
  readonly draft: string;
  /** Milliseconds for each part, and for all. */
  readonly partWithin: number;
  readonly within: number;
  readonly signal: AbortSignal;
  /** @throws where the volume has no room for so many bytes more */
  requireRoom(bytes: number): Promise<void>;
}

/**
 * False when the peer does not have it. What came is in the draft, also of what throws.
 * @throws Lie for a peer that sent something else; ImageRefused for an image that no relay takes; APP_FILE_SLOW, APP_FILE_PEER, WIRE_*
 */
export async function bringByRecords(options: ByRecords): Promise<boolean> {
  return options.kind === 'archives' ? await bringImage(options) : await bringSmall(options);
}

async function bringSmall(options: ByRecords): Promise<boolean> {
  const { kind, hash, draft } = options;
  const part = await lastPart(pieceOf(options, hash));
  if (part === undefined) return false;
  requireSize(part.length, APP_FILE_MAX_BYTES[kind]);
  await options.requireRoom(part.length);
  await writeFile(draft, part.bytes, { mode: 0o644, flush: true });
  return true;
}

async function bringImage(options: ByRecords): Promise<boolean> {
  const { hash, draft: path } = options;
  const until = performance.now() + options.within;
  const draft = await ImageDraft.open(path);
  try {
    if (!(await bringPiece(options, draft, hash, CONFIG_IN_ARCHIVE_MAX_BYTES, until))) return false;
    const layers = layersInConfig(await draft.read(hash));
    for (const layer of layers)
      if (!(await bringPiece(options, draft, layer, APP_FILE_MAX_BYTES.archives, until))) return false;
    await draft.finish(hash, layers);
    return true;
  } finally {
    await draft.note();
    await draft.close();
  }
}

/** Whether all of the piece is in the draft now. */
async function bringPiece(
  options: ByRecords,
  draft: ImageDraft,
  piece: string,
  most: number,
  until: number,
): Promise<boolean> {
  if (draft.has(piece)) return true;
  const asked = pieceOf(options, piece);
  if (draft.unfinished === undefined) {
    const last = await lastPart(asked);
    if (last === undefined) return false;
    requireSize(last.length, most);
    requireSize(draft.size + alignUp(last.length, 512) + AROUND, APP_FILE_MAX_BYTES.archives);
    await options.requireRoom(last.length + AROUND);
    draft.begin(piece, last.length, last.state);
    await draft.put(last.bytes, last.state);
  }
  const rest = draft.unfinished;
  if (rest === undefined) return true;
  for await (const part of partsBefore(asked, rest.left, rest.state)) {
    await draft.put(part.bytes, part.state);
    if (performance.now() > until)
      throw new DstackError('APP_FILE_SLOW', `${options.peer.peer} took too long for one file`);
  }
  return true;
}

function pieceOf(options: ByRecords, piece: string): AskedPiece {
  const { peer, kind, hash, partWithin, signal } = options;
  return { peer, of: kind, name: hash, piece, within: partWithin, signal };
}

/** The length is the digest's: it is nobody's lie. @throws an ImageRefused */
function requireSize(length: number, most: number): void {
  if (length <= most) return;
  throw new ImageRefused('APP_FILE_TOO_LARGE', `it has ${length} bytes, and may have ${most}`);
}
