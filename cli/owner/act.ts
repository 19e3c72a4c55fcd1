/**
 * The only place where an owner's transaction is signed, always in this order: what it needs is read through a quorum, what will
 * be signed is shown, the owner agrees, it is signed and handed to every endpoint, a quorum has its receipt, and the contract's
 * state, read back through the quorum, shows the change. A receipt alone proves nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { readKeyFile } from '../../host/relay/settings.ts';
import { Signer, type Unsigned } from '../../host/relay/signer.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { confirm, print } from '../../lib/daemon/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';
import {
  type ChainConnection,
  chainIdOf,
  chainOptions,
  connectNetwork,
  contractOption,
  type NetworkConnection,
} from './connection.ts';
import { describeTransaction } from './describe.ts';

const signingOptions = {
  'owner-key': {
    value: 'FILE',
    help: "file with the owner's private key, in hex; chmod 600",
    env: 'DSTACK_OWNER_KEY_FILE',
    required: true,
  },
  'max-fee-gwei': {
    value: 'NUMBER',
    help: 'never offer more per gas',
    env: 'DSTACK_MAX_FEE_GWEI',
    default: '100',
  },
  yes: { help: 'sign what is shown without asking; for scripts' },
} satisfies Record<string, Option>;

export const deployOptions = { ...chainOptions, ...signingOptions };
export const ownerOptions = { ...chainOptions, contract: contractOption, ...signingOptions };

/** One transaction of the owner's. */
export interface Deed {
  readonly data: string;
  /** What it will do and when that takes effect, line by line. */
  readonly effect: readonly string[];
  /**
   * Whether the state at a block shows that it is done: lines that say what is now in force and since when, or what the state shows instead.
   */
  proof(at: Head): Promise<{ readonly done: readonly string[] } | { readonly instead: string }>;
}

export interface Owner extends NetworkConnection {
  readonly signer: Signer;
}

/**
 * The contract and its owner's key, once the account has no transaction under way: an interrupted command may already have sent
 * one, and whatever a check reads before that is mined is about to change.
 * @throws KEY_FILE, TRANSACTION_PENDING; the codes of connectNetwork
 */
export async function openOwner(args: Arguments): Promise<Owner> {
  const signer = signerOf(args);
  const connection = await connectNetwork(args);
  await settled(connection, signer.address);
  return { ...connection, signer };
}

/** Finds what is wrong on this machine before any endpoint is asked. @throws USAGE, KEY_FILE */
export function signerOf(args: Arguments): Signer {
  feeCeiling(args);
  const chainId = chainIdOf(args);
  const file = args.text('owner-key');
  const key = readKeyFile(file, 'KEY_FILE', "the owner's key");
  try {
    return new Signer(key, chainId);
  } catch {
    // The cause may quote the key.
    throw new DstackError('KEY_FILE', `${file} holds 32 bytes that are not a secp256k1 private key`);
  }
}

/** Carries out one deed on the contract: shows it, signs and sends it, reads it back. */
export async function act(args: Arguments, owner: Owner, deed: Deed): Promise<void> {
  const { contract, isOurCode, signer, chain } = owner;
  const { block } = await signAndSend(
    args,
    owner,
    signer,
    { to: contract, data: deed.data },
    {
      isOurCode,
      effect: deed.effect,
    },
  );
  const shown = await until(async () => {
    const head = await chain.head();
    if (head.number < block) return { instead: `block ${head.number} as the newest` };
    const proof = await deed.proof(head);
    return 'done' in proof ? { ...proof, head } : proof;
  });
  print(...shown.done, `read back at block ${shown.head.number}, by ${owner.sources}`);
}

/**
 * Shows, asks, signs, sends, and waits until a quorum has the receipt.
 * @throws NOT_CONFIRMED before anything is signed; BALANCE_TOO_LOW, TX_GAS, TX_FEE_CEILING, CONTRACT_REFUSED, CHAIN_*;
 *   afterwards TRANSACTION_REFUSED, TRANSACTION_UNSEEN, TRANSACTION_FAILED
 */
