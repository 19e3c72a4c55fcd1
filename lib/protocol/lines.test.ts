import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineSplitter } from './lines.ts';

test('lines come out the same, however the stream is cut', () => {
  const text = fc.stringMatching(/^[a-z]{0,20}$/);
  fc.assert(
    fc.property(fc.array(text), fc.array(fc.integer({ min: 1, max: 9 })), (lines, cuts) => {
      const stream = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      const splitter = new LineSplitter(10);
      const out = [];
      let at = 0;
      for (const cut of [...cuts, stream.length]) {
        out.push(...splitter.push(stream.subarray(at, at + cut)));
        at += cut;
      }
      expect(out).toEqual(lines.map((line) => (line.length > 10 ? { tooLong: true } : { text: line })));
    }),
  );
});

test('nothing of an endless line is kept, and the line after it is read', () => {
  const splitter = new LineSplitter(4);
  for (let round = 0; round < 1_000; round++) expect(splitter.push(Buffer.alloc(1_000, 'x'))).toEqual([]);
  expect(splitter.push(Buffer.from('x\nab'))).toEqual([{ tooLong: true }]);
  expect(splitter.push(Buffer.from('cd\n'))).toEqual([{ text: 'abcd' }]);
});

test('the caller may reuse its buffer', () => {
  const splitter = new LineSplitter(10);
  const buffer = Buffer.from('abc');
  splitter.push(buffer);
  buffer.fill('z');
  expect(splitter.push(Buffer.from('\n'))).toEqual([{ text: 'abc' }]);
});
