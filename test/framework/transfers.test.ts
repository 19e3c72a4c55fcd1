/** The private balances of the template: what they do and hide, what a host can't do to them, and the whole on a local chain. */
import { join } from 'node:path';
import { Wallet } from 'ethers';
import { expect, test } from 'vitest';
import { startDev } from '../../cli/dev/dev.ts';
import { signerOf } from '../../lib/framework/app/personal-signature.ts';
import { seal, sealingPublicKey } from '../../lib/framework/app/sealing.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { ACCOUNTS_MAX, Ledger } from '../../templates/transfers/enclave/ledger.ts';
import { Transfers } from '../../templates/transfers/enclave/transfers.ts';
import { balanceText, boundTo, hashOf, TRANSFERS, Transfer } from '../../templates/transfers/messages.ts';
import { freePort } from '../support/free-port.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const folder = join(import.meta.dirname, '../../templates/transfers');
const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const account = (n: number): Address => parseAddress(`0x${String(n).padStart(40, '0')}`);
const keys = {
  key: async ({ tag }: { tag: string }) => ({ key: Buffer.from(tag.padEnd(32)).toString('hex') }),
};
const app = { chainId: 1, contract };
const transfers = new Transfers(app, 1n);

/** @param shown by the host. @param stateHash the contract's */
async function deposit(from: Address, wei: bigint, sequence: number, shown: Hex, stateHash: Hex) {
  const context = { sequence, sender: from, evidence: shown, call: async () => stateHash };
  return transfers.deposit().handle({ keys } as never, { wei }, context as never);
}
const NONE = parseHex(`0x${'00'.repeat(32)}`);
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'answered', codeOf);

test('balances move whole or not at all, and none comes out of nothing', () => {
  const ledger = new Ledger(1n);
  expect(ledger.add(account(1), 10n)).toBe(true);
  expect(ledger.move(account(1), account(2), 11n)).toBe(false);
  expect(ledger.move(account(2), account(1), 1n)).toBe(false);
  expect(ledger.move(account(1), account(1), 10n)).toBe(true);
  expect(ledger.move(account(1), account(2), 4n)).toBe(true);
  expect([ledger.of(account(1)), ledger.of(account(2))]).toEqual([6n, 4n]);
  expect([ledger.take(account(2)), ledger.take(account(2))]).toEqual([4n, 0n]);
  for (let n = 2; n <= ACCOUNTS_MAX; n += 1) expect(ledger.add(account(n), 1n)).toBe(true);
  expect(ledger.add(account(1000), 1n)).toBe(false);
  // No room for the payee: the payer keeps what it has.
  expect(ledger.move(account(1), account(1000), 1n)).toBe(false);
  expect(ledger.of(account(1))).toBe(6n);
  expect(ledger.move(account(1), account(1000), 6n)).toBe(true);
});

test('sealed balances say nothing by their length, are the same when asked twice, and differ after each request', async () => {
  const empty = await new Ledger(1n).seal(keys, app, 1);
  const full = new Ledger(1n);
  for (let n = 1; n <= ACCOUNTS_MAX; n += 1) full.add(account(n), 2n ** 100n);
  const sealed = await full.seal(keys, app, 2);
  expect(sealed.length).toBe(empty.length);
  expect(await full.seal(keys, app, 2)).toBe(sealed);
  expect((await full.seal(keys, app, 3)).slice(0, 26)).not.toBe(sealed.slice(0, 26));
  const opened = await Ledger.open(keys, app, sealed, 1n);
  expect(opened.of(account(ACCOUNTS_MAX))).toBe(2n ** 100n);
  expect(await code(Ledger.open(keys, { chainId: 1, contract: account(1) }, sealed, 1n))).toBe(
    'STATE_UNKNOWN',
  );
  expect(await code(Ledger.open(keys, app, parseHex(sealed.replace(/..$/, '00')), 1n))).toBe('STATE_UNKNOWN');
  expect(await code(Ledger.open(keys, app, parseHex('0x'), 1n))).toBe('STATE_UNKNOWN');
});

test('nobody takes up room with dust, neither by a deposit nor by what a transfer leaves', async () => {
  const ledger = new Ledger(10n);
  expect(ledger.add(account(1), 9n)).toBe(false);
  expect(ledger.add(account(1), 30n)).toBe(true);
  expect(ledger.move(account(1), account(2), 1n)).toBe(false);
  expect(ledger.move(account(1), account(2), 21n)).toBe(false);
  expect(ledger.move(account(1), account(2), 20n)).toBe(true);
  expect(ledger.move(account(1), account(2), 9n)).toBe(false);
  expect(ledger.move(account(2), account(1), 1n)).toBe(true);
  expect(ledger.move(account(1), account(2), 11n)).toBe(true);
  expect([ledger.of(account(1)), ledger.of(account(2))]).toEqual([0n, 30n]);
  const none = parseHex('0x');
  const asked = { sequence: 2, sender: account(1), evidence: none, call: async () => NONE };
  const refused = new Transfers(app, 10n).deposit().handle({ keys } as never, { wei: 9n }, asked as never);
  expect(await code(refused as Promise<unknown>)).toBe('TOO_LITTLE');
  // Also of one that has enough: others see the refusal.
  const state = await ledger.seal(keys, app, 2);
  const more = { sequence: 3, sender: account(2), evidence: state, call: async () => hashOf(state) };
  const again = new Transfers(app, 10n).deposit().handle({ keys } as never, { wei: 9n }, more as never);
  expect(await code(again as Promise<unknown>)).toBe('TOO_LITTLE');
});

