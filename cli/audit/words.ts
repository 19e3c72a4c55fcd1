/** How an audit says things, and the spellings of hex that its parts hand to each other. */
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';

/** One event in words. */
export function describe(event: NetworkEvent): string {
  const { name, ...fields } = event;
  const values = Object.entries(fields).map(([field, value]) => {
    if (field === 'app') return `app ${nameOf(String(value))}`;
    if (field === 'from') return `from ${instant(Number(value))}`;
    return `${field} ${value}`;
  });
  return [name, ...values].join(', ');
}

/** 2026-01-31 12:00:00Z */
export const instant = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace('T', ' ').replace('.000Z', 'Z');

/** Lower case, without 0x. */
export const bare = (hex: string): string => hex.replace(/^0x/, '').toLowerCase();
export const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(bare(hex), 'hex'));
/** The name in the bytes32 of an app. */
export const nameOf = (app: string): string =>
  Buffer.from(bare(app), 'hex').toString('latin1').replace(/\0+$/, '');
