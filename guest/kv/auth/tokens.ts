/**
 * Simple tokens, as etcd's: random, in memory, each for a user until it was not used for a while. They end with the process, and
 * clients then authenticate again.
 */
import { randomBytes } from 'node:crypto';

/** Milliseconds after its last use. etcd's own default. */
export const TOKEN_LIFETIME = 300_000;
/** Of one user, and of a namespace; beyond it the one that was unused for longest ends. */
const MOST_OF_USER = 1_000;
const MOST = 20_000;

interface Token {
  readonly user: string;
  /** By `now`. */
  expires: number;
}

export class Tokens {
  readonly #now: () => number;
  /** The one that was used last is last. */
  readonly #tokens = new Map<string, Token>();
  #counter = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  assign(user: string): string {
    this.#makeRoom(user);
    this.#counter += 1;
    // 144 bits, and a number as etcd's have one.
    const token = `${randomBytes(18).toString('base64url')}.${this.#counter}`;
    this.#tokens.set(token, { user, expires: this.#now() + TOKEN_LIFETIME });
    return token;
  }

  /** Whose token it is; to use it is to keep it. */
  userOf(token: string): string | undefined {
    const found = this.#tokens.get(token);
    if (found === undefined) return undefined;
    this.#tokens.delete(token);
    if (found.expires <= this.#now()) return undefined;
    found.expires = this.#now() + TOKEN_LIFETIME;
    this.#tokens.set(token, found);
    return found.user;
  }

  endUser(user: string): void {
    for (const [token, of] of this.#tokens) if (of.user === user) this.#tokens.delete(token);
  }

  endAll(): void {
    this.#tokens.clear();
  }

  #makeRoom(user: string): void {
    const now = this.#now();
    const own: string[] = [];
    for (const [token, of] of this.#tokens) {
      if (of.expires <= now) this.#tokens.delete(token);
      else if (of.user === user) own.push(token);
    }
    if (own.length >= MOST_OF_USER) this.#tokens.delete(own[0]!);
    const [oldest] = this.#tokens.keys();
    if (this.#tokens.size >= MOST && oldest !== undefined) this.#tokens.delete(oldest);
  }
}
