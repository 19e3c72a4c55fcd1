/**
 * The only place where an owner's transaction is signed, always in this order: what it needs is read through a quorum, what will
 * be signed is shown, the owner agrees, it is signed and handed to every endpoint, a quorum has its receipt, and the contract's
 * state, read back through the quorum, shows the change. A receipt alone proves nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Head } from '../../lib/chain/chain-client.ts';
import { confirm, printError, printJson } from '../../lib/daemon/terminal.ts';
import type { Unsigned } from '../../lib/framework/transactions/signer.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress } from '../../lib/protocol/hex.ts';
import {
  decodeOwner,
  decodePendingOwner,
  encodeOwner,
  encodePendingOwner,
} from '../../lib/protocol/network-contract.ts';
import { type Arguments, narration, narrationOptions, type Option, UsageError } from '../command.ts';
import {
  type ChainConnection,
  chainIdOf,
  chainOptions,
  connectNetwork,
  contractOf,
  contractOption,
  type NetworkConnection,
} from './connection.ts';
import { type Decoded, decodedCall, describeTransaction } from './describe.ts';
import { handOver, handOverOptions, isHandedOver } from './hand-over.ts';
import { hasKey, keyOptions, type OwnerKey, ownerKey } from './keys.ts';

const signingOptions = {
  ...keyOptions,
  'max-fee-gwei': {
    value: 'NUMBER',
    help: 'never offer more per gas',
    env: 'DSTACK_MAX_FEE_GWEI',
    default: '100',
  },
  yes: { help: 'sign what is shown without asking; for scripts' },
  'dry-run': { help: 'do all but sign; without a key, as if the account that may do this had sent it' },
  ...narrationOptions,
} satisfies Record<string, Option>;

export const deployOptions = { ...chainOptions, ...signingOptions };
export const ownerOptions = {
  ...chainOptions,
  contract: contractOption,
  ...signingOptions,
  ...handOverOptions,
};

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
  /** Who may do it. */
  readonly account: Address;
  /** Undefined where nothing is signed on this machine. */
  readonly key: OwnerKey | undefined;
}

/** What a command that was given `--json` prints. Amounts are of wei, in decimal. */
interface Done {
  readonly chainId: number;
  readonly from: string;
  /** Null for a deployment. */
  readonly to: string | null;
  readonly value: '0';
  readonly data: string;
  readonly decoded: Decoded | null;
  readonly effect: readonly string[];
  /** Null when nothing was sent. */
  readonly sent: { readonly hash: string; readonly block: number; readonly gasUsed: number } | null;
}

/**
 * The contract and the key of whoever may do this, once the account has no transaction under way: an interrupted command may
 * already have sent one, and whatever a check reads before that is mined is about to change.
 * @param who the owner; to take over, the one that was named for it
 * @throws NOT_THE_OWNER, TRANSACTION_PENDING; the codes of ownerKey and connectNetwork
 */
export async function openOwner(args: Arguments, who: 'owner' | 'next owner' = 'owner'): Promise<Owner> {
  // Before a signer elsewhere is asked for anything.
  contractOf(args, 'contract');
  const key = isHandedOver(args) ? undefined : await keyOf(args);
  const connection = await connectNetwork(args);
  const account = await whoMay(connection, who);
  if (key !== undefined && !sameAddress(key.address, account)) {
    throw new DstackError(
      'NOT_THE_OWNER',
      `${connection.contract} does this for its ${who} alone, ${account}, and the key that is given is that of ${key.address}: give the other key, or let that account send what --unsigned (for a Safe: --format safe) writes`,
    );
  }
  if (key !== undefined) await settled(connection, key.address);
  return { ...connection, account, key };
}

async function whoMay({ chain, call }: NetworkConnection, who: 'owner' | 'next owner'): Promise<Address> {
  const head = await chain.head();
  if (who === 'owner') return decodeOwner(await call(encodeOwner(), head));
  const account = decodePendingOwner(await call(encodePendingOwner(), head));
  if (BigInt(account) !== 0n) return account;
  throw new DstackError('NO_NEXT_OWNER', 'nobody was named as the next owner: first, network owner transfer');
}

/**
 * Finds what is wrong on this machine before any endpoint is asked.
 * @returns undefined for `--dry-run` without a key
 * @throws USAGE; the codes of ownerKey
 */
export async function keyOf(args: Arguments): Promise<OwnerKey | undefined> {
  feeCeiling(args);
  const chainId = chainIdOf(args);
  if (args.flag('dry-run') && !hasKey(args)) return undefined;
  return ownerKey(args, chainId);
}

