/** What lets an owner's record in: nothing for who may write anyway, a certificate, or work. */
import { fromHex, toHex } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Permit } from '../../../lib/protocol/records/format.ts';
import type { Genesis } from '../../../lib/protocol/records/genesis.ts';
import { type Drafted, seedOf } from '../../../lib/protocol/records/make.ts';
import { MASK_BYTES } from '../../../lib/protocol/records/mask.ts';
import { billableBytes, priceOf, type WorkPermit } from '../../../lib/protocol/records/work.ts';

export interface PermitSources {
  /** Of its owner, for its time, the best first. */
  readonly certificates: readonly string[];
  /** Absent: none is to be done. */
  readonly work: ((seed: Uint8Array, difficulty: number) => Promise<WorkPermit>) | undefined;
}

/** @throws RECORD_VALUE, RECORDS_PERMIT; what work throws */
export async function permitFor(
  drafted: Drafted,
  { rules, owner }: Genesis,
  { certificates, work }: PermitSources,
): Promise<Permit> {
  // Nobody works for what no node takes.
  if (drafted.value.bytes.length > rules.maxValue) {
    const masked = drafted.mask === 'none' ? '' : `, ${MASK_BYTES} of them its mask`;
    throw new DstackError(
      'RECORD_VALUE',
      `values of this network have up to ${rules.maxValue} bytes, not ${drafted.value.bytes.length}${masked}; split it`,
    );
  }
  const key = toHex(drafted.owner);
  if (key === toHex(owner) || rules.authorities.includes(key)) return { kind: 'none' };
  const [certificate] = certificates;
  if (certificate !== undefined) return { kind: 'certificate', certificate: fromHex(certificate, 32) };
  if (rules.certificateRequired) {
    throw new DstackError(
      'RECORDS_PERMIT',
      `this network takes certified owners only, and no certificate of ${key} is there; ask one of its authorities`,
    );
  }
  if (work === undefined) {
    throw new DstackError(
      'RECORDS_PERMIT',
      `no certificate of ${key} is there, and no work is to be done for the record`,
    );
  }
  const difficulty = priceOf(billableBytes(drafted), rules.bytesPerSolution);
  return await work(seedOf(drafted, difficulty), difficulty);
}
