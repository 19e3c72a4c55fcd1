import { expect, test } from 'vitest';
import { NIL_BLOCK } from './consensus.ts';
import { voteSignBytes } from './sign-bytes.ts';
import {
  decide,
  decodeState,
  encodeState,
  markRestored,
  NOTHING_SIGNED,
  readRecord,
  type SignState,
} from './sign-state.ts';
import { EXAMPLE_VOTE } from './vectors.fixture.ts';

function vote(change: Partial<typeof EXAMPLE_VOTE> = {}): SignState {
  const asked = { ...EXAMPLE_VOTE, ...change };
  const { height, round } = asked;
  return { height, round, step: asked.type + 1, signBytes: voteSignBytes('c', asked) };
}

test('what comes after is signed once it is written', () => {
  const asked = vote();
  expect(decide(NOTHING_SIGNED, asked)).toEqual({ sign: asked.signBytes, write: asked });
  for (const before of [{ height: 2n, round: 9 }, { round: 1 }, { type: 1 }]) {
    expect(decide(vote(before), asked).write).toBe(asked);
  }
});

test('the same is signed again, with the time of the first', () => {
  const later = { seconds: 1_570_983_999n, nanos: 5 };
  expect(decide(vote(), vote())).toEqual({ sign: vote().signBytes });
  expect(decide(vote(), vote({ timestamp: later }))).toEqual({
    sign: vote().signBytes,
    timestamp: EXAMPLE_VOTE.timestamp,
  });
});

test('another block in the same step is conflicting data', () => {
  const conflict = expect.objectContaining({ code: 'SIGN_CONFLICT' });
  expect(() => decide(vote(), vote({ blockId: NIL_BLOCK }))).toThrow(conflict);
  for (const imported of [new Uint8Array(), Uint8Array.of(1, 2, 3), Uint8Array.of(2, 8, 1)])
    expect(() => decide({ ...vote(), signBytes: imported }, vote())).toThrow(conflict);
});

test.each([
  [{ height: 2n }, 'height regression'],
  [{ round: 1 }, 'round regression'],
  [{ type: 1 }, 'step regression'],
])('what comes before is refused: %s', (before, words) => {
  expect(() => decide(vote(), vote(before))).toThrow(words);
  expect(() => decide(vote(), vote(before))).toThrow(expect.objectContaining({ code: 'SIGN_REGRESSION' }));
});

test('a record is read as it was written, and one of another form is not taken for nothing', () => {
  expect(decodeState(encodeState(vote()))).toEqual(vote());
  const changed = [
    '',
    '{}',
    encodeState(vote()).replace('"version":1', '"version":2'),
    encodeState(vote()).replace('"round":2', '"round":-1'),
    encodeState(vote()).replace('"height":"3"', '"height":"03"'),
  ];
  for (const text of changed) {
    expect(() => decodeState(text)).toThrow(expect.objectContaining({ code: 'SIGN_STATE' }));
  }
});

test('the record of a backup is no record to sign on, however often it was marked', () => {
  const marked = markRestored(encodeState(vote()));
  expect(() => decodeState(marked)).toThrow(expect.objectContaining({ code: 'STORE_RESTORED' }));
  expect(readRecord(marked)).toEqual({ state: vote(), isRestored: true });
  expect(markRestored(marked)).toBe(marked);
  expect(() => decodeState(marked.replace('true', 'false'))).toThrow(
    expect.objectContaining({ code: 'SIGN_STATE' }),
  );
  expect(markRestored('no record')).toBe('no record');
});
