/**
 * Every byte of a quote and of each piece of its collateral, changed one at a time: nothing may be accepted. What was
 * checked of the unchanged pieces is remembered, so this also shows that memory never vouches for what it has not seen.
 */
import { describe, expect, test } from 'vitest';
import { INTEL_ROOT, SIMULATED_ROOT, type TrustRoot } from './certificates/trust-roots.ts';
import { type Collateral, collateralOf } from './collateral/collateral.ts';
import { AttestationError } from './errors.ts';
import { judgeQuote } from './judge.ts';
import { createMemory } from './memory.ts';
import { simulatedCollateral } from './simulated/collateral.ts';
import {
  flipped,
  publishedQuote,
  readPublishedCollateral,
  readPublishedQuote,
  simulatedCase,
  TEST_NOW,
} from './testing.ts';

interface Subject {
  name: string;
  trustRoot: TrustRoot;
  quote: Uint8Array;
  collateral: Collateral;
  now: Date;
}

function published(name: string): Subject {
  const quote = publishedQuote(name);
  const collateral = quote.collateral[0]!;
  return {
    name,
    trustRoot: INTEL_ROOT,
    quote: readPublishedQuote(quote),
    collateral: readPublishedCollateral(collateral),
    now: new Date(collateral.verify_at_unix * 1000),
  };
}

function simulated(): Subject {
  const { platform, registers, reportData } = simulatedCase();
  return {
    name: 'a simulated quote with TD report 1.5',
    trustRoot: SIMULATED_ROOT,
    quote: platform.signQuote({ registers, reportData, layout: '5/1.5' }),
    collateral: simulatedCollateral(),
    now: TEST_NOW,
  };
}

const subjects = [
  published('sgx-v3-00906ed50000-0b5bc73c-quartz'),
  published('tdx-v4-00806f050000-4b23198a-automata'),
  published('tdx-v5-90c06f000000-d0010db6-automata'),
  simulated(),
];

describe.each(subjects)('$name', ({ trustRoot, quote, collateral, now }) => {
  const memory = createMemory(trustRoot);
  const accepts = (bytes: Uint8Array, pieces: Collateral) =>
    judgeQuote(bytes, { trustRoot, collateral: pieces, now, memory }).verdict === 'accept';

  test(`the ${quote.length} bytes of the quote`, () => {
    expect(accepts(quote, collateral)).toBe(true);
    const accepted: number[] = [];
    for (let offset = 0; offset < quote.length; offset++) {
      if (accepts(flipped(quote, offset, 1 << (offset % 8)), collateral)) accepted.push(offset);
    }
    expect(accepted).toEqual([]);
    expect(accepts(quote, collateral)).toBe(true);
  });

  test.each(Object.keys(collateral) as (keyof Collateral)[])('every character of %s', (piece) => {
    const text = collateral[piece];
    const accepted: number[] = [];
    for (let offset = 0; offset < text.length; offset++) {
      const other = String.fromCharCode(text.charCodeAt(offset) ^ (1 << (offset % 7)));
      const changed = { ...collateral, [piece]: text.slice(0, offset) + other + text.slice(offset + 1) };
      if (isCollateral(changed) && accepts(quote, changed)) accepted.push(offset);
    }
    expect(accepted).toEqual([]);
    expect(accepts(quote, collateral)).toBe(true);
  });
});

test('how many flips that is', () => {
  const flips = subjects.map(
    ({ quote, collateral }) => quote.length + Object.values(collateral).join('').length,
  );
  expect(flips.reduce((sum, count) => sum + count)).toBeGreaterThan(75_000);
});

function isCollateral(value: unknown): boolean {
  try {
    collateralOf(value);
    return true;
  } catch (error) {
    if (error instanceof AttestationError) return false;
    throw error;
  }
}
