/**
 * Makes default-genesis.ts, the genesis of the default network: `node host/records/service/make-default-genesis.ts > FILE`. Each run makes another
 * network: the rules and the time are those of default-network.ts, the founder's key is a new one that is in this process' memory alone and ends with it.
 */
import { randomBytes } from 'node:crypto';
import { print } from '../../../lib/daemon/terminal.ts';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { DEFAULT_BEGAN, DEFAULT_RULES } from './default-network.ts';
import { makeGenesis, parseGenesis } from './genesis-file.ts';

const LINE = 96;

const bytes = makeGenesis(DEFAULT_RULES, new Uint8Array(randomBytes(32)), DEFAULT_BEGAN);
const lines = Buffer.from(bytes)
  .toString('base64')
  .match(new RegExp(`.{1,${LINE}}`, 'g'))!;
print(
  '/** Made by `node host/records/service/make-default-genesis.ts`: what a genesis file has, in base64, and the identity of its first record. */',
  `export const DEFAULT_NETWORK = '${toHex(parseGenesis(bytes).genesis.id)}' as const;`,
  'export const DEFAULT_GENESIS = [',
  ...lines.map((line) => `  '${line}',`),
  "].join('');",
);
