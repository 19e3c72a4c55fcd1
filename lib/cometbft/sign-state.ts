/**
 * What a validator signed last, and whether it may sign what it is asked to: the rule that keeps it from signing twice. Without I/O;
 * guest/signer keeps the record in the store and writes it before it signs.
 *
 * A step is signed once: a later request for the same step gets the same signature again when it asks for the same thing, with the
 * timestamp of the first one, and is refused when it asks for another. Ed25519 is deterministic, so the sign bytes are all that is kept.
 */
import { type Static, Type } from 'typebox';
import { bytesEqual, fromHex, toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { HexUpTo, parseJson, Strict } from '../protocol/schema.ts';
import type { Timestamp } from './consensus.ts';
import { timestampIfSame } from './sign-bytes.ts';

/** CometBFT's: propose, prevote, precommit; 0 before anything was signed. */
export const STEP = { none: 0, propose: 1, prevote: 2, precommit: 3 } as const;

export interface SignState {
  readonly height: bigint;
  readonly round: number;
  readonly step: number;
  /** Empty where they are not known: then nothing is signed again in this step. */
  readonly signBytes: Uint8Array;
}

export const NOTHING_SIGNED: SignState = {
  height: 0n,
  round: 0,
  step: STEP.none,
  signBytes: new Uint8Array(),
};

/**
 * `sign`: what may be signed. `write` is there when the record must say so first. `timestamp`: what to answer instead of the one that was
 * asked for.
 */
export interface Decision {
  readonly sign: Uint8Array;
  readonly write?: SignState;
  readonly timestamp?: Timestamp;
}

/** @throws SIGN_REGRESSION, SIGN_CONFLICT; both are final for this request */
export function decide(last: SignState, asked: SignState): Decision {
  const order = compare(asked, last);
  if (order < 0) {
    throw new DstackError(
      'SIGN_REGRESSION',
      `${regressed(last, asked)} regression: asked for ${at(asked)}, signed ${at(last)}`,
    );
  }
  if (order > 0) return { sign: asked.signBytes, write: asked };
  if (last.signBytes.length === 0) {
    throw new DstackError(
      'SIGN_CONFLICT',
      `conflicting data: ${at(last)} was signed, and what was signed is not known`,
    );
  }
  if (bytesEqual(last.signBytes, asked.signBytes)) return { sign: last.signBytes };
  const timestamp = sameButForTime(last.signBytes, asked.signBytes);
  if (timestamp !== undefined) return { sign: last.signBytes, timestamp };
  throw new DstackError('SIGN_CONFLICT', `conflicting data: something else was signed at ${at(last)}`);
}

/** A record that was imported may hold bytes of any form: those are another thing than what is asked for. */
function sameButForTime(signed: Uint8Array, asked: Uint8Array): Timestamp | undefined {
  try {
    return timestampIfSame(signed, asked);
  } catch (error) {
    if (error instanceof DstackError) return undefined;
    throw error;
  }
}

/**
 * Whether a record may follow one that was seen before: it only goes forward, and within a step it never changes.
 * @throws STORE_WENT_BACK
 */
export function requireForward(seen: SignState, now: SignState): void {
  const order = compare(now, seen);
  if (order > 0 || (order === 0 && bytesEqual(now.signBytes, seen.signBytes))) return;
  throw new DstackError(
    'STORE_WENT_BACK',
    `the store went back in time: it says that ${at(now)} was signed last, and said ${at(seen)} before. Nothing is signed until it says that again: \`dstack signer state import\``,
  );
}

/** Negative when `a` comes before `b`. */
export function compare(a: SignState, b: SignState): number {
  return a.height === b.height ? a.round - b.round || a.step - b.step : a.height < b.height ? -1 : 1;
}

function regressed(last: SignState, asked: SignState): string {
  if (asked.height < last.height) return 'height';
  return asked.round < last.round ? 'round' : 'step';
}

/** For people. */
export function at({ height, round, step }: SignState): string {
  return `height ${height}, round ${round}, step ${step}`;
}

const Record = Strict({
  version: Type.Literal(1),
  height: Type.String({ pattern: '^(0|[1-9]\\d{0,18})$', maxLength: 19 }),
  round: Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 }),
  step: Type.Integer({ minimum: 0, maximum: 3 }),
  signBytes: HexUpTo(1024),
  /** It is of a backup: more may have been signed since, and nothing is on its word. */
  restored: Type.Optional(Type.Literal(true)),
});

/** Where signers keep their records: this, then `RECORDS`, then the rest of a record's key. */
export const SIGNER_PREFIX = 'signer/';
export const RECORDS = 'state/';

/** As the store has it. */
export function encodeState({ height, round, step, signBytes }: SignState): string {
  const record: Static<typeof Record> = {
    version: 1,
    height: height.toString(),
    round,
    step,
    signBytes: toHex(signBytes),
  };
  return JSON.stringify(record);
}

/**
 * A record that may be signed on.
 * @throws SIGN_STATE for what this version did not write: nothing may be signed on it; STORE_RESTORED for one of a backup
 */
export function decodeState(text: string): SignState {
  const { state, isRestored } = readRecord(text);
  if (!isRestored) return state;
  throw new DstackError(
    'STORE_RESTORED',
    `the store was restored from a backup, by which ${at(state)} was signed last, and more may have been since: stop the node, and say what it signed by its own file, \`dstack signer state import --state priv_validator_state.json\``,
  );
}

/** A record, and whether it is of a backup. @throws SIGN_STATE */
export function readRecord(text: string): { readonly state: SignState; readonly isRestored: boolean } {
  const {
    height,
    round,
    step,
    signBytes,
    restored = false,
  } = parseJson(Record, text, 'SIGN_STATE', 'the record of what was signed', 8192);
  const state = { height: BigInt(height), round, step, signBytes: fromHex(signBytes) };
  return { state, isRestored: restored };
}

/** The record of a store that was put back: nobody signs on it until it was replaced. What can't be read is not signed on anyway. */
export function markRestored(text: string): string {
  try {
    return JSON.stringify({ ...JSON.parse(encodeState(readRecord(text).state)), restored: true });
  } catch {
    return text;
  }
}
