/** Where a zstd frame ends (RFC 8878, section 3.1.1), so that nothing behind it is overlooked. */
import { DstackError } from '../../lib/protocol/errors.ts';

const MAGIC = 0xfd2fb528;
/** An RLE block takes one byte, whatever its length. */
const RUN = 1;
const RESERVED = 3;

/** @throws DstackError IMAGE_INVALID when no whole frame begins here. */
export function zstdFrameBytes(bytes: Buffer): number {
  const cutOff = () => new DstackError('IMAGE_INVALID', 'it is not a whole zstd frame');
  if (bytes.length < 6 || bytes.readUInt32LE(0) !== MAGIC) throw cutOff();
  const descriptor = bytes[4]!;
  const single = (descriptor >>> 5) & 1;
  const contentSize = [single, 2, 4, 8][descriptor >>> 6]!;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  let at = 5 + (1 - single) + dictionary + contentSize;
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) throw cutOff();
    const header = bytes.readUIntLE(at, 3);
    const type = (header >>> 1) & 3;
    if (type === RESERVED) throw cutOff();
    last = (header & 1) === 1;
    at += 3 + (type === RUN ? 1 : header >>> 3);
  }
  const end = at + ((descriptor >>> 2) & 1) * 4;
  if (end > bytes.length) throw cutOff();
  return end;
}
