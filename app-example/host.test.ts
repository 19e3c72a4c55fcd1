import { expect, test } from 'vitest';
import { forgeSite } from '../test/support/forge-site.ts';
import { SCENE, SECRET } from '../test/support/greeting.ts';
import { check, type Evidence } from './page/evidence.ts';
import { hostDoubt } from './page/host.ts';

const nonce = new Uint8Array(32).fill(5);
const said = (hostImpersonable: boolean): Evidence =>
  forgeSite(SCENE, SECRET, nonce, { said: { hostImpersonable } });
const holds = (evidence: Evidence) => check(evidence, '05'.repeat(32)).every((step) => step.holds);

test('what a node signed is said: that its host could have a certificate, or that it saw the DNS forbid it', () => {
  for (const [isPossible, state] of [
    [true, 'possible'],
    [false, 'forbidden'],
  ] as const) {
    const evidence = said(isPossible);
    expect(hostDoubt(evidence, holds(evidence), undefined).state).toBe(state);
  }
});

test('only a signed false is a no: not evidence that is wrong, not another word, not the unsigned status', () => {
  const altered = { ...said(true), hostImpersonable: false };
  expect(hostDoubt(altered, holds(altered), { hostImpersonable: false }).state).toBe('unsaid');
  for (const odd of [undefined, null, 0, '', 'false'])
    expect(hostDoubt({ ...said(true), hostImpersonable: odd }, true, undefined).state).toBe('possible');
  expect(hostDoubt(said(true), true, { hostImpersonable: false }).state).toBe('possible');
});

test.each([
  ['CAA_UNKNOWN', 'ask again in a minute'],
  ['CAA_POLICY', 'site.acme'],
  ['CAA_RESOLVERS', 'site.resolvers'],
  ['DNS_QUORUM', 'compare with another node'],
  ['CAA_MISSING', 'set the CAA records'],
  ['CAA_ACCOUNT', 'set the CAA records'],
])('%s: the owner is told what to do, a visitor too', (code, told) => {
  const { advice } = hostDoubt(said(true), true, { caa: { code, reason: 'of the node' } });
  expect(advice[0]).toMatch(/^If you visit: .*site verify/);
  expect(advice[1]).toContain(`If the website is yours: `);
  expect(advice[1]).toContain(told);
});

test('a status of any form only chooses between sentences of the page', () => {
  const usual = hostDoubt(said(true), true, undefined);
  for (const odd of [
    null,
    5,
    'CAA_POLICY',
    [],
    { caa: null },
    { caa: { code: '<b>' } },
    { caa: { code: 'constructor' } },
  ])
    expect(hostDoubt(said(true), true, odd)).toEqual(usual);
});
