/**
 * The parts of a piece as another relay gives them by records: from the last to the first, each found to be the one before anything is done with it. A few are
 * asked for at a time. A relay that gives something else is found out at that part.
 */
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  decodePart,
  encodeQuestion,
  LAST_PART,
  type PartAnswer,
  type PieceKind,
} from '../../lib/protocol/relay-questions.ts';
import { requireLastPart, requirePartBefore } from '../../lib/protocol/sha256-parts.ts';
import type { AskablePeer } from '../gossip/carrier.ts';

/** Parts that are on their way at once: half a mebibyte. */
const AT_ONCE = 8;

export interface AskedPiece {
  readonly peer: AskablePeer;
  readonly of: PieceKind;
  /** The file's name and the piece's SHA-256, 64 hex digits. */
  readonly name: string;
  readonly piece: string;
  /** Milliseconds for each part. */
  readonly within: number;
  readonly signal: AbortSignal;
}

/** The peer sent what is not what its name says. */
export class Lie extends DstackError {}

/** The last part; undefined where the peer does not have the piece. @throws Lie, APP_FILE_SLOW, WIRE_* */
export async function lastPart(asked: AskedPiece): Promise<PartAnswer | undefined> {
  const found = await partOf(asked, LAST_PART);
  if (found !== undefined) {
    judged(asked, () => requireLastPart(found, found.length, fromHex(asked.piece, 32)));
  }
  return found;
}

/**
 * So many parts from the beginning of the piece, from the last of them to the first.
 * @param next the state behind them, which is known to be right
 * @throws Lie, APP_FILE_PEER where the peer does not have one, APP_FILE_SLOW, WIRE_*
 */
export async function* partsBefore(
  asked: AskedPiece,
  left: number,
  next: Uint8Array,
): AsyncGenerator<PartAnswer> {
  let state = next;
  const coming: Promise<PartAnswer | undefined>[] = [];
  let wanted = left - 1;
  for (let index = left - 1; index >= 0; index -= 1) {
    for (; wanted >= 0 && coming.length < AT_ONCE; wanted -= 1) {
      const part = partOf(asked, wanted);
      // Those that are not waited for any more fail for themselves.
      part.catch(() => {});
      coming.push(part);
    }
    const part = await coming.shift()!;
    if (part === undefined)
      throw new DstackError(
        'APP_FILE_PEER',
        `${asked.peer.peer} does not have all of ${asked.piece} any more`,
      );
    judged(asked, () => requirePartBefore(part, index, state));
    state = part.state;
    yield part;
  }
}

async function partOf({ peer, of, name, piece, within, signal }: AskedPiece, part: number) {
  const what = encodeQuestion({ kind: 'part', of, name, piece, part });
  const answer = await inTime(peer.ask(what), within, signal);
  if (answer.length === 0) return undefined;
  return judged({ peer, piece }, () => decodePart(answer));
}

function judged<T>({ peer, piece }: Pick<AskedPiece, 'peer' | 'piece'>, judge: () => T): T {
  try {
    return judge();
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw new Lie(cause.code, `${peer.peer} sent something else for ${piece}: ${cause.message}`, { cause });
  }
}

/** @throws APP_FILE_SLOW */
export async function inTime<T>(work: Promise<T>, within: number, signal: AbortSignal): Promise<T> {
  work.catch(() => {});
  const late = Promise.withResolvers<never>();
  const end = (why: string) => () => late.reject(new DstackError('APP_FILE_SLOW', why));
  const timer = setTimeout(end(`nothing came in ${within / 1000} s`), within);
  const ended = end('this relay is stopping');
  signal.addEventListener('abort', ended);
  try {
    if (signal.aborted) ended();
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', ended);
  }
}
