import fc from 'fast-check';
import { expect, test } from 'vitest';
import { appsStatusLimits } from '../../lib/protocol/app-status.ts';
import { boundedLogs, shownMessage } from './shown.ts';

test('the last lines are kept, each cut', () => {
  const lines = Array.from({ length: 30 }, (_, n) => `line ${n}`);
  const { logs } = boundedLogs({ web: lines, db: ['x'.repeat(1000)] }, 10_000);
  expect(logs.web).toEqual(lines.slice(10));
  expect(logs.db).toEqual(['x'.repeat(300)]);
});

test('whatever is written, it takes no more than there is room for', () => {
  const texts = fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { maxLength: 40 });
  fc.assert(
    fc.property(texts, texts, fc.nat(20_000), (web, db, room) => {
      const { logs, bytes } = boundedLogs({ web, db }, room);
      const lines = Object.values(logs).flat();
      expect(bytes).toBe(lines.reduce((sum, line) => sum + Buffer.byteLength(JSON.stringify(line)), 0));
      expect(bytes).toBeLessThanOrEqual(Math.min(room, appsStatusLimits.logBytes));
    }),
    { numRuns: 30 },
  );
});

test('what an unforeseen error says stays in the VM', () => {
  expect(shownMessage('INTERNAL', 'a secret')).toBe("internal error; see the node's log");
  expect(shownMessage('APP_NOT_UP', 'x'.repeat(1000))).toBe('x'.repeat(500));
});
