/** What the event loop stores: its cursor, and a job for each event and handler. */
import { type Static, Type } from 'typebox';
import { Count, HexOf, Strict, Word0x } from '../protocol/schema.ts';
import { TRANSACTION_DATA_MAX } from './handler.ts';

/** Of an event's data, characters with 0x: longer ones are left out. */
export const LOG_DATA_MAX = 64 * 1024;

const LogSchema = Strict({
  blockNumber: Count,
  blockHash: Word0x,
  transactionHash: Word0x,
  logIndex: Count,
  topics: Type.Array(Word0x, { maxItems: 4 }),
  data: Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: LOG_DATA_MAX }),
});

const EffectSchema = Type.Union([
  Strict({
    kind: Type.Literal('transaction'),
    purpose: Type.String({ maxLength: 200 }),
    to: Type.String({ maxLength: 42 }),
    data: Type.String({ maxLength: TRANSACTION_DATA_MAX }),
  }),
  Strict({ kind: Type.Literal('gossip'), message: Type.Unknown() }),
]);

export const EffectsSchema = Type.Array(EffectSchema, { maxItems: 16 });

export const JobSchema = Strict({
  handler: Type.String({ maxLength: 64 }),
  log: LogSchema,
  firstSeen: Count,
  notBefore: Count,
  attempts: Count,
  /** Present once the enclave has answered: what is left to do. */
  effects: Type.Optional(EffectsSchema),
  /** Why it is not done yet, for the operator. */
  reason: Type.Optional(Type.String({ maxLength: 500 })),
});
export type Job = Static<typeof JobSchema>;
/** The job as it was, what wakes it, and the last block at which waking it is of use. */
export const ParkedSchema = Strict({ job: JobSchema, key: HexOf(32), until: Count });

export const CursorSchema = Strict({ block: Count, hash: Type.String({ maxLength: 66 }) });
export const DoneSchema = Strict({ block: Count });
