/**
 * Collateral: what Intel publishes about a platform, as the relying party was handed it. Nothing in it is trusted until
 * intel-rules.ts has checked it. All of it is text, so that one object cannot change between its check and its use. Its
 * fields and their limits are those of messages: lib/protocol/collateral.ts.
 */
import { type CollateralMessage, CollateralSchema } from '../../protocol/collateral.ts';
import { DstackError } from '../../protocol/errors.ts';
import { parseUniqueJson } from '../../protocol/json.ts';
import { check } from '../../protocol/schema.ts';
import { AttestationError } from '../errors.ts';

/** The fields of a collateral file, in the form in which other verifiers (dcap-qvl) exchange it. */
export type Collateral = Readonly<CollateralMessage>;

/** A copy of the chain that is in the quote, which some tools add. It is not used: the quote's own is. */
const IGNORED_FIELD = 'pck_certificate_chain';

/** The largest collateral file that is read: one of the largest fields has half as many. */
export const MAX_COLLATERAL_CHARACTERS: number = 256 * 1024;

/** Reads a collateral file. @throws AttestationError COLLATERAL_FORMAT */
export function parseCollateral(json: string): Collateral {
  if (json.length > MAX_COLLATERAL_CHARACTERS) throw malformed('it is too large');
  let value: unknown;
  try {
    value = parseUniqueJson(json);
  } catch (cause) {
    throw malformed((cause as Error).message, cause);
  }
  return collateralOf(value);
}

/**
 * Collateral from a parsed value: every field there, text, bounded; nothing else. Frozen, by which a verifier's memory knows
 * it again.
 * @throws AttestationError COLLATERAL_FORMAT
 */
export function collateralOf(value: unknown): Collateral {
  const fields: unknown =
    typeof value === 'object' && value !== null && IGNORED_FIELD in value
      ? Object.fromEntries(Object.entries(value).filter(([name]) => name !== IGNORED_FIELD))
      : value;
  try {
    return Object.freeze({ ...check(CollateralSchema, fields, 'COLLATERAL_FORMAT', 'the collateral') });
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw malformed(cause.message, cause);
  }
}

function malformed(message: string, cause?: unknown): AttestationError {
  return new AttestationError('COLLATERAL_FORMAT', `collateral refused: ${message}`, { cause });
}
