import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printable } from './printable.ts';

const everyCodePoint = Array.from({ length: 0x110000 }, (_, code) => String.fromCodePoint(code));

test('what is to be seen stays as it is, in every script', () => {
  const text = 'Grüße, 数 «x» \\ 🂡 ~ {"a": "b"}';
  expect(printable(text)).toBe(text);
});

test('every control, every newline and every character that draws nothing is written out', () => {
  const bad = [
    ...Array.from({ length: 0x20 }, (_, code) => code),
    ...Array.from({ length: 0x21 }, (_, code) => 0x7f + code),
    ...[
      0xad, 0x061c, 0x180e, 0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x2060, 0x3164, 0xfe0f,
      0xfeff,
    ],
    ...[
      0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0xd800, 0xdfff, 0xe0001,
      0xe007f,
    ],
  ];
  for (const code of bad) {
    expect(printable(`a${String.fromCodePoint(code)}b`), code.toString(16)).toMatch(
      /^a(\\[nrt]|(\\u[0-9a-f]{4})+)b$/,
    );
  }
  const left = everyCodePoint.map(printable).join('');
  expect(left).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]/u);
  expect(left.isWellFormed()).toBe(true);
});

test('what looks like a space and is none is written out; a space stays', () => {
  for (const blank of everyCodePoint.filter((character) => /[\p{Zs}\u2800]/u.test(character))) {
    const expected = blank === ' ' ? 'a b' : `a\\u${blank.charCodeAt(0).toString(16).padStart(4, '0')}b`;
    expect(printable(`a${blank}b`)).toBe(expected);
  }
});

test('JSON is the same JSON afterwards', () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      const text = JSON.stringify(value);
      expect(JSON.parse(printable(text))).toEqual(JSON.parse(text));
    }),
  );
  expect(JSON.parse(printable(JSON.stringify(everyCodePoint.join(''))))).toBe(everyCodePoint.join(''));
});
