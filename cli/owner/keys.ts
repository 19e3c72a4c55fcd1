/**
 * The owner's key as its owner holds it: in a keystore that a password opens, typed in, in a device or a service that signs, or, for
 * tests and rehearsals, bare in a file. The first of these that is given counts; the environment alone comes last.
 */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { decryptKeystoreJson, isKeystoreJson, Transaction } from 'ethers';
import { Type } from 'typebox';
import { readKeyFile } from '../../host/relay/settings.ts';
import { rpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { askSecret, printError } from '../../lib/daemon/terminal.ts';
import { Signer, transactionOf, type Unsigned } from '../../lib/framework/transactions/signer.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress, sameAddress } from '../../lib/protocol/hex.ts';
import { Address0x } from '../../lib/protocol/schema.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';
import { readGiven, requireAddress } from './connection.ts';

/** Read only when nothing else names a key: every process of this user sees it, and shells remember it. */
const BARE_KEY = 'DSTACK_OWNER_PRIVATE_KEY';

export const keyOptions = {
  'owner-key': {
    value: 'FILE',
    help: "the owner's key: an encrypted keystore as `cast wallet` makes them, or bare hex; chmod 600",
    env: 'DSTACK_OWNER_KEY_FILE',
  },
  account: { value: 'NAME', help: 'the keystore ~/.foundry/keystores/NAME', env: 'DSTACK_OWNER_ACCOUNT' },
  'password-file': {
    value: 'FILE',
    help: "holds the keystore's password, chmod 600; without it, it is asked for",
    env: 'DSTACK_OWNER_PASSWORD_FILE',
  },
  interactive: { help: 'ask for the key itself, which is not shown' },
  signer: {
    value: 'URL|PROGRAM',
    help: 'who signs instead: an endpoint with eth_signTransaction, or a program that reads the transaction and prints it signed',
    env: 'DSTACK_OWNER_SIGNER',
  },
  from: {
    value: 'ADDRESS',
    help: "the account of --signer; an endpoint's only one when left out",
    env: 'DSTACK_OWNER_FROM',
  },
} satisfies Record<string, Option>;

/** Whoever signs for one account, on one chain. */
export interface OwnerKey {
  readonly address: Address;
  /** @returns the transaction's hash, and what endpoints are given @throws SIGNER, SIGNER_OTHER */
  sign(transaction: Unsigned): Promise<{ readonly hash: string; readonly raw: string }>;
}

/** Whether any of the options names a key. */
export function hasKey(args: Arguments): boolean {
  const named = (['owner-key', 'account', 'signer'] as const).some(
    (name) => args.optional(name) !== undefined,
  );
  return named || args.flag('interactive') || bareKey() !== undefined;
}

const WAYS = ['interactive', 'signer', 'account', 'owner-key'];

/** Of two that are typed one would be left out without a word, and it may be the one that was meant. @throws USAGE */
function requireOneWay(args: Arguments): void {
  const [one, other] = WAYS.filter((name) => args.isTyped(name));
  if (one !== undefined && other !== undefined)
    throw new UsageError(`--${one} and --${other} each say whose key signs: give one of them`);
}

/** @throws USAGE when there is none, or two on the command line; KEY_FILE, KEY_PASSWORD, KEY_INTERACTIVE, SIGNER */
export async function ownerKey(args: Arguments, chainId: number): Promise<OwnerKey> {
  requireOneWay(args);
  if (args.flag('interactive')) return held(await typedKey(), 'what was typed', chainId);
  const signer = args.optional('signer');
  if (signer !== undefined) return outside(args, signer, chainId);
  const file = keyFile(args);
  if (file !== undefined) return held(await keyIn(args, file), file, chainId);
  const bare = bareKey();
  if (bare !== undefined) {
    printError(`the key is taken from ${BARE_KEY}: a keystore (--account, --owner-key) is safer`);
    return held(bare, BARE_KEY, chainId);
  }
  throw new UsageError(
    '--owner-key is missing (or DSTACK_OWNER_KEY_FILE in the environment): or give --account, --interactive or --signer; --unsigned needs no key',
  );
}

function bareKey(): string | undefined {
  const text = process.env[BARE_KEY];
  return text === undefined || text === '' ? undefined : text;
}

function keyFile(args: Arguments): string | undefined {
  const account = args.optional('account');
  if (account === undefined) return args.optional('owner-key');
  if (!/^[\w.@-]{1,100}$/.test(account) || account.startsWith('.')) {
    throw new UsageError(`--account takes the name of a keystore, not ${account}; for a file: --owner-key`);
  }
  return join(process.env.HOME ?? homedir(), '.foundry/keystores', account);
}

function held(key: string, whence: string, chainId: number): OwnerKey {
  let signer: Signer;
  try {
    signer = new Signer(/^[0-9a-fA-F]{64}$/.test(key) ? `0x${key}` : key, chainId);
  } catch {
    // The cause may quote the key.
    throw new DstackError('KEY_FILE', `${whence} is not a secp256k1 private key of 32 bytes in hex`);
  }
  return { address: signer.address, sign: async (transaction) => signer.sign(transaction) };
}

/** @throws KEY_FILE, KEY_PASSWORD */
async function keyIn(args: Arguments, file: string): Promise<string> {
  const text = keystoreText(file);
  if (text === undefined) return readKeyFile(file, 'KEY_FILE', "the owner's key");
  if (!isKeystoreJson(text)) {
    throw new DstackError('KEY_FILE', `${file} is JSON, but no keystore of version 3 (Web3 Secret Storage)`);
  }
  const password = await passwordOf(args, file);
  try {
    return (await decryptKeystoreJson(text, password)).privateKey;
  } catch (cause) {
    const isWrong = /password/i.test((cause as Error).message);
    throw new DstackError(
      isWrong ? 'KEY_PASSWORD' : 'KEY_FILE',
      isWrong ? `that password does not open ${file}` : `${file} is a keystore that cannot be read`,
    );
  }
}

const KEYSTORE_MAX_BYTES = 65_536;

/** Undefined for a file that is not JSON, and for one that cannot be read, of which readKeyFile says why. */
function keystoreText(file: string): string | undefined {
  try {
    const bytes = readGiven("the owner's key", file);
    const text = bytes.length > KEYSTORE_MAX_BYTES ? '' : bytes.toString('utf8');
    return text.trimStart().startsWith('{') ? text : undefined;
  } catch {
    return undefined;
  }
}

/** Of a password file its last line break is left out, as by `cast`. */
async function passwordOf(args: Arguments, keystore: string): Promise<string> {
  const file = args.optional('password-file');
  if (file !== undefined) return passwordIn(file);
  const password = await askSecret(`Password of ${keystore}`);
  if (password !== undefined) return password;
  throw new DstackError(
    'KEY_PASSWORD',
    `${keystore} is encrypted, and there is no terminal to ask for its password on: give --password-file`,
  );
}

/** As private as a bare key: it opens one. @throws KEY_PASSWORD */
function passwordIn(file: string): string {
  const text = readGiven('--password-file', file).toString('utf8');
  if (file !== '-' && (statSync(file).mode & 0o077) !== 0) {
    throw new DstackError('KEY_PASSWORD', `others may read the password in ${file}: chmod 600 it`);
  }
  return text.replace(/\r?\n$/, '');
}

async function typedKey(): Promise<string> {
  const key = await askSecret("The owner's private key, in hex");
  if (key !== undefined) return key.trim();
  throw new DstackError('KEY_INTERACTIVE', 'there is no terminal to ask for the key on');
}

const RAW = Type.String({ pattern: '^0x([0-9a-f]{2})+$', maxLength: 262_144 });
/** As Geth and Clef answer, and as everybody else does. */
const Signed = Type.Union([Type.Object({ raw: RAW }), RAW]);
const Accounts = Type.Array(Address0x, { maxItems: 10_000 });
/** Somebody may have to find a device, and press its button. */
const SIGNER_PATIENCE_MS = 300_000;

/** A key that stays elsewhere. What comes back is believed only if it is what was shown, signed by that account. */
async function outside(args: Arguments, signer: string, chainId: number): Promise<OwnerKey> {
  const isUrl = /^https?:\/\//.test(signer);
  const from = args.optional('from');
  const address =
    from !== undefined ? requireAddress('from', from) : await onlyAccount(isUrl ? signer : undefined);
  return {
    address,
    async sign(unsigned) {
      const transaction = transactionOf(chainId, unsigned);
      const request = requestOf(transaction, address);
      const raw = isUrl ? await signedByEndpoint(signer, request) : await signedByProgram(signer, request);
      return { raw, hash: sameSigned(raw, transaction, address) };
    },
  };
}

async function onlyAccount(url: string | undefined): Promise<Address> {
  if (url === undefined) throw new UsageError('--from is missing: whose key a --signer program has');
  const accounts = await askSigner(url, Accounts, 'eth_accounts', []);
  const [only] = accounts;
  if (accounts.length === 1) return parseAddress(only!);
  throw new UsageError(`--signer has ${accounts.length} accounts: name one by --from`);
}

/** As `eth_signTransaction` takes it. */
function requestOf(transaction: Transaction, from: Address): Readonly<Record<string, string>> {
  const { chainId, nonce, to, data, gasLimit, gasPrice, maxFeePerGas, maxPriorityFeePerGas } = transaction;
  const quantity = (value: bigint | number) => `0x${value.toString(16)}`;
  return {
    from,
    ...(to !== null && { to }),
    data,
    value: '0x0',
    nonce: quantity(nonce),
    gas: quantity(gasLimit),
    chainId: quantity(chainId),
    ...(transaction.type === 2
      ? { maxFeePerGas: quantity(maxFeePerGas!), maxPriorityFeePerGas: quantity(maxPriorityFeePerGas!) }
      : { gasPrice: quantity(gasPrice!) }),
  };
}

async function signedByEndpoint(url: string, request: object): Promise<string> {
  const answer = await askSigner(url, Signed, 'eth_signTransaction', [request]);
  return typeof answer === 'string' ? answer : answer.raw;
}

async function askSigner<T extends Parameters<ReturnType<typeof rpcEndpoint>['call']>[0]>(
  url: string,
  schema: T,
  method: string,
  params: readonly unknown[],
) {
  const endpoint = rpcEndpoint(url, { timeout: SIGNER_PATIENCE_MS, maxReplyBytes: 1024 * 1024 });
  try {
    return await endpoint.call(schema, method, [...params]);
  } catch (cause) {
    // The URL may contain what lets one in.
    const why = (cause as Error).message.replaceAll(url, new URL(url).host);
    throw new DstackError('SIGNER', `--signer does not do ${method}: ${codeOf(cause)}: ${why}`, { cause });
  }
}

/** Words of the option are separated by spaces; there is no shell. The transaction is one line of JSON on its standard input. */
async function signedByProgram(program: string, request: object): Promise<string> {
  const [file, ...words] = program.trim().split(/ +/);
  const output = await new Promise<string>((resolve, reject) => {
    const options = { timeout: SIGNER_PATIENCE_MS, maxBuffer: 1024 * 1024 };
    const child = execFile(file!, words, options, (cause, stdout, stderr) => {
      if (cause === null) return resolve(stdout);
      const why = stderr.trim().slice(-300) || cause.message;
      return reject(new DstackError('SIGNER', `${file} (--signer) did not sign: ${why}`, { cause }));
    });
    // One that ends before it has read it breaks the pipe; its exit code says why.
    child.stdin!.on('error', () => {});
    child.stdin!.end(`${JSON.stringify(request)}\n`);
  });
  return output.trim();
}

/** @returns its hash @throws SIGNER_OTHER for anything but what was shown */
function sameSigned(raw: string, wanted: Transaction, from: Address): string {
  let signed: Transaction;
  try {
    signed = Transaction.from(/^0x/.test(raw) ? raw : `0x${raw}`);
  } catch {
    throw new DstackError('SIGNER_OTHER', '--signer gave something that is not a signed transaction');
  }
  const by = signed.from;
  if (
    by !== null &&
    signed.unsignedSerialized === wanted.unsignedSerialized &&
    sameAddress(parseAddress(by), from)
  ) {
    return signed.hash!;
  }
  throw new DstackError(
    'SIGNER_OTHER',
    `--signer signed another transaction than was shown, or with the key of ${by ?? 'nobody'} instead of ${from}: it is not sent`,
  );
}
