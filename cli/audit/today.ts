/** What is true today and a reader should know. */
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { Findings } from './findings.ts';
import { kinds, type Replay } from './replay.ts';
import type { Holder } from './report.ts';
import { instant } from './words.ts';

/** @param now the audited block's time, Unix seconds */
export function judgeToday(replay: Replay, flavour: Flavour, now: number, findings: Findings): void {
  const warn = (code: string, message: string) => findings.add('warning', code, 'today', message);
  if (replay.epoch === 0) warn('NOT_BOOTSTRAPPED', 'the network has no secret yet');
  if (flavour !== 'production') {
    warn('NOT_PRODUCTION', `${flavour} evidence proves nothing: the simulated platform's keys are published`);
  }
  if (replay.delayAt(now) === 0) {
    warn('NO_DELAY', `the delay is 0: owner ${replay.owner} can let in any image in one block`);
  }
  if (replay.platformsOpenAt(now)) warn('PLATFORMS_OPEN', 'any platform may join that is not revoked');
}

/** Who has the secret and would not be given it again; and whether one machine is all that has it. */
export function judgeHolders(holders: readonly Holder[], findings: Findings): void {
  for (const { node, standing, role } of holders) {
    for (const kind of kinds) {
      const found = standing[kind];
      if (found === undefined || found.is === 'allowed') continue;
      const since = found.is === 'revoked' ? ` at ${instant(found.at)}` : '';
      findings.add(
        'warning',
        `HOLDER_${kind.toUpperCase()}_REVOKED`,
        `${role} node ${node}`,
        `its ${kind} is ${found.is}${since}; it was given the secret before, and the secret has not been replaced since`,
      );
    }
  }
  if (holders.length === 1) {
    const message = 'only one node was ever given the secret: if it dies, the secret is lost';
    findings.add('warning', 'NETWORK_OF_ONE', 'today', message);
  }
}
