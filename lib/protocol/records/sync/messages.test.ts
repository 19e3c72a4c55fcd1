import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex, utf8 } from '../../encoding.ts';
import { codeOf } from '../../errors.ts';
import { MAX_RECORD_BYTES } from '../codec.ts';
import {
  decodeMessage,
  encodeMessage,
  MAX_IDS,
  MAX_MESSAGE_BYTES,
  type Message,
  sizeInMessage,
} from './messages.ts';
import { RECONCILE_LIMITS } from './reconcile.ts';

const ids = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }).map(toHex), {
  minLength: 1,
  maxLength: 20,
});
const session = fc.nat({ max: 0xffffffff });
const bytes = fc.uint8Array({ maxLength: 200 });
const messages: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ kind: fc.constant('hello' as const), network: ids.map(([id]) => id!), features: session }),
  fc.record({ kind: fc.constantFrom('question' as const, 'answer' as const), session, ranges: bytes }),
  fc.record({ kind: fc.constant('end' as const), session }),
  fc.record({ kind: fc.constantFrom('want' as const, 'lack' as const, 'announce' as const), ids }),
  fc.record({
    kind: fc.constant('records' as const),
    records: fc.array(bytes, { minLength: 1, maxLength: 9 }),
  }),
  fc.record({
    kind: fc.constant('pulses' as const),
    pulses: fc.array(
      fc.record({
        id: ids.map(([id]) => id!),
        minute: session,
        signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
      }),
      { minLength: 1, maxLength: 9 },
    ),
  }),
  fc.record({
    kind: fc.constant('pulse-digests' as const),
    digests: fc.uint8Array({ minLength: 2048, maxLength: 2048 }),
  }),
  fc.record({ kind: fc.constantFrom('ask' as const, 'tell' as const), number: session, what: bytes }),
  fc.record({ kind: fc.constant('refuse' as const), code: fc.constantFrom('SYNC_SIZE', 'A') }),
);
const refusal = (message: Uint8Array): string => {
  try {
    decodeMessage(message);
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
};

test('what is encoded is decoded as it was', () => {
  fc.assert(
    fc.property(messages, (message) => {
      const encoded = encodeMessage(message);
      expect(encodeMessage(decodeMessage(encoded))).toEqual(encoded);
      expect(decodeMessage(encoded).kind).toBe(message.kind);
    }),
  );
});

test('whatever the bytes, what is decoded has this encoding, and the rest is refused', () => {
  fc.assert(
    fc.property(fc.nat({ max: 12 }), fc.uint8Array({ maxLength: 120 }), (kind, noise) => {
      const message = Uint8Array.of(1, kind, ...noise);
      const code = refusal(message);
      if (code === 'none') expect(encodeMessage(decodeMessage(message))).toEqual(message);
      else expect(code).toMatch(/^SYNC_(KIND|TRUNCATED|TRAILING|COUNT|CODE)$/);
    }),
    { numRuns: 500 },
  );
});

test.each([
  ['of another version', '0204' + '00000000', 'SYNC_VERSION'],
  ['of no version', '', 'SYNC_TRUNCATED'],
  ['of an unknown kind', '0163', 'SYNC_KIND'],
  ['cut off', '01040000', 'SYNC_TRUNCATED'],
  ['with more than belongs to it', '010400000000ff', 'SYNC_TRAILING'],
  ['that asks for nothing', '0105', 'SYNC_TRUNCATED'],
  ['with a record longer than the message', '0106ffffffff00', 'SYNC_TRUNCATED'],
  ['with a code that is none', `0109${toHex(utf8('\u001b[2J'))}`, 'SYNC_CODE'],
])('a message is refused: %s', (_, hex, code) => {
  expect(refusal(fromHex(hex))).toBe(code);
});

test('a message has a size, and so many identities', () => {
  const many = Buffer.concat([Uint8Array.of(1, 5), new Uint8Array(32 * (MAX_IDS + 1))]);
  expect(refusal(many)).toBe('SYNC_COUNT');
  expect(refusal(many.subarray(0, -32))).toBe('none');
  expect(refusal(new Uint8Array(MAX_MESSAGE_BYTES + 1))).toBe('SYNC_SIZE');
  expect(() => encodeMessage({ kind: 'records', records: [new Uint8Array(MAX_MESSAGE_BYTES)] })).toThrow(
    /divide/,
  );
});

test('the largest record fits, and the largest question', () => {
  expect(2 + sizeInMessage(new Uint8Array(MAX_RECORD_BYTES))).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
  expect(6 + RECONCILE_LIMITS.messageBytes).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
});
