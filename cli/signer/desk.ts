/** What the commands of the signer share: the configuration, the chain that is meant, the secret of a signer outside of a VM. */
import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { type ChainConfig, parseConfig, type SignerConfig } from '../../guest/signer/config.ts';
import { type OpenStore, openStore } from '../../guest/signer/daemon.ts';
import type { SignerSecret } from '../../guest/signer/keys.ts';
import type { Desk } from '../../guest/signer/operator.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { RpcError } from '../../lib/etcd/errors.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Option, typed, UsageError } from '../command.ts';

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

/** @throws FILE_KIND, FILE_TOO_LARGE, FILE for one that cannot be read: what was typed is another file's name */
export function readBytes(file: string): Uint8Array {
  try {
    return typed(() => readBounded(file, { maxBytes: MAX_FILE, pipes: true }));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, 'FILE');
  }
}

export function readText(file: string): string {
  return Buffer.from(readBytes(file)).toString('utf8');
}

/** @throws SIGNER_CONFIG, and as `readBytes` */
export function configFrom(args: Arguments): SignerConfig {
  const file = args.text('config');
  if (!existsSync(file))
    throw new UsageError(
      `${file} is not there: --config names the configuration, and \`signer init\` writes one`,
    );
  const text = readText(file);
  return typed(() => parseConfig(text));
}

/** @throws SIGNER_SECRET */
export function secretFrom(file: string): SignerSecret {
  const wrong = (why: string) => new UsageError(`${file} ${why}`, 'SIGNER_SECRET');
  if (!existsSync(file)) throw wrong('is not there: `signer init --secret FILE` makes a secret');
  const stat = statSync(file);
  if (stat.isFile() && (stat.mode & 0o077) !== 0) throw wrong(`can be read by others: chmod 600 ${file}`);
  const text = readText(file).trim();
  if (!/^[0-9a-f]{64}$/.test(text)) throw wrong('does not hold 64 hex digits, in lower case');
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
  return atStore(config, ({ records }) => act({ records, secret }, chain, config));
}

/** Does something at the store, and leaves it. @throws STORE_UNAVAILABLE instead of the store's errors */
export async function atStore<T>(config: SignerConfig, act: (store: OpenStore) => Promise<T>): Promise<T> {
  const store = openStore(config);
  try {
    return await act(store);
  } catch (error) {
    throw error instanceof RpcError ? unavailable(config, error) : error;
  } finally {
    store.client.close();
  }
}

export function unavailable({ store }: SignerConfig, error: RpcError): DstackError {
  const why = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return new DstackError('STORE_UNAVAILABLE', `${store.endpoints.join(', ')}: ${error.message}${why}`, {
    cause: error,
  });
}
