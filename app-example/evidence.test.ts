import { expect, test } from 'vitest';
import type { SiteEvidence } from '../lib/protocol/site-evidence.ts';
import { forgeSite } from '../test/support/forge-site.ts';
import { SCENE, SECRET } from '../test/support/greeting.ts';
import { check, type Evidence } from './page/evidence.ts';

const nonce = new Uint8Array(32).fill(5);
const NONCE = '05'.repeat(32);
const honest = forgeSite(SCENE, SECRET, nonce);
const wrongIn = (evidence: Evidence, asked = NONCE) =>
  check(evidence, asked).flatMap(({ name, holds }) => (holds ? [] : [name]));

test('what a node gives holds in every step', () => {
  expect(check(honest, NONCE).map(({ name, holds, why }) => [name, holds, why])).toEqual(
    ['nonce', 'signature', 'quote', 'statement', 'measurement'].map((name) => [name, true, undefined]),
  );
});

test('evidence of another visit is wrong', () => {
  expect(wrongIn(honest, '06'.repeat(32))).toEqual(['nonce']);
});

test('a quote of another app, of another machine or of no words of ours is wrong, whoever signed it', () => {
  expect(wrongIn(forgeSite(SCENE, SECRET, nonce, { reportData: new Uint8Array(64) }))).toEqual(['statement']);
  expect(
    wrongIn(
      forgeSite(SCENE, SECRET, nonce, { signed: { measurement: '11'.repeat(32) as SiteEvidence['config'] } }),
    ),
  ).toEqual(['measurement']);
  expect(wrongIn({ ...honest, networkKey: `0x${'22'.repeat(20)}` })).toEqual(['signature', 'statement']);
});

const flip = (hex: string, at: number): string =>
  hex.slice(0, at) + (hex[at] === '0' ? '1' : '0') + hex.slice(at + 1);

test.each([
  'chainId',
  'contract',
  'networkKey',
  'epoch',
  'publicKey',
  'nonce',
  'measurement',
  'config',
  'platform',
  'blockNumber',
  'blockHash',
  'hostImpersonable',
  'quoteHash',
] as const)('a %s that was altered on the way is noticed', (field) => {
  const value = honest[field];
  const altered =
    typeof value === 'string'
      ? flip(value, value.length - 1)
      : typeof value === 'number'
        ? value + 1
        : !value;
  expect(wrongIn({ ...honest, [field]: altered })).toContain('signature');
});

test('every byte of header and body of the quote is covered, and both numbers of the signature', () => {
  for (let byte = 0; byte < 48 + 584; byte += 13)
    expect(wrongIn({ ...honest, quote: flip(honest.quote, 2 * byte) }), `byte ${byte}`).not.toEqual([]);
  for (const part of ['r', 'vs'] as const) {
    const signature = { ...honest.signature, [part]: flip(honest.signature[part], 30) };
    expect(wrongIn({ ...honest, signature })).toEqual(['signature']);
  }
});

test('what is no evidence at all is wrong in every step, and breaks nothing', () => {
  for (const odd of [
    {},
    { signature: null },
    { signature: { r: '0x', vs: 5 }, quote: 'zz', nonce: {} },
    { ...honest, quote: '00' },
  ])
    expect(wrongIn(odd as Evidence)).toContain('quote');
  expect(wrongIn({})).toEqual(['nonce', 'signature', 'quote', 'statement', 'measurement']);
});
