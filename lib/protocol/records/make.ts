/**
 * Making a record, in the order in which its parts cover each other (identity.ts): head, value, claims, permit, signature. What was made
 * is checked by nobody here but for its form: whoever posts it does what every node does with it.
 */
import { bytesEqual } from '../encoding.ts';
import {
  type DagRecord,
  type Mask,
  type Permit,
  type RecordHead,
  type RecordType,
  requireTailForm,
} from './format.ts';
import { bodyHash, claimMessage, idFrom, ownerMessage, workSeed } from './identity.ts';
import { maskValue } from './mask.ts';
import { type NameKeys, selectorOf } from './names.ts';
import { publicKeyOfSeed, signStrictly } from './strict-ed25519.ts';

export interface Draft {
  readonly type: RecordType;
  /** Absent: no. */
  readonly shared?: boolean;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** In any order. */
  readonly links: readonly Uint8Array[];
  /** In any order. */
  readonly names: readonly { readonly keys: NameKeys; readonly ordinal: bigint }[];
  readonly value: Uint8Array;
  /** Absent: the value is for everybody. A name must be one of `names`. */
  readonly mask?: { readonly name: NameKeys } | { readonly key: Uint8Array };
}

/** Finds the permit of a record that is done but for it. The seed is what work is done over. */
export type Permitter = (seedFor: (difficulty: number) => Uint8Array) => Permit;

export const withoutPermit: Permitter = () => ({ kind: 'none' });
export const withCertificate =
  (certificate: Uint8Array): Permitter =>
  () => ({ kind: 'certificate', certificate });

/** A record that is done but for its permit and its owner's signature. */
export interface Drafted extends RecordHead {
  readonly value: { readonly kind: 'whole'; readonly bytes: Uint8Array };
  readonly claims: readonly Uint8Array[];
  /** `bodyHash`. */
  readonly body: Uint8Array;
}

/** @param ownerSeed Ed25519's. @throws RECORD_… of format.ts for what has no form */
export function makeRecord(draft: Draft, ownerSeed: Uint8Array, permitter: Permitter): DagRecord {
  const drafted = draftRecord(draft, publicKeyOfSeed(ownerSeed));
  const permit = permitter((difficulty) => seedOf(drafted, difficulty));
  return signRecord(drafted, permit, ownerSeed);
}

/** The first half of `makeRecord`, for whoever has to wait for the permit. @throws RECORD_… of format.ts */
export function draftRecord(draft: Draft, owner: Uint8Array): Drafted {
  const names = draft.names.toSorted((a, b) => Buffer.compare(a.keys.claimKey, b.keys.claimKey));
  const head: RecordHead = {
    type: draft.type,
    shared: draft.shared ?? false,
    mask: maskOf(draft, names),
    timestamp: draft.timestamp,
    owner,
    links: draft.links.toSorted(Buffer.compare),
    selectors: names.map(({ keys, ordinal }) => selectorOf(keys, ordinal)),
  };
  const value = { kind: 'whole', bytes: maskedValue(draft, head) } as const;
  const body = bodyHash(head, value);
  const claims = names.map(({ keys }) => signStrictly(keys.claimSeed, claimMessage(body)));
  return { ...head, value, claims, body };
}

/** What work of this difficulty is done over. */
export function seedOf({ body, claims }: Drafted, difficulty: number): Uint8Array {
  return workSeed(body, claims, difficulty);
}

/** The second half. @param ownerSeed of the owner that it was drafted for. @throws RECORD_… of format.ts */
export function signRecord({ body, ...rest }: Drafted, permit: Permit, ownerSeed: Uint8Array): DagRecord {
  const signature = signStrictly(ownerSeed, ownerMessage(idFrom(body, { claims: rest.claims, permit })));
  const record: DagRecord = { ...rest, permit, signature };
  requireTailForm(record);
  return record;
}

function maskOf({ mask }: Draft, sorted: Draft['names']): Mask {
  if (mask === undefined) return 'none';
  if ('key' in mask) return 'key';
  // One that is not there is refused with the head.
  return { selector: sorted.findIndex(({ keys }) => bytesEqual(keys.claimKey, mask.name.claimKey)) };
}

function maskedValue({ mask, value }: Draft, head: RecordHead): Uint8Array {
  if (mask === undefined) return value;
  return maskValue('key' in mask ? mask.key : mask.name.maskKey, head, value);
}
