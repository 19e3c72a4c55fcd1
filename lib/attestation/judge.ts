/**
 * A verdict for a person or a program: Intel's rules, then a policy if there is one. Never throws for evidence: a refusal
 * is a verdict too, with its code and with what held before it.
 */
import { type AttestationCode, AttestationError } from './errors.ts';
import { applyIntelRules, type Finding, type IntelInputs } from './intel-rules.ts';
import { applyPolicy, type Policy, requireKnownAttributes, warn } from './policy.ts';
import type { TcbStatus } from './tcb/tcb-status.ts';
import { type Step, Trace } from './trace.ts';

export interface Judgement {
  readonly verdict: 'accept' | 'reject';
  /** Null when accepted. */
  readonly code: AttestationCode | null;
  /** Null when it was refused before the TCB was known. */
  readonly status: TcbStatus | null;
  readonly advisories: readonly string[];
  readonly message: string;
  readonly steps: readonly Step[];
  /** What Intel's rules found, when they accepted. */
  readonly finding: Finding | undefined;
}

/**
 * @param policy when left out, only Intel's rules apply, and what a policy would look at becomes a warning; but for bits that
 *   nobody knows, of which there is nothing to warn: they are refused (TD_RESERVED) unless a policy names them
 */
export function judgeQuote(bytes: Uint8Array, inputs: IntelInputs, policy?: Policy): Judgement {
  const trace = new Trace();
  let finding: Finding | undefined;
  const judgement = (
    verdict: 'accept' | 'reject',
    code: AttestationCode | null,
    message: string,
  ): Judgement => {
    const { status, advisories, steps } = trace;
    return { verdict, code, status, advisories, message, steps, finding };
  };
  try {
    finding = applyIntelRules(bytes, inputs, trace);
    if (policy === undefined) {
      requireKnownAttributes(finding.quote.body);
      warn(finding, trace);
    } else applyPolicy(finding, policy, inputs.now, trace);
    const rules = policy === undefined ? "Intel's rules" : "Intel's rules and the policy";
    return judgement('accept', null, `accepted by ${rules}: the platform is ${finding.tcb.status}`);
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    return judgement('reject', error.code, error.message);
  }
}
