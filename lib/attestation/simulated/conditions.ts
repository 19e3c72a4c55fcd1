/**
 * Simulated platforms of the kinds that a network must tell apart: in order, revoked, out of date, and one whose host
 * boots its TDs in debug mode. What they are is in their certificates, quotes and collateral, as with real ones.
 *
 * Host and tests only (see simulated-certificates.ts).
 */
import { REVOKED_PPID } from './collateral.ts';
import { createSimulatedPlatform, type SimulatedPlatform } from './platform.ts';

/**
 * - `revoked`: the platform that the published CRL lists, whatever the host's own PPID
 * - `out-of-date`: its PCK certificate is of a lower TCB level
 * - `debug`: its TDs have the debug attribute
 */
export const SIMULATED_CONDITIONS = ['ordinary', 'revoked', 'out-of-date', 'debug'] as const;
export type SimulatedCondition = (typeof SIMULATED_CONDITIONS)[number];

/** Version 4 with a TD report 1.0, or 5 with a TD report 1.5. */
export const QUOTE_VERSIONS = [4, 5] as const;
export type QuoteVersion = (typeof QUOTE_VERSIONS)[number];

export interface SimulatedSetting {
  /** `ordinary` when left out. */
  readonly condition?: SimulatedCondition;
  /** 4 when left out. */
  readonly quoteVersion?: QuoteVersion;
}

/** The simulated platform of a host with this PPID (16 bytes), in this condition. */
export function simulatedPlatform(ppid: Uint8Array, setting: SimulatedSetting = {}): SimulatedPlatform {
  const { condition = 'ordinary', quoteVersion = 4 } = setting;
  const platform = createSimulatedPlatform({
    ppid: condition === 'revoked' ? REVOKED_PPID : ppid,
    ...(condition === 'out-of-date' && {
      sgx: { components: new Array<number>(16).fill(0), cpuSvn: new Uint8Array(16) },
    }),
  });
  return {
    ...platform,
    signQuote: (request) =>
      platform.signQuote({
        layout: quoteVersion === 5 ? '5/1.5' : '4',
        ...(condition === 'debug' && { debug: true }),
        ...request,
      }),
  };
}
