/** What the commands of the signer share: the configuration, the chain that is meant, the secret of a signer outside of a VM. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { type ChainConfig, parseConfig, type SignerConfig } from '../../guest/signer/config.ts';
import { openStore } from '../../guest/signer/daemon.ts';
import type { SignerSecret } from '../../guest/signer/keys.ts';
import type { Desk } from '../../guest/signer/operator.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';

const MAX_FILE = 1024 * 1024;

export const configOption: Record<string, Option> = {
  config: {
    value: 'FILE',
    short: 'c',
    help: 'the configuration',
    default: 'signer.toml',
    env: 'DSTACK_SIGNER_CONFIG',
  },
};
export const deskOptions: Record<string, Option> = {
  ...configOption,
  secret: {
    value: 'FILE',
    help: 'the secret of a signer outside of a VM, 64 hex digits',
    env: 'DSTACK_SIGNER_SECRET',
    required: true,
  },
  'chain-id': { value: 'ID', help: 'which chain of the configuration; its only one by default' },
};

export function readText(file: string): string {
  if (statSync(file).size > MAX_FILE) throw new UsageError(`${file} has more than ${MAX_FILE} bytes`);
  return readFileSync(file, 'utf8');
}

export function configFrom(args: Arguments): SignerConfig {
  return parseConfig(readText(args.text('config')));
}

/** @throws SIGNER_SECRET */
export function secretFrom(file: string): SignerSecret {
  if ((statSync(file).mode & 0o077) !== 0) {
    throw new DstackError('SIGNER_SECRET', `${file} can be read by others: chmod 600 ${file}`);
  }
  const text = readText(file).trim();
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new DstackError('SIGNER_SECRET', `${file} does not hold 64 hex digits`);
  return { secret: fromHex(text, 32), epoch: 0 };
}

/** The secret in a file, which is made if it is not there. */
export function secretIn(file: string): SignerSecret {
  if (!existsSync(file)) writeDurably(file, `${toHex(new Uint8Array(randomBytes(32)))}\n`, 0o600);
  return secretFrom(file);
}

/** @throws USAGE */
export function chainFrom(args: Arguments, config: SignerConfig): ChainConfig {
  const wanted = args.optional('chain-id');
  const [first, ...more] = config.chains;
  const names = config.chains.map(({ id }) => id).join(', ');
  if (wanted === undefined) {
    if (more.length > 0) throw new UsageError(`--chain-id says which chain: ${names}`);
    return first!;
  }
  const chain = config.chains.find(({ id }) => id === wanted);
  if (chain === undefined)
    throw new UsageError(`chain ${wanted} is not in the configuration, which has ${names}`);
  return chain;
}

/** Does something at the store, and leaves it. */
export async function atDesk<T>(
  args: Arguments,
  act: (desk: Desk, chain: ChainConfig, config: SignerConfig) => Promise<T>,
): Promise<T> {
  const config = configFrom(args);
  const chain = chainFrom(args, config);
  const secret = secretFrom(args.text('secret'));
  const { client, records } = openStore(config);
  try {
    return await act({ records, secret }, chain, config);
  } finally {
    client.close();
  }
}
