/**
 * Names and ordinals as they are typed: `name` (ordinal 0), `name#7`, `name#3#9` (a range, both included), `name#` (all). In a name, `\#` is #, `\\` is \, and
 * `\xNN` the byte NN, so that a name can be any bytes; whatever else follows a \ stays as it is.
 */
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { MAX_NAME_BYTES } from '../../lib/protocol/records/names.ts';
import { MAX_ORDINAL } from '../../lib/protocol/records/ordinals.ts';
import { UsageError } from '../command.ts';

export interface Selection {
  readonly name: Uint8Array;
  readonly from: bigint;
  readonly to: bigint;
}

/** @throws USAGE */
export function parseSelections(texts: readonly string[]): Selection[] {
  const selections = texts.map(parseSelection);
  for (const [i, { name }] of selections.entries()) {
    if (selections.slice(0, i).some((other) => bytesEqual(other.name, name)))
      throw new UsageError(`the name ${texts[i]} is given twice`);
  }
  return selections;
}

function parseSelection(text: string): Selection {
  const [, escaped = '', rest = ''] = /^((?:\\[\s\S]|[^#\\])*)([\s\S]*)$/.exec(text) ?? [];
  const name = unescapeName(escaped);
  if (name.length === 0)
    throw new UsageError(`${JSON.stringify(text)} has no name: it is like name, name#7 or name#3#9`);
  if (name.length > MAX_NAME_BYTES)
    throw new UsageError(`a name has up to ${MAX_NAME_BYTES} bytes, not ${name.length}`);
  if (rest === '') return { name, from: 0n, to: 0n };
  if (rest === '#') return { name, from: 0n, to: MAX_ORDINAL };
  const [, first, last = first] = /^#(\d{1,20})(?:#(\d{1,20}))?$/.exec(rest) ?? [];
  if (first === undefined || last === undefined)
    throw new UsageError(`${rest} is no ordinal: it is like #7 or #3#9; write \\# for a # in a name`);
  const [from, to] = [BigInt(first), BigInt(last)];
  if (from > to || to > MAX_ORDINAL)
    throw new UsageError(`ordinals are 0 to ${MAX_ORDINAL}, the lower one first, not ${rest}`);
  return { name, from, to };
}

function unescapeName(text: string): Uint8Array {
  const parts = text.split(/(\\x[\da-fA-F]{2}|\\#|\\\\)/).map((part) => {
    if (part === '\\#' || part === '\\\\') return Buffer.from(part.slice(1));
    return /^\\x[\da-fA-F]{2}$/.test(part) ? Buffer.from(part.slice(2), 'hex') : Buffer.from(part);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** The name as it is typed. */
export function showName(name: Uint8Array): string {
  const text = textOf(name);
  if (text === undefined) return [...name].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  return text.replace(/[\\#]/g, '\\$&');
}

/** Undefined for what is not UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
