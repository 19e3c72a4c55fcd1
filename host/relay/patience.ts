/**
 * For how long a relay need not know of the events of a block that is not read yet. The block's filter names the requests that they are about; of
 * those that this relay holds it knows when its turn is to do something, and most of them others see to before. So a relay among many reads
 * what happened with the blocks that it reads anyway.
 */
import type { UnreadBlock } from '../../lib/framework/handler.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';

/**
 * Of so many one reading serves many; and each is looked for in the filter of each block, every second and with each message. Strangers can send as many:
 * then each block is read.
 */
const MANY = 64;
/** Requests that are held: among more of them those are not even looked for. */
export const BUSY = 1024;
/**
 * The part of a request's window after which a block is read whoever is named in it. Anyone can have its filter name a request that others have
 * answered, as one of long ago, beside one that nobody has told this relay of: where windows are short that would be over.
 */
const PART = 1 / 4;

/**
 * Milliseconds.
 * @param window in which a request can be answered, blocks
 * @param about requests that such events may be about, as far as this relay knows: none of which it has seen the event
 * @param pauseOf milliseconds from the block until this relay may have something to do for a request; infinite when others have done it
 */
export function patienceFor(
  { age, followed, names }: UnreadBlock,
  window: number,
  about: readonly string[],
  pauseOf: (requestHash: Hex) => number,
): number {
  if (about.length > MANY) return 0;
  if (followed + 1 > window * PART) return 0;
  const named = about.filter(names);
  // Of something that has not come here: it has to be looked for.
  if (named.length === 0) return 0;
  return Math.min(...named.map((hash) => pauseOf(parseHex(hash)))) - age;
}
