/** What enclave, host and users agree on: a transfer and what it is sealed for, and how an account asks for its balance. */
import {
  type Address,
  Address0x,
  type AppDomain,
  abi,
  fromHex,
  type Hex,
  keccak256,
  lengthPrefixed,
  Strict,
  Type,
  to0x,
  utf8,
} from 'dstack/framework';

/** The app's key that transfers are sealed to; and, at a user's, the key that a balance is. */
export const TRANSFERS = 'transfers';
export const BALANCE = 'balance';
/**
 * What an account has to have at least, or nothing at all. There is room for 100: whoever fills it, by deposits or by transfers, has to leave so
 * much in each. An app for others says how much that is worth.
 */
export const LEAST_WEI = 10n ** 15n;
/** For how long a user may ask for answers by one signature, seconds. */
export const QUERY_MAX_S = 24 * 60 * 60;
/** Of the sealed balances: more than they ever have. */
const STATE_MAX_BYTES = 8192;

/** Two words, so that all sealed transfers have one length. */
export const Transfer = abi.struct({ to: abi.address, wei: abi.bigUint(256) });
export const Balance = abi.struct({ wei: abi.bigUint(256) });

/** One contract on one chain: another chain may have another contract, and another owner of an account, at the same address. */
export const domainBytes = ({ chainId, contract }: AppDomain): Uint8Array =>
  lengthPrefixed([utf8(String(chainId)), fromHex(contract, 20)]);

/** Sealed for one account of one contract: copied by another, it does not open. */
export const boundTo = (purpose: string, app: AppDomain, account: Address): Uint8Array =>
  lengthPrefixed([utf8(purpose), domainBytes(app), fromHex(account, 20)]);

export const hashOf = (state: Hex): Hex => to0x(keccak256(fromHex(state.slice(2))));

const Hex0x = (most: number) =>
  Type.Unsafe<Hex>(Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 2 + 2 * most }));

/** What a host shows with each request: the sealed balances, as the contract's newest event has them. */
export const StateSchema = Hex0x(STATE_MAX_BYTES);

/** A direct request. Its answer is sealed to a key of the user's, so whoever carries it, or repeats it, learns nothing. */
export const BalanceQuery = Strict({
  account: Address0x,
  /** Of the user: `sealingPublicKey`. */
  answerTo: Hex0x(1216),
  state: StateSchema,
  /** Unix seconds, by the chain's clock: what was signed is of no use any more then. */
  until: Type.Integer({ minimum: 0, maximum: 8_640_000_000_000 }),
  /** `personal_sign` of `balanceText`. */
  signature: Hex0x(65),
});
export const BalanceAnswer = Strict({ sealed: Hex0x(2048), block: Type.Integer({ minimum: 0 }) });

/** What a wallet shows, and the account signs. */
export const balanceText = (
  { chainId, contract }: AppDomain,
  { account, answerTo, until }: { account: Address; answerTo: Hex; until: number },
): string =>
  [
    'Show my balance',
    `account ${account.toLowerCase()}`,
    `contract ${contract.toLowerCase()} on chain ${chainId}`,
    `sealed to ${hashOf(answerTo)}`,
    `until ${new Date(1000 * until).toISOString()}`,
  ].join('\n');
