/**
 * Balances, and how they are kept on chain: encrypted by a key that the app alone has, and of one length whatever is in them. So the number of
 * accounts, and whether a transfer changed anything, does not show.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import {
  type Address,
  type AppDomain,
  type Enclave,
  fromHex,
  type Hex,
  lengthPrefixed,
  parseAddress,
  Retryable,
  to0x,
} from 'dstack/framework';
import { domainBytes } from '../messages.ts';

/** So many have room. An account with nothing takes none. */
export const ACCOUNTS_MAX = 100;
const ENTRY_BYTES = 36;
const HEAD_BYTES = 8;
const STATE_BYTES = HEAD_BYTES + ACCOUNTS_MAX * ENTRY_BYTES;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export class Ledger {
  readonly #balances = new Map<string, bigint>();
  readonly #least: bigint;

  /** @param least wei of an account that has any: more than nothing, or filling all 100 costs nothing */
  constructor(least: bigint) {
    this.#least = least;
  }

  of(account: Address): bigint {
    return this.#balances.get(account.toLowerCase()) ?? 0n;
  }

  /** Whether it could: there is no room for one account more than there is, nor for less than the least in one. */
  add(account: Address, wei: bigint): boolean {
    const key = account.toLowerCase();
    const before = this.#balances.get(key);
    if (before === undefined && wei > 0n && this.#balances.size === ACCOUNTS_MAX) return false;
    if (this.isTooLittle((before ?? 0n) + wei)) return false;
    if (wei > 0n) this.#balances.set(key, (before ?? 0n) + wei);
    return true;
  }

  isTooLittle(wei: bigint): boolean {
    return wei > 0n && wei < this.#least;
  }

  /** Whether it could: all or nothing. What is left is nothing, or the least: else dust would take up the room. */
  move(from: Address, to: Address, wei: bigint): boolean {
    const has = this.of(from);
    if (wei > has) return false;
    if (this.isTooLittle(has - wei)) return false;
    this.#set(from, has - wei);
    if (this.add(to, wei)) return true;
    this.#set(from, has);
    return false;
  }

  /** All that it has. */
  take(account: Address): bigint {
    const has = this.of(account);
    this.#set(account, 0n);
    return has;
  }

  #set(account: Address, wei: bigint): void {
    if (wei === 0n) this.#balances.delete(account.toLowerCase());
    else this.#balances.set(account.toLowerCase(), wei);
  }

  /** @param sequence of the request after which it is so: no two are alike */
  async seal(keys: Enclave['keys'], app: AppDomain, sequence: number): Promise<Hex> {
    const domain = domainBytes(app);
    const text = Buffer.alloc(STATE_BYTES);
    text.writeUInt32BE(sequence, 0);
    text.writeUInt32BE(this.#balances.size, 4);
    let at = HEAD_BYTES;
    for (const [account, wei] of this.#balances) {
      text.set(fromHex(account, 20), at);
      text.set(fromHex(wei.toString(16).padStart(32, '0')), at + 20);
      at += ENTRY_BYTES;
    }
    // From what is encrypted: asked twice, the enclave says the same, and no two texts have the same one.
    const mac = createHmac('sha256', await keyOf(keys, 'state-nonce'));
    const nonce = mac
      .update(lengthPrefixed([domain, text]))
      .digest()
      .subarray(0, NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', await keyOf(keys, 'state'), nonce);
    cipher.setAAD(domain);
    return to0x(Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]));
  }

  /** @throws STATE_UNKNOWN for what this app did not seal for this contract */
  static async open(keys: Enclave['keys'], app: AppDomain, state: Hex, least: bigint): Promise<Ledger> {
    const ledger = new Ledger(least);
    const sealed = fromHex(state.slice(2));
    const end = sealed.length - TAG_BYTES;
    try {
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const cipher = createDecipheriv('aes-256-gcm', await keyOf(keys, 'state'), nonce, {
        authTagLength: TAG_BYTES,
      });
      cipher.setAAD(domainBytes(app)).setAuthTag(sealed.subarray(end));
      const text = Buffer.concat([cipher.update(sealed.subarray(NONCE_BYTES, end)), cipher.final()]);
      const count = text.readUInt32BE(4);
      for (let index = 0; index < count; index += 1) {
        const at = HEAD_BYTES + index * ENTRY_BYTES;
        const account = parseAddress(to0x(text.subarray(at, at + 20)));
        ledger.#set(account, BigInt(to0x(text.subarray(at + 20, at + ENTRY_BYTES))));
      }
      return ledger;
    } catch (cause) {
      throw new Retryable('STATE_UNKNOWN', 'these balances are not sealed by this app for this contract', {
        cause,
      });
    }
  }
}

async function keyOf(keys: Enclave['keys'], tag: string): Promise<Uint8Array> {
  return fromHex((await keys.key({ tag, type: 'raw' })).key, 32);
}
