/**
 * What a simulated VM's attestor and the quoting service of its QEMU process say to each other, as JSON lines over the
 * virtio-serial port `dstack.quote`. The guest asks, the service answers each request once, in order.
 *
 * The port outlives the guest's daemon, so what an earlier one left in it may still arrive: empty lines are ignored, and a
 * reply counts only when its `id` is the one that was just sent. Hex is lower case, without 0x.
 */
import { type Static, Type } from 'typebox';
import { Check } from 'typebox/value';
import { HexOf, Strict } from './schema.ts';

/** Name of the virtio-serial port, as the guest finds it under /sys/class/virtio-ports. */
export const QUOTING_PORT = 'dstack.quote';
/** Longest request line, in bytes. */
export const MAX_QUOTING_REQUEST = 1_024;
/** Longest reply line, in bytes: a quote of 16,384 bytes in hex, and some. */
export const MAX_QUOTING_REPLY = 36_864;

/** Chosen by the guest, anew for each request. */
const Id = HexOf(8);
const Register = HexOf(48);

export const QuotingRequestSchema = Type.Union([
  Strict({ id: Id, op: Type.Literal('read') }),
  Strict({ id: Id, op: Type.Literal('extend'), register: Type.Literal(3), digest: Register }),
  Strict({ id: Id, op: Type.Literal('quote'), reportData: HexOf(64) }),
]);
export type QuotingRequest = Static<typeof QuotingRequestSchema>;

export const RegistersSchema = Strict({
  mrtd: Register,
  rtmr0: Register,
  rtmr1: Register,
  rtmr2: Register,
  rtmr3: Register,
});

export const QuotingErrorSchema = Strict({
  /** null when the request was too broken to have one. */
  id: Type.Union([Id, Type.Null()]),
  error: Strict({
    code: Type.String({ pattern: '^[A-Z0-9_]{1,64}$' }),
    message: Type.String({ maxLength: 512 }),
  }),
});

export const QuotingReplySchema = Type.Union([
  Strict({ id: Id, registers: RegistersSchema }),
  Strict({ id: Id, rtmr3: Register }),
  Strict({ id: Id, quote: Type.String({ pattern: '^([0-9a-f]{2}){1,16384}$', maxLength: 32_768 }) }),
  QuotingErrorSchema,
]);
/** To `read`: registers. To `extend`: the new RTMR3. To `quote`: the quote. To anything: an error. */
export type QuotingReply = Static<typeof QuotingReplySchema>;

/** The request in a line, or null when the line is none. */
export function parseQuotingRequest(line: string): QuotingRequest | null {
  const value = parseJson(line);
  return Check(QuotingRequestSchema, value) ? value : null;
}

/** The reply in a line, or null when the line is none. */
export function parseQuotingReply(line: string): QuotingReply | null {
  const value = parseJson(line);
  return Check(QuotingReplySchema, value) ? value : null;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
