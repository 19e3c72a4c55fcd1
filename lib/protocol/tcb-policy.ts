/**
 * TCB statuses as the contract counts them: bits of a mask, by their place in this list. The contract, its owner's tools
 * and every node use the one order, which can be added to at its end and never changes: it is in INetwork.sol's words too.
 */
import { DstackError } from './errors.ts';

/** Intel's statuses of a level of platform components. */
export const LEVEL_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;

/** Those of a platform: the levels', then the two that appraisal adds for TDs that should be launched again. */
export const TCB_STATUSES = [
  ...LEVEL_STATUSES,
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
] as const;
export type TcbStatus = (typeof TCB_STATUSES)[number];

/** What a policy may accept: never Revoked. */
export type AcceptableStatus = Exclude<TcbStatus, 'Revoked'>;
export const ACCEPTABLE_STATUSES: readonly AcceptableStatus[] = TCB_STATUSES.filter(
  (status) => status !== 'Revoked',
);

/** The longest grace period that the contract takes, in seconds: ten years. */
export const LONGEST_GRACE_SECONDS: number = 3650 * 86_400;

/** The contract's mask of these statuses. */
export function statusMask(statuses: readonly AcceptableStatus[]): number {
  return statuses.reduce((mask, status) => mask | (1 << TCB_STATUSES.indexOf(status)), 0);
}

/**
 * The statuses of a mask that the contract showed, in the list's order.
 *
 * @throws DstackError `TCB_POLICY_INVALID` for a mask that the contract cannot hold: without UpToDate, with Revoked, or
 * with bits that stand for nothing
 */
export function statusesOf(mask: number): readonly AcceptableStatus[] {
  const statuses = ACCEPTABLE_STATUSES.filter((status) => (mask & statusMask([status])) !== 0);
  if (statusMask(statuses) !== mask || statuses[0] !== 'UpToDate') {
    throw new DstackError(
      'TCB_POLICY_INVALID',
      `${mask} is not a mask of accepted TCB statuses: it needs bit 0 (UpToDate), and may have only the bits of ${ACCEPTABLE_STATUSES.join(', ')}`,
    );
  }
  return statuses;
}
