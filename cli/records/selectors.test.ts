import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { MAX_ORDINAL } from '../../lib/protocol/records/ordinals.ts';
import { UsageError } from '../command.ts';
import { parseSelections, showName } from './selectors.ts';

const one = (text: string) => parseSelections([text])[0]!;

test('a name, an ordinal, a range, all', () => {
  const name = utf8('a b');
  expect(one('a b')).toEqual({ name, from: 0n, to: 0n });
  expect(one('a b#7')).toEqual({ name, from: 7n, to: 7n });
  expect(one('a b#7#18446744073709551615')).toEqual({ name, from: 7n, to: MAX_ORDINAL });
  expect(one('a b#')).toEqual({ name, from: 0n, to: MAX_ORDINAL });
  expect(one('issue \\#7#8')).toEqual({ name: utf8('issue #7'), from: 8n, to: 8n });
  expect(one('\\xff\\x00z').name).toEqual(Uint8Array.of(255, 0, 122));
  expect(one('C:\\temp').name).toEqual(utf8('C:\\temp'));
});

test('any name is read back as it is shown', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ minLength: 1 }), fc.stringMatching(/^[\\#x0-9a]+$/).map(utf8)),
      (name) => {
        expect(one(`${showName(name)}#5`)).toEqual({ name: new Uint8Array(name), from: 5n, to: 5n });
      },
    ),
  );
});

test.each([
  '',
  '#',
  '#1',
  'a#b',
  'a#-1',
  'a#1#',
  'a#1#2#3',
  'a#9#8',
  'a##',
  'a#18446744073709551616',
  'a#0x1',
  'a# 1',
  'a#1 ',
])('%j is a mistake', (text) => {
  expect(() => parseSelections([text])).toThrow(UsageError);
});

test('one name twice is a mistake', () => {
  expect(() => parseSelections(['a#1', 'b', 'a#2'])).toThrow(UsageError);
});