export async function signAndSend(
  args: Arguments,
  { chainId, endpoints }: ChainConnection,
  signer: Signer,
  { to, data }: { readonly to?: string; readonly data: string },
  shown: { readonly isOurCode: boolean | undefined; readonly effect: readonly string[] },
): Promise<{ readonly block: number; readonly nonce: number }> {
  const from = signer.address;
  const balance = await endpoints.balance(from);
  if (balance === 0n) throw tooPoor(from, 'nothing');
  const target = to === undefined ? {} : { to };
  const transaction: Unsigned = {
    ...target,
    data,
    nonce: await endpoints.nonce(from),
    gas: await endpoints.gas({ from, data, ...target }),
    fees: await endpoints.fees(feeCeiling(args)),
  };
  if (balance < transaction.gas * transaction.fees.maxFee) throw tooPoor(from, `${balance} wei`);

  print(
    ...describeTransaction({
      chainId,
      firstBlock: endpoints.firstBlock,
      account: from,
      transaction,
      ...shown,
    }),
  );
  await requireConsent(args);
  const { hash, raw } = signer.sign(transaction);
  await endpoints.send(raw);
  print(`sent ${hash}; waiting`);
  const receipt = await minedReceipt(endpoints, hash);
  if (!receipt.succeeded) {
    throw new DstackError('TRANSACTION_FAILED', `${hash} failed in block ${receipt.block}`);
  }
  print(`in block ${receipt.block}, ${receipt.gasUsed} gas`);
  return { block: receipt.block, nonce: transaction.nonce };
}

/** Much longer than blocks usually take: by then its fee is too low, and waiting longer is no use. */
const SETTLE_MS = 120_000;
/** Some endpoints may be a few blocks behind. */
const READ_BACK_MS = 30_000;
const PAUSE_MS = 500;

/** @throws TRANSACTION_PENDING */
export async function settled({ endpoints }: ChainConnection, account: string): Promise<void> {
  const begin = performance.now();
  for (let said = false; ; said = true) {
    const mined = await endpoints.nonce(account);
    if (!(await endpoints.hasPending(account, mined))) return;
    if (performance.now() - begin > SETTLE_MS) {
      throw new DstackError(
        'TRANSACTION_PENDING',
        `${account} has an earlier transaction (nonce ${mined}) that is not mined: wait for it or replace it, then run this again`,
      );
    }
    if (!said) print(`an earlier transaction of ${account} is not mined yet; waiting`);
    await sleep(PAUSE_MS);
  }
}

async function minedReceipt(endpoints: ChainConnection['endpoints'], hash: string) {
  const begin = performance.now();
  for (;;) {
    const receipt = await endpoints.receipt(hash);
    if (receipt !== undefined) return receipt;
    if (performance.now() - begin > SETTLE_MS) {
      throw new DstackError(
        'TRANSACTION_UNSEEN',
        `no quorum has a receipt of ${hash} after ${SETTLE_MS / 1000} s; it is signed, and may still be mined`,
      );
    }
    await sleep(PAUSE_MS);
  }
}

/**
 * Looks until the state shows that it is done.
 * @throws NOT_READ_BACK
 */
export async function until<Done extends object>(
  look: () => Promise<Done | { readonly instead: string }>,
): Promise<Exclude<Done, { readonly instead: string }>> {
  const begin = performance.now();
  for (;;) {
    const seen = await look();
    if (!('instead' in seen)) return seen as Exclude<Done, { readonly instead: string }>;
    if (performance.now() - begin > READ_BACK_MS) {
      throw new DstackError(
        'NOT_READ_BACK',
        `a receipt says that it is done, but a quorum of endpoints shows ${seen.instead}: treat it as not done`,
      );
    }
    await sleep(PAUSE_MS);
  }
}

/** @throws NOT_CONFIRMED */
async function requireConsent(args: Arguments): Promise<void> {
  if (args.flag('yes')) return;
  const answer = await confirm('Sign and send this?');
  if (answer === 'yes') return;
  throw new DstackError(
    'NOT_CONFIRMED',
    answer === 'no'
      ? 'nothing was signed'
      : 'nothing was signed: there is no terminal to ask on; --yes signs what is shown without asking',
  );
}

/** Wei per gas. */
function feeCeiling(args: Arguments): bigint {
  const text = args.text('max-fee-gwei');
  const gwei = /^\d{1,6}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(gwei > 0 && gwei <= 100_000)) {
    throw new UsageError(`--max-fee-gwei takes a number above 0, 100000 at most, not ${text}`);
  }
  return BigInt(Math.round(gwei * 1e9));
}

function tooPoor(account: string, what: string): DstackError {
  return new DstackError(
    'BALANCE_TOO_LOW',
    `${account} has ${what}, which does not pay for this transaction: send ether to it`,
  );
}
