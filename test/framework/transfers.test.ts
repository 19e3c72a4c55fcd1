/** The private balances of the template: what they do and hide, what a host can't do to them, and the whole on a local chain. */
import { join } from 'node:path';
import { Wallet } from 'ethers';
import { expect, test } from 'vitest';
import { startDev } from '../../cli/dev/dev.ts';
import { signerOf } from '../../lib/framework/app/personal-signature.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { ACCOUNTS_MAX, Ledger } from '../../templates/transfers/enclave/ledger.ts';
import { Transfers } from '../../templates/transfers/enclave/transfers.ts';
import { hashOf } from '../../templates/transfers/messages.ts';
import { freePort } from '../support/free-port.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const folder = join(import.meta.dirname, '../../templates/transfers');
const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const account = (n: number): Address => parseAddress(`0x${String(n).padStart(40, '0')}`);
const keys = {
  key: async ({ tag }: { tag: string }) => ({ key: Buffer.from(tag.padEnd(32)).toString('hex') }),
};
const transfers = new Transfers({ chainId: 1, contract });

/** @param shown by the host. @param stateHash the contract's */
async function deposit(from: Address, wei: bigint, sequence: number, shown: Hex, stateHash: Hex) {
  const context = { sequence, sender: from, evidence: shown, call: async () => stateHash };
  return transfers.deposit().handle({ keys } as never, { wei }, context as never);
}
const NONE = parseHex(`0x${'00'.repeat(32)}`);
const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'answered', codeOf);

test('balances move whole or not at all, and none comes out of nothing', () => {
  const ledger = new Ledger();
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
  const empty = await new Ledger().seal(keys, contract, 1);
  const full = new Ledger();
  for (let n = 1; n <= ACCOUNTS_MAX; n += 1) full.add(account(n), 2n ** 100n);
  const sealed = await full.seal(keys, contract, 2);
  expect(sealed.length).toBe(empty.length);
  expect(await full.seal(keys, contract, 2)).toBe(sealed);
  expect((await full.seal(keys, contract, 3)).slice(0, 26)).not.toBe(sealed.slice(0, 26));
  const opened = await Ledger.open(keys, contract, sealed);
  expect(opened.of(account(ACCOUNTS_MAX))).toBe(2n ** 100n);
  expect(await code(Ledger.open(keys, account(1), sealed))).toBe('STATE_UNKNOWN');
  expect(await code(Ledger.open(keys, contract, parseHex(sealed.replace(/..$/, '00'))))).toBe(
    'STATE_UNKNOWN',
  );
  expect(await code(Ledger.open(keys, contract, parseHex('0x')))).toBe('STATE_UNKNOWN');
});

test('a host that shows balances of before, made up or none gets no answer', async () => {
  const first = (await deposit(account(1), 5n, 2, parseHex('0x'), NONE)).state;
  const second = (await deposit(account(1), 5n, 3, first, hashOf(first))).state;
  for (const shown of [first, parseHex('0x'), parseHex(second.replace(/..$/, '00'))])
    expect(await code(deposit(account(1), 5n, 4, shown, hashOf(second)))).toBe('STATE_UNKNOWN');
  const third = (await deposit(account(1), 5n, 4, second, hashOf(second))).state;
  expect((await Ledger.open(keys, contract, third)).of(account(1))).toBe(15n);
});

test('a deposit without room is refused for good, so that the contract gives it back', async () => {
  const full = new Ledger();
  for (let n = 1; n <= ACCOUNTS_MAX; n += 1) full.add(account(n), 1n);
  const state = await full.seal(keys, contract, 1);
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