/** Carries out one deed on the contract: shows it, signs and sends it, reads it back; or hands it over to who signs elsewhere. */
export async function act(args: Arguments, owner: Owner, deed: Deed): Promise<void> {
  const { contract, isOurCode, chain, key, account, chainId, endpoints } = owner;
  const say = narration(args);
  if (isHandedOver(args)) {
    // The contract says now what it would say to the owner.
    await endpoints.gas({ from: account, to: contract, data: deed.data });
    await handOver(args, { ...deed, to: contract, from: account, chainId, isOurCode });
    return;
  }
  const transaction = { to: contract, data: deed.data };
  const shown = { isOurCode, effect: deed.effect };
  const sent = await signAndSend(args, owner, key ?? account, transaction, shown);
  const done = {
    chainId,
    from: key?.address ?? account,
    ...transaction,
    value: '0',
    decoded: decodedCall(deed.data),
    effect: deed.effect,
  } as const;
  if (sent === undefined) return report(args, { ...done, sent: null });
  const shownState = await until(async () => {
    const head = await chain.head();
    if (head.number < sent.block) return { instead: `block ${head.number} as the newest` };
    const proof = await deed.proof(head);
    return 'done' in proof ? { ...proof, head } : proof;
  });
  say(...shownState.done, `read back at block ${shownState.head.number}, by ${owner.sources}`);
  const { hash, block, gasUsed } = sent;
  report(args, { ...done, sent: { hash, block, gasUsed } });
}

/** The result for a program. */
export function report(args: Arguments, done: Done & Readonly<Record<string, unknown>>): void {
  if (args.flag('json')) printJson(done, 2);
}

/**
 * Shows, asks, signs, sends, and waits until a quorum has the receipt.
 * @param signer a key, or, with `--dry-run`, an account alone
 * @returns undefined when nothing was to be signed
 * @throws NOT_CONFIRMED before anything is signed; BALANCE_TOO_LOW, TX_GAS, TX_FEE_CEILING, CONTRACT_REFUSED, CHAIN_*;
 *   afterwards TRANSACTION_REFUSED, TRANSACTION_UNSEEN, TRANSACTION_FAILED
 */
export async function signAndSend(
  args: Arguments,
  { chainId, endpoints }: ChainConnection,
  signer: OwnerKey | Address,
  { to, data }: { readonly to?: string; readonly data: string },
  shown: { readonly isOurCode: boolean | undefined; readonly effect: readonly string[] },
): Promise<
  | { readonly hash: string; readonly block: number; readonly gasUsed: number; readonly nonce: number }
  | undefined
> {
  const say = narration(args);
  const isDryRun = args.flag('dry-run');
  const from = typeof signer === 'string' ? signer : signer.address;
  const balance = await endpoints.balance(from);
  if (balance === 0n && !isDryRun) throw tooPoor(from, 'nothing');
  const target = to === undefined ? {} : { to };
  const transaction: Unsigned = {
    ...target,
    data,
    nonce: await endpoints.nonce(from),
    gas: await endpoints.gas({ from, data, ...target }),
    fees: await endpoints.fees(feeCeiling(args)),
  };
  const isEnough = balance >= transaction.gas * transaction.fees.maxFee;
  if (!isEnough && !isDryRun) throw tooPoor(from, `${balance} wei`);

  const lines = describeTransaction({
    chainId,
    firstBlock: endpoints.firstBlock,
    account: from,
    transaction,
    ...shown,
  });
  say(...lines);
  if (isDryRun || typeof signer === 'string') {
    say(
      `nothing was signed (--dry-run)${isEnough ? '' : `; ${from} has ${balance} wei, which does not pay for it`}`,
    );
    return undefined;
  }
  await requireConsent(args);
  const { hash, raw } = await signer.sign(transaction);
  await endpoints.send(raw);
  say(`sent ${hash}; waiting`);
  const receipt = await minedReceipt(endpoints, hash);
  if (!receipt.succeeded) {
    throw new DstackError('TRANSACTION_FAILED', `${hash} failed in block ${receipt.block}`);
  }
  say(`in block ${receipt.block}, ${receipt.gasUsed} gas`);
  return { hash, block: receipt.block, gasUsed: receipt.gasUsed, nonce: transaction.nonce };
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
    if (!said) printError(`an earlier transaction of ${account} is not mined yet; waiting`);
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
