/**
 * TCB statuses and how three of them become one.
 * Source: Intel SGX DCAP Quote Verification Library, sections 4.1.2.4.17 (convergence, TD relaunch) and 4.1.2.9.
 */
import { LEVEL_STATUSES, TCB_STATUSES, type TcbStatus } from '../../protocol/tcb-policy.ts';

/** What an attestation result says. */
export { LEVEL_STATUSES, TCB_STATUSES, type TcbStatus };

/** What TCB info says of a level of platform components. */
export type LevelStatus = (typeof LEVEL_STATUSES)[number];

/** What TCB info says of a TDX module, and a QE identity of a quoting enclave. */
export const COMPONENT_STATUSES = ['UpToDate', 'OutOfDate', 'Revoked'] as const;
export type ComponentStatus = (typeof COMPONENT_STATUSES)[number];

/** The platform's status when one of its components has this one. */
export function converge(platform: TcbStatus, component: ComponentStatus): TcbStatus {
  if (component === 'Revoked' || platform === 'Revoked') return 'Revoked';
  if (component === 'UpToDate') return platform;
  if (platform === 'UpToDate' || platform === 'SWHardeningNeeded') return 'OutOfDate';
  if (platform === 'ConfigurationNeeded' || platform === 'ConfigurationAndSWHardeningNeeded') {
    return 'OutOfDateConfigurationNeeded';
  }
  // Already out of date. A relaunch is only ever advised when the quoting enclave is up to date.
  return platform;
}

export function needsConfiguration(status: TcbStatus): boolean {
  return status.includes('Configuration');
}
