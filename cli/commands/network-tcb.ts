/** `network tcb …`: how current platforms have to be, as the owner sets it, and how `network status` shows it. */
import type { Head } from '../../lib/chain/chain-client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  decodeDeniedFmspcs,
  decodeNextTcbPolicy,
  decodeTcbPolicy,
  encodeDeniedFmspcs,
  encodeNextTcbPolicy,
  encodeSetAcceptedTcbStatuses,
  encodeSetDeniedFmspc,
  encodeSetMinimumTcbEvaluationNumber,
  encodeSetTcbOutOfDateGrace,
  encodeTcbPolicy,
  type FmspcView,
  type NextTcbPolicyResult,
  type TcbPolicyResult,
} from '../../lib/protocol/network-contract.ts';
import {
  ACCEPTABLE_STATUSES,
  LONGEST_GRACE_SECONDS,
  statusesOf,
  statusMask,
} from '../../lib/protocol/tcb-policy.ts';
import { type Command, UsageError } from '../command.ts';
import { parseDuration } from '../duration.ts';
import { instant } from '../instant.ts';
import { act, type Deed, openOwner, ownerOptions } from '../owner/act.ts';
import type { NetworkConnection } from '../owner/connection.ts';
import { fromWhen } from './network-policy.ts';

const FOREVER = 2n ** 64n - 1n;
const DAY = 86_400;

/** One part of the policy: the value in force, the value set last, and the time from which that is in force. */
interface Part {
  readonly now: number;
  readonly latest: number;
  readonly from: bigint;
}

interface TcbState {
  readonly minimum: Part;
  readonly statuses: Part;
  readonly grace: Part;
  readonly fmspcs: readonly FmspcView[];
}

/** What can be set: how a value is read from the command line, the call that sets it, and how it is shown. */
const parts = {
  minimum: {
    read: evaluationNumber,
    encode: (value: number) => encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: value }),
    show: (value: number) => (value === 0 ? 'any evaluation' : `evaluation ${value} or later`),
  },
  statuses: {
    read: acceptedStatuses,
    encode: (value: number) => encodeSetAcceptedTcbStatuses({ statuses: value }),
    show: (value: number) => statusesOf(value).join(', '),
  },
  grace: {
    read: period,
    encode: (value: number) => encodeSetTcbOutOfDateGrace({ gracePeriod: value }),
    show: (value: number) =>
      value === 0 ? 'none' : value % DAY === 0 ? `${value / DAY} days` : `${value} s`,
  },
} as const;

export const tcb: Command = {
  name: 'network tcb',
  summary: "sets how current a platform's TCB must be: stricter at once, looser after the delay",
  positionals: ['minimum|statuses|grace|deny|allow', 'NUMBER|NAME,NAME|DURATION|FMSPC'],
  options: ownerOptions,
  async run(args) {
    const [kind, text] = args.positionals as [string, string];
    const change = changeOf(kind, text);
    const owner = await openOwner(args);
    const head = await owner.chain.head();
    requireEffect(change, await readTcb(owner, head));
    await act(args, owner, await deedOf(change, owner));
  },
};

type Change =
  | { readonly part: keyof typeof parts; readonly value: number; readonly data: string }
  | { readonly part: 'fmspc'; readonly value: string; readonly denied: boolean; readonly data: string };

/** @throws UsageError for an unknown part of the policy, or a bad value */
function changeOf(kind: string, text: string): Change {
  if (kind === 'deny' || kind === 'allow') {
    const fmspc = /^(?:0x)?([0-9a-f]{12})$/i.exec(text)?.[1]?.toLowerCase();
    if (fmspc === undefined) throw new UsageError(`an FMSPC is 6 bytes of hex, not ${text}`);
    return {
      part: 'fmspc',
      value: fmspc,
      denied: kind === 'deny',
      data: encodeSetDeniedFmspc({ fmspc, denied: kind === 'deny' }),
    };
  }
  if (!Object.hasOwn(parts, kind)) {
    throw new UsageError(`${kind} is not one of ${Object.keys(parts).join(', ')}, deny, allow`);
  }
  const part = kind as keyof typeof parts;
  const value = parts[part].read(text);
  return { part, value, data: parts[part].encode(value) };
}

