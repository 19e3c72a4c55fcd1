/** One file of an archive, as an audit reads it, and who takes it. */
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { CONFIG_MAX_BYTES, configHash } from '../../lib/protocol/network-config.ts';
import {
  type AnswerMessage,
  AnswerMessageSchema,
  type BootstrapPackage,
  BootstrapPackageSchema,
  type RequestMessage,
  RequestMessageSchema,
  requestOf,
  type SealedMessage,
  SealedMessageSchema,
} from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';

/** Larger files are skipped. Bytes. */
export const MAX_RECORD_BYTES = 2 * 1024 * 1024;

/**
 * A well-formed record. `subject` is what it is about, lower-case hex without 0x: the hash of its request; of a bootstrap package the
 * hash of its quote; of a network.json its own hash.
 */
export type FoundRecord = { readonly subject: string } & (
  | { readonly kind: 'request'; readonly message: RequestMessage }
  | { readonly kind: 'answer'; readonly message: AnswerMessage }
  /** Relays keep none: what gossip carried may have been caught by somebody. */
  | { readonly kind: 'sealed'; readonly message: SealedMessage }
  | { readonly kind: 'bootstrap'; readonly message: BootstrapPackage }
  | { readonly kind: 'config'; readonly bytes: Uint8Array }
);
export type RecordKind = FoundRecord['kind'];

/** Who takes the records of all sources, in whatever order they come. */
export interface RecordTaker {
  /** Whether files of this name need not be read. */
  skips(name: string): boolean;
  /** Whether it is about something that is asked for: of that, a source may have any number of records. */
  wants(record: FoundRecord): boolean;
  take(record: FoundRecord): void;
}

/** By the beginning of its name; undefined for files that an audit does not read. */
export const kindOf = (name: string): RecordKind | undefined =>
  /^(request|answer|sealed|bootstrap|config)-.*\.json$/s.exec(name)?.[1] as RecordKind | undefined;

/** @throws AUDIT_RECORDS for anything but a record of this kind */
export function recordOf(kind: RecordKind, bytes: Uint8Array): FoundRecord {
  const what = `this ${kind}`;
  if (kind === 'config') {
    if (bytes.length > CONFIG_MAX_BYTES) {
      const message = `${what} has ${bytes.length} bytes, more than ${CONFIG_MAX_BYTES}`;
      throw new DstackError('AUDIT_RECORDS', message);
    }
    return { kind, bytes, subject: toHex(configHash(bytes)) };
  }
  const text = new TextDecoder().decode(bytes);
  switch (kind) {
    case 'request': {
      const message = parseJson(RequestMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      return { kind, message, subject: toHex(requestOf(message).hash) };
    }
    case 'answer': {
      const message = parseJson(AnswerMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      return { kind, message, subject: message.requestHash };
    }
    case 'sealed': {
      const message = parseJson(SealedMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      return { kind, message, subject: message.requestHash };
    }
    case 'bootstrap': {
      const message = parseJson(BootstrapPackageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      return { kind, message, subject: message.quoteHash };
    }
  }
}
