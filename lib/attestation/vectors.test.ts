/** Every published quote under every collateral that exists for it: what Intel's rules say, at each end of its window. */
import { describe, expect, test } from 'vitest';
import { INTEL_ROOT } from './certificates/trust-roots.ts';
import { type Judgement, judgeQuote } from './judge.ts';
import type { Policy } from './policy.ts';
import {
  PUBLISHED_QUOTES,
  type PublishedCollateral,
  type PublishedQuote,
  publishedQuote,
  readPublishedCollateral,
  readPublishedQuote,
} from './testing.ts';

function judge(
  quote: PublishedQuote,
  published: PublishedCollateral,
  at: number,
  policy?: Policy,
): Judgement {
  const collateral = readPublishedCollateral(published);
  return judgeQuote(
    readPublishedQuote(quote),
    { trustRoot: INTEL_ROOT, collateral, now: new Date(at) },
    policy,
  );
}

const pairs = PUBLISHED_QUOTES.flatMap((quote) =>
  quote.collateral.map((collateral) => ({ quote, collateral })),
);

test('46 quotes have collateral, 92 pairs in all', () => {
  expect(new Set(pairs.map(({ quote }) => quote.name)).size).toBe(46);
  expect(pairs).toHaveLength(92);
});

describe.each(pairs)('$quote.name with $collateral.file', ({ quote, collateral }) => {
  const { expected_status: expected } = collateral;
  const first = Date.parse(collateral.valid_from);
  const last = Date.parse(collateral.valid_to);
  const inside = [first, collateral.verify_at_unix * 1000, last];

  if (expected.startsWith('ERR')) {
    test('is refused: no TCB level', () => {
      for (const at of inside) {
        expect(judge(quote, collateral, at)).toMatchObject({
          verdict: 'reject',
          code: 'TCB_NOT_SUPPORTED',
          status: null,
        });
      }
    });
  } else {
    test(`is accepted as ${expected}`, () => {
      for (const at of inside) {
        const judgement = judge(quote, collateral, at);
        expect(judgement).toMatchObject({ verdict: 'accept', code: null, status: expected });
        const { platform, module, qe } = judgement.appraisal!.tcb;
        expect(platform.status).toBe(collateral.level_status);
        // Level advisories are listed by the vectors; ours are those and the module's.
        expect(judgement.advisories).toEqual(expect.arrayContaining(collateral.level_advisories ?? []));
        expect(qe.status).toBe(collateral.qe_status);
        const moduleStatus = quote.tee === 'SGX' ? null : (module?.status ?? 'OK');
        expect(moduleStatus).toBe(collateral.tdx_module_status);
        const { tcbInfo, qeIdentity } = judgement.appraisal!;
        expect(tcbInfo.tcbEvaluationDataNumber).toBe(collateral.tcb_eval_number);
        expect(qeIdentity.tcbEvaluationDataNumber).toBe(collateral.qe_eval_number);
      }
    });
  }

  test('is refused a second outside the window', () => {
    expect(judge(quote, collateral, first - 1000).code).toMatch(/_(NOT_YET|VALIDITY)$/);
    expect(judge(quote, collateral, last + 1000).code).toMatch(/_(EXPIRED|VALIDITY)$/);
  });
});

test.each([
  ['sgx-v3-90c06f000000-49fe30a9-teekit', 'COLLATERAL_MISSING'],
  ['sgx-v3-nopck-27d110d1-automata', 'QUOTE_CERTIFICATION_TYPE'],
  ['sgx-v3-nopck-72a05bf6-oasis', 'QUOTE_CERTIFICATION_TYPE'],
  ['tdx-v5-10806f070000-4fbd4361-go-tdx-guest', 'PCK_CHAIN_ROOT'],
])('%s has no collateral: %s', (name, code) => {
  const inputs = { trustRoot: INTEL_ROOT, now: new Date('2026-01-01T00:00:00Z') };
  expect(judgeQuote(readPublishedQuote(publishedQuote(name)), inputs)).toMatchObject({
    verdict: 'reject',
    code,
  });
});

test('collateral of another platform does not do', () => {
  const quote = publishedQuote('sgx-v3-90c06f000000-49fe30a9-teekit');
  const other = publishedQuote('sgx-v3-00606a000000-22c0df5d-teepot').collateral[1]!;
  expect(judge(quote, other, other.verify_at_unix * 1000).code).toBe('TCB_INFO_FMSPC');
  const tdx = publishedQuote('tdx-v4-00806f050000-3bffae89-teekit');
  expect(judge(tdx, other, other.verify_at_unix * 1000).code).toBe('QE_IDENTITY_ID');
});

test('under the strict policy the flags surface, each by its code; without one they are warnings', () => {
  const codes: Record<string, string[]> = {};
  const everyStatus: Policy = {
    statuses: ['UpToDate', 'OutOfDate', 'SWHardeningNeeded', 'ConfigurationAndSWHardeningNeeded'],
  };
  for (const { quote, collateral } of pairs) {
    if (collateral.expected_status.startsWith('ERR')) continue;
    const at = collateral.verify_at_unix * 1000;
    const lax = judge(quote, collateral, at);
    const strict = judge(quote, collateral, at, everyStatus);
    const warnings = lax.steps.filter(({ outcome }) => outcome === 'warning').map(({ name }) => name);
    expect(lax.verdict).toBe('accept');
    expect(warnings.includes('debug')).toBe(quote.debug);
    if (quote.sept_ve_disable !== null) expect(warnings.includes('sept-ve')).toBe(!quote.sept_ve_disable);
    if (strict.code !== null) codes[strict.code] = [...(codes[strict.code] ?? []), quote.name];
    if (collateral.expected_status !== 'UpToDate') {
      expect(judge(quote, collateral, at, {})).toMatchObject({
        code: 'TCB_STATUS_NOT_ACCEPTED',
        status: collateral.expected_status,
      });
    }
  }
  const once = Object.entries(codes).map(([code, names]) => [code, [...new Set(names)]]);
  expect(Object.fromEntries(once)).toEqual({
    ENCLAVE_DEBUG: ['sgx-v3-00606a000000-1cc40342-automata', 'sgx-v3-00606a000000-77bcbdfa-trustee'],
    TD_DEBUG: ['tdx-v4-50806f000000-12b401a8-teekit'],
    TD_PERFMON: ['tdx-v4-90c06f000000-f8f82dc7-automata'],
    TD_SEPT_VE: ['tdx-v4-00806f050000-7462cb52-teekit', 'tdx-v4-00806f050000-cbb3bcfe-trustee'],
    TD_SERVICE_TD: ['tdx-v5-90c06f000000-d0010db6-automata'],
  });
});

test('some of these tell apart a verifier that compares all 16 TDX components', () => {
  const differs = pairs.filter(
    ({ collateral: { expected_status: expected, naive_16_component_status: naive } }) =>
      naive !== null && !expected.startsWith('ERR') && naive !== expected,
  );
  expect(differs.length).toBeGreaterThan(3);
});
