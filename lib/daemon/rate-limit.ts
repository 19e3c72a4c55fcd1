/** Token buckets by key (a peer's address), in bounded memory. */

export interface RateLimitOptions {
  /** Tokens that a key can save up. */
  burst: number;
  /** Tokens regained in a second. */
  perSecond: number;
  /** Keys remembered; the least recently used goes first, and starts afresh if it comes back. */
  maxKeys?: number;
  now?: () => number;
}

export class RateLimit {
  readonly #options: Required<RateLimitOptions>;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(options: RateLimitOptions) {
    this.#options = { maxKeys: 4096, now: Date.now, ...options };
  }

  /** Takes `cost` tokens; false, and nothing is taken, when the key does not have that many. */
  take(key: string, cost = 1): boolean {
    const tokens = this.#tokens(key);
    const allowed = tokens >= cost;
    this.#set(key, allowed ? tokens - cost : tokens);
    return allowed;
  }

  /** Whether it could be taken now. */
  has(key: string, cost: number): boolean {
    return this.#tokens(key) >= cost;
  }

  /** Takes all there is. */
  empty(key: string): void {
    this.#set(key, 0);
  }

  #tokens(key: string): number {
    const { burst, perSecond, now } = this.#options;
    const last = this.#buckets.get(key);
    if (last === undefined) return burst;
    return Math.min(burst, last.tokens + (Math.max(0, now() - last.at) / 1000) * perSecond);
  }

  #set(key: string, tokens: number): void {
    // Deleted first, so that the map stays in order of last use.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens, at: this.#options.now() });
    if (this.#buckets.size > this.#options.maxKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
  }
}
