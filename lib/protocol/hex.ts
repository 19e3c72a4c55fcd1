/**
 * Hex as messages and the chain write it. There are two spellings of the same bytes, and which one a field has is part of its
 * format: messages write lower-case digits, the chain writes them after `0x`, and an address may have the mixed case of its
 * checksum (EIP-55) as well. So neither bytes nor addresses are compared by `===`, but by `sameHex` and `sameAddress`, whose
 * types a string gets only by passing a parser: a schema of schema.ts, a decoder of abi.ts, or
 * a function of this file or encoding.ts.
 */
import { fromHex } from './encoding.ts';
import { DstackError } from './errors.ts';

declare const hex: unique symbol;
declare const address: unique symbol;

/** Whole bytes as hex digits, with `0x` or without. */
export type Hex = string & { readonly [hex]: true };

/** An account or a contract: `0x` and 40 hex digits, in any case. */
export type Address = `0x${string}` & { readonly [address]: true };

const ADDRESS = /^0x[0-9a-fA-F]{40}$/;

/** The text, if it is whole bytes of hex, in either spelling. @throws ENCODING_HEX */
export function parseHex(text: string, length?: number): Hex {
  fromHex(text, length);
  return text as Hex;
}

/** The same bytes as messages write them. */
export function bareHex(value: Hex): Hex {
  return digitsOf(value) as Hex;
}

/** The same bytes as the chain writes them. */
export function chainHex(value: Hex): Hex & `0x${string}` {
  return `0x${digitsOf(value)}` as Hex & `0x${string}`;
}

/** Whether two spellings are of the same bytes. Public values only: not constant time. */
export function sameHex(a: Hex, b: Hex): boolean {
  return digitsOf(a) === digitsOf(b);
}

/** Whether it is written as an address, in any case; the checksum of a mixed one is not checked. */
export function isAddress(text: string): text is Address {
  return ADDRESS.test(text);
}

/** The text, if it is an address. @throws ADDRESS_INVALID */
export function parseAddress(text: string): Address {
  if (isAddress(text)) return text;
  throw new DstackError('ADDRESS_INVALID', `not an address: ${JSON.stringify(text.slice(0, 80))}`);
}

/** Whether two spellings are of the same account. */
export function sameAddress(a: Address, b: Address): boolean {
  return addressKey(a) === addressKey(b);
}

/** The one spelling of an address for what is looked up by it: keys of maps, names of files, labels of metrics. */
export function addressKey(value: Address): Address {
  return value.toLowerCase() as Address;
}

/** What the contract shows where there is nothing. */
export const ZERO_ADDRESS: Address = parseAddress(`0x${'00'.repeat(20)}`);
export const ZERO_WORD: Hex = parseHex(`0x${'00'.repeat(32)}`);

function digitsOf(value: Hex): string {
  return (value.startsWith('0x') ? value.slice(2) : value).toLowerCase();
}
