/** An event of a network's contract, in words and as JSON. What a contract says is anybody's text until it is printed (lib/daemon/terminal.ts). */
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import { TCB_STATUSES } from '../../lib/protocol/tcb-policy.ts';
import { showDuration } from '../duration.ts';
import { instant } from '../instant.ts';
import type { SeenEvent } from './follow.ts';
import { fromOf } from './pending.ts';

/** What happened to it: it is new, its time has come, or a re-organisation took it back. */
export type Kind = 'event' | 'in-force' | 'gone';

/** @param time of its block, Unix seconds; undefined for what is gone */
export function lineOf(kind: Kind, seen: SeenEvent, time: number | undefined): string {
  const { block, event } = seen;
  const what = sentenceOf(event);
  if (kind === 'gone') return `block ${block}  GONE by a re-organisation: ${what}`;
  const when = time === undefined ? '' : `${instant(BigInt(time))}  `;
  if (kind === 'in-force') return `block ${block}  ${when}IN FORCE: ${what}`;
  const from = fromOf(event);
  const later =
    time !== undefined && from > time
      ? `, from ${instant(BigInt(from))} on, in ${showDuration(from - time)}`
      : '';
  return `block ${block}  ${when}${what}${later}`;
}

/** One object, whose integers are numbers, or strings where JSON's readers would round them. */
export function objectOf(kind: Kind, seen: SeenEvent, time: number | undefined): object {
  const { block, blockHash, transaction, index, event } = seen;
  const { name, ...fields } = event;
  const plain = Object.entries(fields).map(([field, value]) => [field, plainly(value)]);
  const app = 'app' in event ? { appName: nameOf(event.app) } : {};
  return {
    ...{ kind, block, blockHash, time: time ?? null, transaction, index, event: name },
    fields: { ...Object.fromEntries(plain), ...app },
  };
}

const plainly = (value: unknown): unknown =>
  typeof value === 'bigint' ? (value <= Number.MAX_SAFE_INTEGER ? Number(value) : `${value}`) : value;

/** Null for an id that no name has: a contract that is not ours may say so. */
function nameOf(app: string): string | null {
  try {
    return appName(fromHex(app.slice(2), 32));
  } catch (error) {
    if (codeOf(error) === 'APP_NAME') return null;
    throw error;
  }
}
const app = (id: string): string => nameOf(id) ?? `of id ${id}, which is no name`;

/** Of any mask, also one that a network's contract can't hold. */
const statuses = (mask: number): string =>
  `${TCB_STATUSES.filter((_, bit) => (mask & (1 << bit)) !== 0).join(', ')} (mask ${mask})`;

function sentenceOf(event: NetworkEvent): string {
  switch (event.name) {
    case 'Registered':
      return `node ${event.node} asks to join, by request ${event.requestHash}`;
    case 'Onboarded':
      return `request ${event.requestHash} was answered: its node has the secret; measurement ${event.measurement}, platform ${event.platform}`;
    case 'Bootstrapped':
      return `the network has key ${event.networkKey} of epoch ${event.epoch}; measurement ${event.measurement}, config ${event.config}, platform ${event.platform}`;
    case 'MeasurementAllowed':
      return `measurement ${event.measurement} is allowed`;
    case 'MeasurementRevoked':
      return `measurement ${event.measurement} is REVOKED`;
    case 'ConfigAllowed':
      return `config ${event.config} is allowed`;
    case 'ConfigRevoked':
      return `config ${event.config} is REVOKED`;
    case 'PlatformAllowed':
      return `platform ${event.platform} is allowed`;
    case 'PlatformRevoked':
      return `platform ${event.platform} is REVOKED`;
    case 'PlatformsOpened':
      return 'platforms are OPEN: any that was not revoked may join';
    case 'PlatformsClosed':
      return 'platforms are closed: listed ones may join';
    case 'FmspcAllowed':
      return `platforms of FMSPC ${event.fmspc} are allowed again`;
    case 'FmspcDenied':
      return `platforms of FMSPC ${event.fmspc} are denied`;
    case 'AcceptedTcbStatusesSet':
      return `accepted TCB statuses: ${statuses(event.statuses)}`;
    case 'MinimumTcbEvaluationNumberSet':
      return `collateral has to be of TCB evaluation ${event.tcbEvaluationDataNumber} or later`;
    case 'TcbOutOfDateGraceSet':
      return `platforms out of date may join for ${showDuration(event.gracePeriod)}`;
    case 'DelaySet':
      return `loosening takes ${showDuration(event.delay)}`;
    case 'RolledOut':
      return `app ${app(event.app)} runs manifest ${event.manifestHash}`;
    case 'RolledBack':
      return event.manifestHash === ZERO_WORD
        ? `app ${app(event.app)} is rolled back: it has no manifest`
        : `app ${app(event.app)} is rolled back to manifest ${event.manifestHash}`;
    case 'Withdrawn':
      return `app ${app(event.app)} is withdrawn`;
    case 'OwnershipTransferStarted':
      return `owner ${event.previousOwner} names ${event.newOwner} the next`;
    case 'OwnershipTransferred':
      return `${event.newOwner} is the owner; it was ${event.previousOwner}`;
    case 'EIP712DomainChanged':
      return 'the domain of its signatures changed';
  }
}
