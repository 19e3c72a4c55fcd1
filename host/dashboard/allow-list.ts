/** What the owner allowed, by the contract's events: what holds now, and what the network's delay still holds back. */
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { Seen } from './chain-history.ts';
import type { AllowedRow, PendingRow } from './state.ts';

/** What an event says of one value; `from` is null where it forbids it. */
interface Said {
  readonly kind: AllowedRow['kind'];
  readonly value: string;
  readonly from: bigint | null;
}

function saidBy(event: NetworkEvent): Said | undefined {
  switch (event.name) {
    case 'MeasurementAllowed':
      return { kind: 'measurement', value: event.measurement, from: event.from };
    case 'MeasurementRevoked':
      return { kind: 'measurement', value: event.measurement, from: null };
    case 'ConfigAllowed':
      return { kind: 'config', value: event.config, from: event.from };
    case 'ConfigRevoked':
      return { kind: 'config', value: event.config, from: null };
    case 'PlatformAllowed':
      return { kind: 'platform', value: event.platform, from: event.from };
    case 'PlatformRevoked':
      return { kind: 'platform', value: event.platform, from: null };
    case 'FmspcAllowed':
      return { kind: 'FMSPC', value: event.fmspc, from: event.from };
    case 'FmspcDenied':
      return { kind: 'FMSPC', value: event.fmspc, from: null };
    default:
      return undefined;
  }
}

/** The last word on each value, the newest first. @param time Unix seconds of the newest block */
export function allowList(events: readonly Seen[], time: number): readonly AllowedRow[] {
  const last = new Map<string, AllowedRow>();
  for (const { event, block } of events) {
    const said = saidBy(event);
    if (said === undefined) continue;
    const { kind, value } = said;
    const from = said.from === null ? null : Number(said.from);
    const state = from === null ? 'revoked' : from > time ? 'pending' : 'allowed';
    last.delete(`${kind} ${value}`);
    last.set(`${kind} ${value}`, { kind, value, state, from, block });
  }
  return [...last.values()].reverse();
}

/** Settings that take effect later: of each, the last word. */
function settingIn(event: NetworkEvent): { what: string; value: string; from: bigint } | undefined {
  switch (event.name) {
    case 'PlatformsOpened':
      return { what: 'platforms', value: 'any that is not revoked', from: event.from };
    case 'PlatformsClosed':
      return { what: 'platforms', value: 'only those listed', from: 0n };
    case 'DelaySet':
      return { what: 'delay', value: `${event.delay} seconds`, from: event.from };
    case 'MinimumTcbEvaluationNumberSet':
      return { what: 'TCB evaluation', value: `${event.tcbEvaluationDataNumber} or later`, from: event.from };
    case 'AcceptedTcbStatusesSet':
      return { what: 'TCB statuses', value: `bits ${event.statuses}`, from: event.from };
    case 'TcbOutOfDateGraceSet':
      return { what: 'grace of an outdated TCB', value: `${event.gracePeriod} seconds`, from: event.from };
    default:
      return undefined;
  }
}

/** Everything that is still to come but rollouts, the soonest first. */
export function pending(
  events: readonly Seen[],
  allowed: readonly AllowedRow[],
  time: number,
): readonly PendingRow[] {
  const settings = new Map<string, PendingRow>();
  for (const { event } of events) {
    const setting = settingIn(event);
    if (setting !== undefined) settings.set(setting.what, { ...setting, from: Number(setting.from) });
  }
  const values = allowed.flatMap(({ kind, value, state, from }) =>
    state === 'pending' ? [{ what: kind, value, from: from! }] : [],
  );
  return [...settings.values(), ...values].filter(({ from }) => from > time).sort((a, b) => a.from - b.from);
}
