import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  FIRST_STATE,
  type FilePart,
  PART_BYTES,
  partsOf,
  requireLastPart,
  requirePartBefore,
  sizeOfPart,
  stateAfter,
} from './sha256-parts.ts';

const refused = { code: 'PART_MISMATCH' };

/** A file in parts, each with the state before it. */
function partsIn(file: Uint8Array): FilePart[] {
  let state: Uint8Array = FIRST_STATE;
  return Array.from({ length: partsOf(file.length) }, (_, i) => {
    const part = { state, bytes: file.subarray(i * PART_BYTES, i * PART_BYTES + sizeOfPart(file.length, i)) };
    if (part.bytes.length === PART_BYTES) state = stateAfter(state, part.bytes);
    return part;
  });
}

const digestOf = (file: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(file).digest());
const flipped = (bytes: Uint8Array, at = 0): Uint8Array =>
  bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

test.each([0, 1, 55, 64, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 777])(
  'a file of %i bytes is known part by part, from its end, by the digest that node:crypto gives it',
  (length) => {
    const file = new Uint8Array(randomBytes(length));
    const parts = partsIn(file);
    requireLastPart(parts.at(-1)!, length, digestOf(file));
    for (let i = parts.length - 2; i >= 0; i -= 1) requirePartBefore(parts[i]!, i, parts[i + 1]!.state);
  },
);

test('whatever of a part is another is seen at that part', () => {
  const length = 2 * PART_BYTES + 777;
  const file = new Uint8Array(randomBytes(length));
  const digest = digestOf(file);
  const [first, second, last] = partsIn(file) as [FilePart, FilePart, FilePart];
  const lasts: [FilePart, number, Uint8Array][] = [
    [{ ...last, bytes: flipped(last.bytes, 776) }, length, digest],
    [{ ...last, state: flipped(last.state) }, length, digest],
    // Its length is in the digest, and so is whether it is cut.
    [last, length + PART_BYTES, digest],
    [{ ...last, bytes: last.bytes.subarray(1) }, length - 1, digest],
    [{ ...last, bytes: last.bytes.subarray(1) }, length, digest],
    [last, length, flipped(digest)],
  ];
  for (const wrong of lasts)
    expect(() => requireLastPart(...wrong)).toThrow(expect.objectContaining(refused));
  const before: [FilePart, number, Uint8Array][] = [
    [{ ...second, bytes: flipped(second.bytes, 65_535) }, 1, last.state],
    [{ ...second, state: flipped(second.state, 31) }, 1, last.state],
    [{ ...second, bytes: second.bytes.subarray(0, 64) }, 1, last.state],
    // The end of a part ends in the same state, and belongs elsewhere.
    [
      { state: stateAfter(second.state, second.bytes.subarray(0, 64)), bytes: second.bytes.subarray(64) },
      1,
      last.state,
    ],
    [first, 1, last.state],
    // A file can't begin with another state than SHA-256 does.
    [second, 0, last.state],
  ];
  for (const wrong of before) {
    expect(() => requirePartBefore(...wrong)).toThrow(expect.objectContaining(refused));
  }
  requirePartBefore(second, 1, last.state);
});
