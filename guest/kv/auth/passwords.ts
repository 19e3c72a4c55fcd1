/**
 * Passwords of users, as scrypt (RFC 7914) of Node's own. etcd uses bcrypt, which Node does not have, which ignores what follows the
 * 72nd byte, and which needs no memory to attack. The parameters are in what is kept, so that they can grow.
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { etcdError } from '../../../lib/etcd/errors.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';

/** 16 MiB and some 40 ms of a processor for each. */
const COST = 14;
const BLOCK = 8;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** The longest that is looked at. */
export const MAX_PASSWORD_BYTES = 1024;

/** Computed at a time, of all namespaces: strangers can ask for it. */
const AT_A_TIME = 2;
/** Waiting for it, of one namespace. Those of the others come in between. */
const WAITING = 64;

const KEPT = /^scrypt\$(\d{2})\$([0-9a-f]{32})\$([0-9a-f]{64})$/;

export class Passwords {
  readonly #cost: number;
  #running = 0;
  /** By namespace; whose turn is next is first. */
  readonly #waiting = new Map<string, (() => void)[]>();
  /** What is compared where there is no user: who is told "no" shall not learn by the clock whether there is one. */
  readonly #nobody: string;

  /** @param cost the logarithm of scrypt's N */
  constructor(cost = COST) {
    this.#cost = cost;
    this.#nobody = kept(cost, randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));
  }

  /** What to keep of a password. @param of whose turn it takes: the namespace @throws RpcError "invalid auth management" for one that is too long, "too many requests" */
  async hash(password: string, of = ''): Promise<string> {
    if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) throw etcdError('invalidAuthManagement');
    const salt = randomBytes(SALT_BYTES);
    return kept(this.#cost, salt, await this.#inTurn(of, () => derive(password, salt, this.#cost)));
  }

  /** Whether this is the password that was kept; takes as long where none was. @throws RpcError "too many requests" */
  async matches(password: string, hash: string | undefined, of = ''): Promise<boolean> {
    const [, cost, salt, expected] = KEPT.exec(hash ?? this.#nobody) ?? [];
    if (cost === undefined || salt === undefined || expected === undefined)
      throw new DstackError(
        'KV_AUTH_STATE',
        'a password in etcd has no form that is known: the store was damaged',
      );
    if (Buffer.byteLength(password) > MAX_PASSWORD_BYTES) return false;
    const found = await this.#inTurn(of, () => derive(password, Buffer.from(salt, 'hex'), Number(cost)));
    return timingSafeEqual(found, Buffer.from(expected, 'hex')) && hash !== undefined;
  }

  async #inTurn(of: string, run: () => Promise<Buffer>): Promise<Buffer> {
    if (this.#running >= AT_A_TIME) {
      const own = this.#waiting.get(of) ?? [];
      if (own.length >= WAITING) throw etcdError('tooManyRequests');
      this.#waiting.set(of, own);
      // Whoever ends hands its place on.
      await new Promise<void>((resolve) => own.push(resolve));
    } else this.#running += 1;
    try {
      return await run();
    } finally {
      const next = this.#next();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  /** One of each namespace after the other: a crowd in one does not keep out those of another. */
  #next(): (() => void) | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [of, own] = first;
    const next = own.shift();
    this.#waiting.delete(of);
    if (own.length > 0) this.#waiting.set(of, own);
    return next;
  }
}

function kept(cost: number, salt: Buffer, hash: Buffer): string {
  return `scrypt$${String(cost).padStart(2, '0')}$${salt.toString('hex')}$${hash.toString('hex')}`;
}

function derive(password: string, salt: Buffer, cost: number): Promise<Buffer> {
  // Twice what the parameters need: Node counts a little more than that.
  const options = { N: 2 ** cost, r: BLOCK, p: 1, maxmem: 2 * 128 * BLOCK * 2 ** cost };
  return new Promise((resolve, reject) => {
    scrypt(password, salt, HASH_BYTES, options, (error, hash) => (error ? reject(error) : resolve(hash)));
  });
}
