import fc from 'fast-check';
import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { parseUniqueJson } from './json.ts';
import { parseJson } from './schema.ts';

test.each([
  '{"a":1,"a":1}',
  '{"a":1,"\\u0061":2}',
  '{ "a" : {}, "b": [1, {"c": 1, "d": "{", "c" : 2}] }',
  '[{"a":{"x":1}},{"a":1,"b":{"a":1},"a":2}]',
  '{"":1,"":2}',
  '{"__proto__":1,"__proto__":2}',
  '{"\\"":1,"\\u0022":2}',
  '{"a":"b","b":"a","a"\n:1}',
])('a key that an object has twice is refused: %s', (text) => {
  expect(() => parseUniqueJson(text)).toThrow(/twice/);
  expect(() => parseJson(Type.Unknown(), text, 'CODE', 'it', 1000)).toThrow(/it has .*twice|twice/);
});

test('everything else is what JSON.parse makes of it', () => {
  for (const text of [
    '{"a":"a","b":["a","a"],"c":{"a":{"a":1}},"d":{"a":1}}',
    '[":",{"}":"{\\":"}]',
    '"a"',
    '1',
    'null',
  ]) {
    expect(parseUniqueJson(text)).toEqual(JSON.parse(text));
  }
  expect(() => parseUniqueJson('{"a":1,}')).toThrow(SyntaxError);
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(parseUniqueJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

test('a text of a megabyte takes no longer than a moment', () => {
  const text = `{${Array.from({ length: 60_000 }, (_, at) => `"key ${at}":"\\"{"`).join(',')}}`;
  const begin = performance.now();
  parseUniqueJson(text);
  parseUniqueJson(`"${'\\\\'.repeat(500_000)}"`);
  expect(performance.now() - begin).toBeLessThan(5_000);
});
