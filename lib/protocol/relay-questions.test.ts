import fc from 'fast-check';
import { expect, test } from 'vitest';
import { codeOf } from './errors.ts';
import {
  decodeArchived,
  decodeNames,
  decodePart,
  decodeQuestion,
  encodeArchived,
  encodeNames,
  encodePart,
  encodeQuestion,
  LAST_PART,
  MAX_NAMES,
  type RelayQuestion,
} from './relay-questions.ts';
import { PART_BYTES } from './sha256-parts.ts';

const name = 'ab'.repeat(32);
const piece = 'cd'.repeat(32);
const questions: RelayQuestion[] = [
  { kind: 'part', of: 'manifests', name, piece: name, part: LAST_PART },
  { kind: 'part', of: 'secrets', name, piece: name, part: 0 },
  { kind: 'part', of: 'archives', name, piece, part: 70_000 },
  { kind: 'names', after: '' },
  { kind: 'names', after: `request-${name}-0123456789abcdef.json` },
  { kind: 'archived', name: `config-${name}.json`, at: 65_536 },
];

test.each(questions)('$kind: what is encoded is decoded as it was', (question) => {
  expect(decodeQuestion(encodeQuestion(question))).toEqual(question);
});

test('bytes that are no question are refused, and nothing else is thrown', () => {
  const [first] = questions.map(encodeQuestion) as [Uint8Array];
  const wrong = [
    [],
    [1],
    [2, ...first.subarray(1)],
    [1, 4],
    [1, 1, 9, ...first.subarray(3)],
    first.subarray(0, -1),
    [...first, 0],
    [1, 3, 0, 0, 0, 0],
    [1, 2, ...new Uint8Array(201)],
  ];
  for (const bytes of wrong) {
    expect(() => decodeQuestion(Uint8Array.from(bytes))).toThrow(
      expect.objectContaining({ code: 'RELAY_QUESTION' }),
    );
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        decodeQuestion(bytes);
      } catch (error) {
        expect(codeOf(error)).toBe('RELAY_QUESTION');
      }
    }),
  );
});

const refused = expect.objectContaining({ code: 'RELAY_ANSWER' });

test('parts and files', () => {
  const part = { length: 2 ** 40, state: new Uint8Array(32).fill(1), bytes: new Uint8Array(PART_BYTES) };
  expect(decodePart(encodePart(part))).toEqual(part);
  const file = { length: 5, bytes: Uint8Array.of(1, 2) };
  expect(decodeArchived(encodeArchived(file))).toEqual(file);
  for (const length of [37, 6 + 32 + PART_BYTES + 1])
    expect(() => decodePart(new Uint8Array(length))).toThrow(refused);
  for (const length of [3, 4 + PART_BYTES + 1])
    expect(() => decodeArchived(new Uint8Array(length))).toThrow(refused);
});

test('names come in order, after the one that was named, and no more than an answer holds', () => {
  const names = Array.from(
    { length: 1200 },
    (_, i) => `answer-${String(i).padStart(64, '0')}-${'0'.repeat(16)}.json`,
  );
  const some = decodeNames(encodeNames(names), '');
  expect(some).toEqual(names.slice(0, MAX_NAMES));
  expect(decodeNames(encodeNames([]), names[3]!)).toEqual([]);
  const wrong = [
    encodeNames(['b', 'a']),
    encodeNames(['a', 'a']),
    new Uint8Array(0),
    Uint8Array.of(1, 9, 65),
  ];
  for (const bytes of wrong) expect(() => decodeNames(bytes, '')).toThrow(refused);
  expect(() => decodeNames(encodeNames(['a']), 'a')).toThrow(refused);
});
