/** What a drawn choice means for the TCB policy: values around the edges of what is in force, and now and then an invalid one. */
import { LONGEST_GRACE_SECONDS, statusMask } from '../../lib/protocol/tcb-policy.ts';
import type { TcbOperation, TcbPolicyModel } from './tcb-model.ts';

const DAY = 86_400;
const MINIMA = [17, 18, 16, 0, 19, 17, 2 ** 32 - 1];
const SOUND_MASKS = [
  statusMask(['UpToDate']),
  statusMask(['UpToDate', 'SWHardeningNeeded']),
  statusMask(['UpToDate', 'ConfigurationNeeded']),
  statusMask(['UpToDate', 'SWHardeningNeeded', 'ConfigurationNeeded', 'ConfigurationAndSWHardeningNeeded']),
  statusMask(['UpToDate', 'OutOfDate', 'OutOfDateConfigurationNeeded']),
  statusMask(['UpToDate', 'TDRelaunchAdvised', 'TDRelaunchAdvisedConfigurationNeeded']),
  0x1bf,
];
/** None at all, none that is up to date, Revoked, all known ones, the first unknown bit, the last. */
const UNSOUND_MASKS = [0, 0x1be, 0x41, 0x1ff, 0x201, 0x8001, 0xffff];
const PERIODS = [30 * DAY, 0, 1, 90 * DAY, LONGEST_GRACE_SECONDS, LONGEST_GRACE_SECONDS + 1, 2 ** 32 - 1];
export const FMSPCS: readonly string[] = [
  '0x00906ed50000',
  '0x30806f040000',
  '0x000000000000',
  '0xffffffffffff',
];

export function tcbOperation(
  name: TcbOperation['name'],
  { pick, other }: { readonly pick: number; readonly other: number },
  model: TcbPolicyModel,
  time: number,
): TcbOperation {
  switch (name) {
    case 'setMinimumTcbEvaluationNumber':
      return { name, args: { tcbEvaluationDataNumber: from(MINIMA, pick) } };
    case 'setAcceptedTcbStatuses':
      return {
        name,
        args: { statuses: from(other % 6 === 0 ? UNSOUND_MASKS : SOUND_MASKS, pick) },
      };
    case 'setTcbOutOfDateGrace':
      return { name, args: { gracePeriod: from(PERIODS, pick) } };
    case 'setDeniedFmspc': {
      // Mostly what has an effect; otherwise `denied`, which is refused for one that is denied already and accepted for one that is
      // about to be let in again. Mostly the same FMSPC, to reach what is refused the second time only.
      const fmspc = from(FMSPCS, pick % 5 < 3 ? 0 : pick);
      return { name, args: { fmspc, denied: other % 4 === 0 || !model.isDenied(fmspc, time) } };
    }
  }
}

const from = <T>(list: readonly T[], pick: number): T => list[pick % list.length]!;
