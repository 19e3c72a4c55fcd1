/** What the enclave answers: the key that transfers are sealed to, each change of the balances, and to an account its own. */
import {
  type Answering,
  type AppDomain,
  abi,
  type Decoded,
  DstackError,
  type Enclave,
  fromHex,
  functionCall,
  type Hex,
  open,
  Refusal,
  Retryable,
  type RouteOptions,
  sameAddress,
  sameHex,
  seal,
  sealingPublicKey,
  signerOf,
  toHex,
} from 'dstack/framework';
import {
  BALANCE,
  Balance,
  BalanceAnswer,
  BalanceQuery,
  balanceText,
  boundTo,
  hashOf,
  LEAST_WEI,
  QUERY_MAX_S,
  StateSchema,
  TRANSFERS,
  Transfer,
} from '../messages.ts';
import { Ledger } from './ledger.ts';

const Nothing = abi.struct({});
const Key = abi.struct({ publicKey: abi.bytes });
const Deposit = abi.struct({ wei: abi.bigUint(128) });
const Sealed = abi.struct({ sealedTransfer: abi.bytes });
const Update = abi.struct({ state: abi.bytes, paid: abi.bigUint(256) });
const Word = abi.struct({ hash: abi.fixedBytes(32) });

type Changing<Q> = Answering<Enclave, Q, Decoded<typeof Update>>;

export const opening: Answering<Enclave, object, Decoded<typeof Key>> = {
  request: Nothing,
  response: Key,
  handle: async ({ keys }) => ({ publicKey: await sealingPublicKey(keys, TRANSFERS) }),
};

export class Transfers {
  readonly #app: AppDomain;
  readonly #least: bigint;

  constructor(app: AppDomain, least = LEAST_WEI) {
    this.#app = app;
    this.#least = least;
  }

  readonly deposit = (): Changing<Decoded<typeof Deposit>> =>
    this.#changing(Deposit, async (ledger, { wei }, { sender }) => {
      // For good: the contract gives it back. Whatever the sender has: else all would see whether it has anything.
      if (ledger.isTooLittle(wei))
        throw new Refusal('TOO_LITTLE', `a deposit has ${this.#least} wei at least`);
      if (!ledger.add(sender, wei)) throw new Refusal('FULL', 'there is no room for one more account');
      return 0n;
    });

  /** What can't be done changes nothing, and is no refusal: that would tell all what the sender has. The sender sees it by a query. */
  readonly transfer = (): Changing<Decoded<typeof Sealed>> =>
    this.#changing(Sealed, async (ledger, { sealedTransfer }, { sender }, { keys }) => {
      try {
        const bound = boundTo(TRANSFERS, this.#app, sender);
        const text = await open(keys, TRANSFERS, sealedTransfer, bound);
        const { to, wei } = abi.decodeStrictly(Transfer, `0x${toHex(text)}`, 'transfer');
        ledger.move(sender, to, wei);
      } catch (error) {
        if (!(error instanceof DstackError) || error instanceof Retryable) throw error;
      }
      return 0n;
    });

  readonly withdraw = (): Changing<object> =>
    this.#changing(Nothing, async (ledger, _, { sender }) => ledger.take(sender));

  /** A user's own balance, at the newest block that a quorum shows; anybody may bring the request. */
  readonly balance = (): RouteOptions<Enclave, typeof BalanceQuery, typeof BalanceAnswer> => ({
    request: BalanceQuery,
    open: true,
    response: BalanceAnswer,
    handle: async ({ keys, chain }, { account, answerTo, state, until, signature }) => {
      const signer = signerOf(balanceText(this.#app, { account, answerTo, until }), signature);
      if (!sameAddress(signer, account))
        throw new Refusal('NOT_THE_ACCOUNT', 'the account itself has to sign for its balance');
      const block = await chain.head();
      // Whoever had the account sign once, for a key of its own, would see each balance from then on.
      if (until < block.timestamp || until > block.timestamp + QUERY_MAX_S)
        throw new Refusal('QUERY_EXPIRED', 'what was signed is not of use now: sign anew, for a day at most');
      const ledger = await this.#newest(keys, state, (to, data) => chain.call(to, data, block));
      const text = fromHex(Balance.encode({ wei: ledger.of(account) }));
      const sealed = await seal(answerTo, text, boundTo(BALANCE, this.#app, account));
      return { sealed, block: block.number };
    },
  });

  #changing<Q>(
    request: Answering<Enclave, Q, unknown>['request'],
    change: (
      ledger: Ledger,
      request: Q,
      context: Parameters<Changing<Q>['handle']>[2],
      enclave: Enclave,
    ) => Promise<bigint>,
  ): Changing<Q> {
    return {
      request,
      response: Update,
      evidence: StateSchema,
      handle: async (enclave, asked, context) => {
        const ledger = await this.#newest(enclave.keys, context.evidence as Hex, context.call);
        const paid = await change(ledger, asked, context, enclave);
        return { state: await ledger.seal(enclave.keys, this.#app, context.sequence), paid };
      },
    };
  }

  /** A host that shows older balances than the contract has gets no answer. */
  async #newest(
    keys: Enclave['keys'],
    state: Hex,
    call: (to: string, data: string) => Promise<string>,
  ): Promise<Ledger> {
    const data = await call(this.#app.contract, functionCall('stateHash()', Nothing, {}));
    const { hash } = abi.decodeStrictly(Word, data, 'stateHash');
    if (/^0x0*$/.test(hash)) return new Ledger(this.#least);
    if (!sameHex(hashOf(state), hash))
      throw new Retryable('STATE_UNKNOWN', 'these are not the newest balances that the contract has');
    return Ledger.open(keys, this.#app, state, this.#least);
  }
}