async function deedOf(change: Change, owner: NetworkConnection): Promise<Deed> {
  const later = await fromWhen(owner);
  return {
    data: change.data,
    effect: [
      change.part === 'fmspc'
        ? change.denied
          ? 'platforms of this FMSPC are kept out, at once'
          : `platforms of this FMSPC are let in again, ${later}`
        : `${change.part} ${parts[change.part].show(change.value)}: ${later.startsWith('at once') ? later : `what is stricter takes effect at once, what is looser ${later}`}`,
    ],
    async proof(at) {
      const state = await readTcb(owner, at);
      const rows = tcbRows(state, BigInt(at.timestamp));
      return isSo(change, state) ? { done: rows } : { instead: rows.join('; ') };
    },
  };
}

function isSo(change: Change, state: TcbState): boolean {
  if (change.part !== 'fmspc') return state[change.part].latest === change.value;
  const listed = state.fmspcs.find(({ fmspc }) => fmspc.slice(2) === change.value);
  return (listed?.deniedUntil === FOREVER) === change.denied;
}

/**
 * The contract accepts the same value a second time: setting the one in force would cost gas for nothing, and setting a pending one
 * would restart its delay. Setting the one in force while another is pending is useful: it cancels the pending one.
 *
 * @throws DstackError `TCB_POLICY_UNCHANGED`
 */
function requireEffect(change: Change, state: TcbState): void {
  if (change.part === 'fmspc') return;
  const { now, latest, from } = state[change.part];
  if (change.value !== latest) return;
  const shown = parts[change.part].show(latest);
  throw new DstackError(
    'TCB_POLICY_UNCHANGED',
    latest === now
      ? `${change.part} is ${shown} already`
      : `${change.part} ${shown} is pending and takes effect at ${instant(from)}; setting it again would restart its delay`,
  );
}

/** The policy as `network status` shows it. */
export async function tcbStatus(network: NetworkConnection, head: Head): Promise<readonly string[]> {
  return tcbRows(await readTcb(network, head), BigInt(head.timestamp));
}

async function readTcb({ call }: Pick<NetworkConnection, 'call'>, at: Head): Promise<TcbState> {
  const now: TcbPolicyResult = decodeTcbPolicy(await call(encodeTcbPolicy(), at));
  const next: NextTcbPolicyResult = decodeNextTcbPolicy(await call(encodeNextTcbPolicy(), at));
  return {
    minimum: {
      now: now.minimumTcbEvaluationDataNumber,
      latest: next.minimumTcbEvaluationDataNumber,
      from: next.minimumFrom,
    },
    statuses: { now: now.statuses, latest: next.statuses, from: next.statusesFrom },
    grace: { now: now.gracePeriod, latest: next.gracePeriod, from: next.gracePeriodFrom },
    fmspcs: decodeDeniedFmspcs(await call(encodeDeniedFmspcs(), at)),
  };
}

function tcbRows(state: TcbState, time: bigint): readonly string[] {
  const shown = (part: keyof typeof parts): string => {
    const { now, latest, from } = state[part];
    const pending = latest === now ? '' : `; ${parts[part].show(latest)} from ${instant(from)}`;
    return `${parts[part].show(now)}${pending}`;
  };
  const denied = state.fmspcs.filter(({ deniedUntil }) => time < deniedUntil);
  const rows = [
    ['TCB minimum', shown('minimum')],
    ['TCB statuses', shown('statuses')],
    ['out of date for', shown('grace')],
    ...denied.map(({ fmspc, deniedUntil }) => [
      'denied FMSPC',
      `${fmspc.slice(2)}${deniedUntil === FOREVER ? '' : `; allowed from ${instant(deniedUntil)}`}`,
    ]),
  ];
  return rows.map(([name, value]) => `${name!.padEnd(16)} ${value}`);
}

function evaluationNumber(text: string): number {
  if (!/^[0-9]{1,10}$/.test(text) || Number(text) > 0xffffffff) {
    throw new UsageError(`a TCB evaluation data number is a whole number of up to 32 bits, not ${text}`);
  }
  return Number(text);
}

/** Names, separated by commas, in any order. */
function acceptedStatuses(text: string): number {
  const statuses = text.split(',').map((word) => {
    const name = word.trim();
    if (name === 'Revoked') throw new UsageError('Revoked can never be accepted');
    const known = ACCEPTABLE_STATUSES.find((status) => status === name);
    if (known !== undefined) return known;
    throw new UsageError(`${JSON.stringify(name)} is not one of ${ACCEPTABLE_STATUSES.join(', ')}`);
  });
  if (!statuses.includes('UpToDate')) throw new UsageError('UpToDate has to be among the statuses');
  return statusMask(statuses);
}

/** A duration, or `none`. */
function period(text: string): number {
  return text === 'none' ? 0 : parseDuration('a grace period (or none)', text, LONGEST_GRACE_SECONDS);
}