test('what is sealed on one chain is nothing on another, also for a contract at the same address', async () => {
  const there = { ...app, chainId: 10 };
  const ledger = new Ledger(1n);
  ledger.add(account(1), 5n);
  const state = await ledger.seal(keys, app, 2);
  expect(await code(Ledger.open(keys, there, state, 1n))).toBe('STATE_UNKNOWN');
  expect((await ledger.seal(keys, there, 2)).slice(0, 26)).not.toBe(state.slice(0, 26));
  const text = fromHex(Transfer.encode({ to: account(2), wei: 5n }));
  const publicKey = await sealingPublicKey(keys, TRANSFERS);
  const sealedTransfer = await seal(publicKey, text, boundTo(TRANSFERS, app, account(1)));
  for (const [domain, left] of [
    [there, 5n],
    [app, 0n],
  ] as const) {
    const shown = await ledger.seal(keys, domain, 2);
    const context = { sequence: 3, sender: account(1), evidence: shown, call: async () => hashOf(shown) };
    const answer = await new Transfers(domain, 1n)
      .transfer()
      .handle({ keys } as never, { sealedTransfer }, context as never);
    expect((await Ledger.open(keys, domain, answer.state, 1n)).of(account(1)), String(domain.chainId)).toBe(
      left,
    );
  }
});

test('a host that shows balances of before, made up or none gets no answer', async () => {
  const first = (await deposit(account(1), 5n, 2, parseHex('0x'), NONE)).state;
  const second = (await deposit(account(1), 5n, 3, first, hashOf(first))).state;
  for (const shown of [first, parseHex('0x'), parseHex(second.replace(/..$/, '00'))])
    expect(await code(deposit(account(1), 5n, 4, shown, hashOf(second)))).toBe('STATE_UNKNOWN');
  const third = (await deposit(account(1), 5n, 4, second, hashOf(second))).state;
  expect((await Ledger.open(keys, app, third, 1n)).of(account(1))).toBe(15n);
});

test('what an account has signed ends by the chain’s clock, whoever shows it', async () => {
  const wallet = new Wallet(`0x${'11'.repeat(32)}`);
  const from = parseAddress(wallet.address);
  const chain = {
    head: async () => ({ number: 7, timestamp: 1_000_000 }),
    call: async () => NONE,
  };
  const answerTo = await sealingPublicKey(keys, 'balance');
  const ask = async (until: number, signed = until) => {
    const signature = parseHex(
      await wallet.signMessage(balanceText(app, { account: from, answerTo, until: signed })),
    );
    const query = { account: from, answerTo, state: parseHex('0x'), until, signature };
    return code(transfers.balance().handle({ keys, chain } as never, query, undefined) as Promise<unknown>);
  };
  expect(await ask(1_000_000)).toBe('answered');
  expect(await ask(1_086_400)).toBe('answered');
  for (const until of [0, 999_999, 1_086_401, 8_640_000_000_000])
    expect(await ask(until)).toBe('QUERY_EXPIRED');
  expect(await ask(1_000_001, 1_000_000)).toBe('NOT_THE_ACCOUNT');
});

test('a deposit without room is refused for good, so that the contract gives it back', async () => {
  const full = new Ledger(1n);
  for (let n = 1; n <= ACCOUNTS_MAX; n += 1) full.add(account(n), 1n);
  const state = await full.seal(keys, app, 1);
  expect(await code(deposit(account(1000), 5n, 2, state, hashOf(state)))).toBe('FULL');
  expect(await code(deposit(account(1), 5n, 2, state, hashOf(state)))).toBe('answered');
});

test('who signed a text is who its wallet says, in one form alone', async () => {
  const wallet = new Wallet(`0x${'11'.repeat(32)}`);
  const text = 'Show my balance\nünïcode';
  const signature = parseHex(await wallet.signMessage(text));
  expect(signerOf(text, signature)).toBe(wallet.address);
  const v = Number.parseInt(signature.slice(-2), 16);
  const body = signature.slice(0, -2);
  expect(signerOf(text, parseHex(`${body}0${v - 27}`))).toBe(wallet.address);
  expect(signerOf(`${text}.`, signature)).not.toBe(wallet.address);
  const n = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const high = (n - BigInt(`0x${body.slice(66)}`)).toString(16).padStart(64, '0');
  for (const wrong of [
    body,
    `${body}1d`,
    `${body}02`,
    `${signature}00`,
    `${body.slice(0, 66)}${high}${v === 27 ? '1c' : '1b'}`,
    `0x${'00'.repeat(65)}`,
  ])
    expect(() => signerOf(text, wrong as Hex)).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
    );
});

test('money goes in, from one to another unseen, and out', async () => {
  const dev = await startDev({ folder, app: 'transfers', port: await freePort() });
  try {
    expect(await dev.test(never)).toBe(0);
  } finally {
    await dev.stop();
  }
});
