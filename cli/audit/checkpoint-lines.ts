/**
 * The lines of a checkpoint file, JSON each: a head; for each run of an audit the events that it read, the verdicts that it came to, and a
 * line that closes it; and an end.
 *
 * Hashes are SHA-256. `lines` of a run is over its events' and verdicts' lines with their line breaks; the hash of a run is over its closing
 * line without the break, which names the former run's hash, or the head's for the first. So the last hash stands for all before it.
 */
import { createHash } from 'node:crypto';
import { type Static, type TSchema, Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { FlavourSchema } from '../../lib/protocol/network-config.ts';
import { Address0x, Count, HexOf, parseJson, Strict, Word0x } from '../../lib/protocol/schema.ts';

export const FORMAT = 'dstack/audit-checkpoint/v1';
/** An event of the contract has less than one thousand bytes. */
export const LINE_MAX_BYTES = 16 * 1024;

export const HeadSchema = Strict({
  type: Type.Literal('head'),
  format: Type.Literal(FORMAT),
  chainId: Count,
  contract: Address0x,
  flavour: FlavourSchema,
  /** Of the source that comes to the verdicts: another one may come to others. */
  verifier: HexOf(32),
});

const EventSchema = Strict({
  type: Type.Literal('event'),
  block: Count,
  /** Of its block, Unix seconds. */
  time: Count,
  /** Its place in the block. */
  index: Count,
  transaction: Word0x,
  topics: Type.Array(Word0x, { maxItems: 4 }),
  data: Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: LINE_MAX_BYTES }),
});

/** A quote that was accepted. Whatever was refused, or missing, is judged again. */
export const VerdictSchema = Strict({
  type: Type.Literal('verdict'),
  /** What it let in: a request, by its hash, or the first node, by its quote's. */
  role: Type.Union([Type.Literal('onboarded'), Type.Literal('bootstrap')]),
  of: HexOf(32),
  quoteHash: HexOf(32),
  /** As of when it was judged, Unix seconds, and by which of the contract's policies (its hash). */
  time: Count,
  policy: HexOf(32),
  config: HexOf(32),
  /** Why it was refused as of its onboarding, when it was accepted as of its request. */
  tightened: Type.Optional(Type.String({ pattern: '^[A-Z0-9_]+$', maxLength: 64 })),
  /** What the contract recorded of the answer, which never changes. */
  recorded: Type.Optional(HexOf(32)),
  /** The name of the record of that answer, once one was found. */
  answer: Type.Optional(
    Type.String({ pattern: '^answer-[0-9a-f]{64}-[0-9a-f]{16}\\.json$', maxLength: 100 }),
  ),
});

const RunSchema = Strict({
  type: Type.Literal('run'),
  former: HexOf(32),
  /** As of which block it was made. */
  block: Count,
  hash: Word0x,
  events: Count,
  verdicts: Count,
  lines: HexOf(32),
});

const EndSchema = Strict({ type: Type.Literal('end'), runs: Count, hash: HexOf(32) });

export type CheckpointHead = Static<typeof HeadSchema>;
export type CheckpointEvent = Static<typeof EventSchema>;
export type Verdict = Static<typeof VerdictSchema>;
export type CheckpointRun = Static<typeof RunSchema>;
export type Line = CheckpointHead | CheckpointEvent | Verdict | CheckpointRun | Static<typeof EndSchema>;

const SCHEMAS: Readonly<Record<Line['type'], TSchema>> = {
  head: HeadSchema,
  event: EventSchema,
  verdict: VerdictSchema,
  run: RunSchema,
  end: EndSchema,
};
const TypeSchema = Type.Object({
  type: Type.Union(Object.keys(SCHEMAS).map((name) => Type.Literal(name))),
});

/** @throws AUDIT_CHECKPOINT_MALFORMED */
export function parseLine(bytes: Uint8Array, number: number): Line {
  const code = 'AUDIT_CHECKPOINT_MALFORMED';
  const what = `line ${number} of the checkpoint`;
  const text = new TextDecoder().decode(bytes);
  const { type } = parseJson(TypeSchema, text, code, what, LINE_MAX_BYTES) as { type: Line['type'] };
  return parseJson(SCHEMAS[type], text, code, what, LINE_MAX_BYTES) as Line;
}

/** Without its line break. */
export const lineOf = (line: Line): string => JSON.stringify(line);

export const hashOf = (text: string | Uint8Array): string => createHash('sha256').update(text).digest('hex');

/**
 * The lines of a file of any size, one at a time, without their breaks.
 * @throws AUDIT_CHECKPOINT_TRUNCATED when the last has none, AUDIT_CHECKPOINT_MALFORMED for one that is too long
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      yield rest.subarray(0, end);
      rest = rest.subarray(end + 1);
    }
    if (rest.length > LINE_MAX_BYTES) {
      const message = `the checkpoint has a line of more than ${LINE_MAX_BYTES} bytes: it is no checkpoint of an audit`;
      throw new DstackError('AUDIT_CHECKPOINT_MALFORMED', message);
    }
  }
  if (rest.length > 0) {
    const message =
      'the last line of the checkpoint is not complete: restore the file, or name one that does not exist';
    throw new DstackError('AUDIT_CHECKPOINT_TRUNCATED', message);
  }
}
