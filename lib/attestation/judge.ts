/**
 * A verdict for a person or a program: Intel's rules, then a policy if there is one. Never throws for evidence: a refusal
 * is a verdict too, with its code and with what held before it.
 */
import { type AttestationCode, AttestationError } from './errors.ts';
import type { Appraisal, IntelInputs } from './intel-rules.ts';
import type { Policy } from './policy.ts';
import type { TcbStatus } from './tcb/tcb-status.ts';
import { type Step, Trace } from './trace.ts';
import { checks, withoutAsking } from './verify.ts';

export interface Judgement {
  readonly verdict: 'accept' | 'reject';
  /** Null when accepted. */
  readonly code: AttestationCode | null;
  /** Null when it was refused before the TCB was known. */
  readonly status: TcbStatus | null;
  readonly advisories: readonly string[];
  readonly message: string;
  readonly steps: readonly Step[];
  /** What Intel's rules found, when it is accepted. */
  readonly appraisal: Appraisal | undefined;
}

/**
 * @param policy when left out, only Intel's rules apply, and what a policy would look at becomes a warning; except for bits
 *   without a name, of which there is nothing to say in a warning: they are refused (TD_RESERVED) unless a policy names them
 */
export function judgeQuote(bytes: Uint8Array, inputs: IntelInputs, policy?: Policy): Judgement {
  const trace = new Trace();
  const judgement = (
    verdict: 'accept' | 'reject',
    code: AttestationCode | null,
    message: string,
    appraisal?: Appraisal,
  ): Judgement => {
    const { status, advisories, steps } = trace;
    return { verdict, code, status, advisories, message, steps, appraisal };
  };
  const asked = { ...inputs, tee: 'any', measurement: 'any', rtmr3: 'any', reportData: 'any' } as const;
  try {
    const running = checks(bytes, { ...asked, skewMs: inputs.skewMs ?? 0, policy: policy ?? 'warn' }, trace);
    const appraisal = withoutAsking(running) as Appraisal;
    const rules = policy === undefined ? "Intel's rules" : "Intel's rules and the policy";
    const { status } = appraisal.tcb;
    return judgement('accept', null, `accepted by ${rules}: the platform is ${status}`, appraisal);
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    return judgement('reject', error.code, error.message);
  }
}
