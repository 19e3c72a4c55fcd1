/** What enclave, host and users agree on: a transfer and what it is sealed for, and how an account asks for its balance. */
import {
  type Address,
  Address0x,
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
/** Of the sealed balances: more than they ever have. */
const STATE_MAX_BYTES = 8192;

/** Two words, so that all sealed transfers have one length. */
export const Transfer = abi.struct({ to: abi.address, wei: abi.bigUint(256) });
export const Balance = abi.struct({ wei: abi.bigUint(256) });

/** Sealed for one account of one contract: copied by another, it does not open. */
export const boundTo = (purpose: string, contract: Address, account: Address): Uint8Array =>
  lengthPrefixed([utf8(purpose), fromHex(contract, 20), fromHex(account, 20)]);

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
  /** `personal_sign` of `balanceText`. */
  signature: Hex0x(65),
});
export const BalanceAnswer = Strict({ sealed: Hex0x(2048), block: Type.Integer({ minimum: 0 }) });

/** What a wallet shows, and the account signs. */
export const balanceText = (chainId: number, contract: Address, account: Address, answerTo: Hex): string =>
  [
    'Show my balance',
    `account ${account.toLowerCase()}`,
    `contract ${contract.toLowerCase()} on chain ${chainId}`,
    `sealed to ${hashOf(answerTo)}`,
  ].join('\n');
