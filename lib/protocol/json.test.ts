import fc from 'fast-check';
import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { hasMoreValues, parseUniqueJson } from './json.ts';
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

test('the values of a text are counted as they stand in it, an empty object or array twice', () => {
  const countOf = (value: unknown): number => {
    if (value === null || typeof value !== 'object') return 1;
    const inside = Object.values(value);
    return inside.length === 0 ? 2 : inside.reduce((sum: number, one) => sum + countOf(one), 1);
  };
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      const count = countOf(value);
      if (count > 1) expect(hasMoreValues(text, count - 1)).toBe(true);
      expect(hasMoreValues(text, count)).toBe(false);
    }),
  );
});

test('values are counted of what is no JSON, too', () => {
  for (const text of ['', '"', '"\\', '"\\"', '{"a', ',"\\\\\\"', '\\"'])
    expect(hasMoreValues(text, 3), text).toBe(false);
  expect(hasMoreValues('[[[', 3)).toBe(true);
  expect(hasMoreValues(',,,"', 3)).toBe(true);
  fc.assert(fc.property(fc.string(), (text) => !hasMoreValues(text, text.length + 1)));
});

test('a text of a megabyte takes no longer than a moment', () => {
  const text = `{${Array.from({ length: 60_000 }, (_, at) => `"key ${at}":"\\"{"`).join(',')}}`;
  const begin = performance.now();
  parseUniqueJson(text);
  parseUniqueJson(`"${'\\\\'.repeat(500_000)}"`);
  expect(performance.now() - begin).toBeLessThan(5_000);
});
