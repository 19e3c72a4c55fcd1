/** What a transaction is for, as the key under which it is queued: `kind:…`. A purpose has at most one transaction. */

/** The purpose of a transaction that only uses up a nonce. */
export const fillerOf = (nonce: number): string => `fill:${nonce}`;

/** `register` of `register:0x…:0x…`, for metrics and log lines. */
export const kindOf = (purpose: string): string => purpose.split(':')[0]!;
