/**
 * A message as bytes that are paid for one by one: `01 ‖ Brotli (RFC 7932) of canonical JSON (RFC 8785)`, of
 *
 *     {"message": …, "without": {"collateral": "<16 hex digits>"}}
 *
 * where parts that most readers have anyway are left out and named (shared-parts.ts). A reader who lacks such a part takes the message without it.
 */
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';
import canonicalize from 'canonicalize';
import { Type } from 'typebox';
import { fromHex, to0x, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { Hex } from '../../../lib/protocol/hex.ts';
import { MESSAGE_MAX_BYTES } from '../../../lib/protocol/onboarding-messages.ts';
import { HexOf, parseJson, Strict } from '../../../lib/protocol/schema.ts';
import type { Sent } from '../shared-parts.ts';

const FORMAT = 1;
/** With what is around the message. */
const MAX_BYTES = MESSAGE_MAX_BYTES + 1024;
const SentSchema = Strict({
  message: Type.Unknown(),
  without: Type.Optional(
    Type.Record(Type.String({ pattern: '^[a-zA-Z]{1,32}$' }), HexOf(8), { maxProperties: 4 }),
  ),
});

export function encodeMessage(sent: Sent): Hex {
  const json = utf8(canonicalize(sent) ?? '');
  const packed = brotliCompressSync(json, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
      [constants.BROTLI_PARAM_SIZE_HINT]: json.length,
    },
  });
  return to0x(Uint8Array.of(FORMAT, ...packed));
}

/** @throws CALLDATA_MALFORMED for bytes of another form, and for such as unpack to more than any message has */
export function decodeMessage(bytes: Hex): Sent {
  const [format, ...packed] = fromHex(bytes.slice(2));
  if (format !== FORMAT) throw malformed('it is of no form that this release knows');
  let json: string;
  try {
    json = brotliDecompressSync(Uint8Array.from(packed), { maxOutputLength: MAX_BYTES }).toString();
  } catch (cause) {
    throw malformed('it does not unpack', cause);
  }
  return parseJson(SentSchema, json, 'CALLDATA_MALFORMED', 'what a transaction publishes', MAX_BYTES);
}

const malformed = (why: string, cause?: unknown): DstackError =>
  new DstackError('CALLDATA_MALFORMED', `what a transaction publishes is no message: ${why}`, { cause });
