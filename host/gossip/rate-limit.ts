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
    const { burst, perSecond, maxKeys, now } = this.#options;
    const at = now();
    const last = this.#buckets.get(key) ?? { tokens: burst, at };
    const tokens = Math.min(burst, last.tokens + (Math.max(0, at - last.at) / 1000) * perSecond);
    const allowed = tokens >= cost;
    // Deleted first, so that the map stays in order of last use.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: allowed ? tokens - cost : tokens, at });
    if (this.#buckets.size > maxKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
    return allowed;
  }
}
