/**
 * The network of who names no other one: `records node start` without `--genesis`, and commands in a folder that has asked no node yet.
 *
 * Its rules are below; its genesis is default-genesis.ts, which `node host/records/service/make-default-genesis.ts` made, under a key that was in that process' memory alone and is kept
 * nowhere. There is no authority and nothing can be amended, so that all that the key could do is to write without work. Where nodes are, it does not say.
 */
import type { GenesisRules } from '../../../lib/protocol/records/genesis.ts';
import { DEFAULT_GENESIS, DEFAULT_NETWORK } from './default-genesis.ts';

export const DEFAULT_RULES: GenesisRules = {
  version: 1,
  name: 'dstack',
  contact: '',
  comment: 'the network of who names no other one; whoever does the work writes',
  amendable: [],
  minLinks: 2,
  maxValue: 65_536,
  drift: 60_000,
  // Of a small record, about a second of one core.
  bytesPerSolution: 16,
  authorities: [],
  certificateRequired: false,
};
/** Milliseconds since 1970: of no day that says anything. */
export const DEFAULT_BEGAN = Date.UTC(2026, 0, 1);

/** The identity of its genesis record. */
export const defaultNetwork = DEFAULT_NETWORK;

/** Its genesis file. */
export const defaultGenesis = (): Uint8Array => new Uint8Array(Buffer.from(DEFAULT_GENESIS, 'base64'));
