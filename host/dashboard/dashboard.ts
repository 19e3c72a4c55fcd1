/**
 * The operator's page, on the relay's own loopback port: `GET /dashboard/`. It only shows; there is nothing in it that can be pressed
 * to change something.
 *
 *   GET /dashboard/         the page, and its files beside it (page/)
 *   GET /dashboard/state    everything that it shows, as JSON (state.ts)
 *   GET /dashboard/events   the same as it changes: `state` once, then `patch` and `log` (streams.ts)
 *
 * A relay that nobody looks at does nothing for it. While somebody looks, it makes one round a second, for all who look together.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { DstackError } from '../../lib/protocol/errors.ts';
import { LiveState, type NetworkSource } from './live-state.ts';
import type { LogTail } from './log-tail.ts';
import { pageFiles } from './page-files.ts';
import { frameOf, STREAM_LIMITS, type StreamLimits, Streams } from './streams.ts';

export interface DashboardOptions {
  readonly networks: readonly NetworkSource[];
  readonly tail: LogTail;
  readonly limits?: StreamLimits;
}

/** Milliseconds between rounds. */
const ROUND_MS = 1_000;
/** How long an answer waits for the chain's endpoint, milliseconds; after that it says what is known. */
const PATIENCE_MS = 3_000;

/**
 * Of every answer. Nothing comes from elsewhere, nothing is inline, and with trusted types (W3C) no text can become markup even
 * where a script tries; no other page may frame this one.
 */
const HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
} as const;

export class Dashboard {
  readonly #networks: readonly NetworkSource[];
  readonly #live: LiveState;
  readonly #streams: Streams;
  #looking: Promise<void> | undefined;
  #roundAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor({ networks, tail, limits = STREAM_LIMITS }: DashboardOptions) {
    this.#networks = networks;
    this.#live = new LiveState(networks, tail);
    this.#streams = new Streams((open) => this.#watch(open > 0), limits);
  }

  /** How many look. */
  get streams(): number {
    return this.#streams.size;
  }

  routes(app: FastifyInstance): void {
    const files = pageFiles();
    app.get('/dashboard', (_request, reply) => reply.headers(HEADERS).redirect('/dashboard/', 308));
    for (const [name, { type, bytes }] of files) {
      app.get(`/dashboard/${name}`, (_request, reply) => reply.headers(HEADERS).type(type).send(bytes));
    }
    app.get('/dashboard/state', async (request, reply) => {
      requireOwnPage(request);
      await this.#fresh();
      return reply.headers(HEADERS).type('application/json; charset=utf-8').send(this.#live.whole());
    });
    // A HEAD would hold a stream open that nothing is ever written to.
    app.get('/dashboard/events', { exposeHeadRoute: false }, async (request, reply) => {
      requireOwnPage(request);
      this.#streams.requireRoom();
      await this.#fresh();
      this.#streams.requireRoom();
      reply.hijack();
      this.#streams.open(reply.raw, HEADERS, frameOf('state', this.#live.whole()));
    });
  }

  close(): void {
    this.#streams.close();
  }

  #watch(isWatched: boolean): void {
    if (isWatched) this.#timer ??= setInterval(() => this.#round(), ROUND_MS);
    else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  /** What a first reader is told is not what was known when the last one left. */
  async #fresh(): Promise<void> {
    if (performance.now() - this.#roundAt < ROUND_MS) return;
    let timer: NodeJS.Timeout | undefined;
    const enough = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([this.#look(), enough]);
    clearTimeout(timer);
    if (performance.now() - this.#roundAt >= ROUND_MS) this.#tell();
  }

  /** Looks at the chain, however long that takes, and tells what is known meanwhile. */
  #round(): void {
    void this.#look();
    this.#tell();
  }

  #tell(): void {
    this.#roundAt = performance.now();
    const { patches, log } = this.#live.changes();
    for (const patch of patches) this.#streams.send(frameOf('patch', patch));
    if (log !== undefined) this.#streams.send(frameOf('log', log));
  }

  #look(): Promise<void> {
    this.#looking ??= Promise.all(this.#networks.map((network) => network.look()))
      .then(() => undefined)
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }
}

/**
 * Another site's page cannot read the answer, but it could take a stream's place. Browsers say who asks (Fetch Metadata, W3C), or where
 * they do not, as over HTTP to another machine, an EventSource still says whose it is (Origin; none goes with a GET of our own page);
 * curl says neither, and may.
 */
function requireOwnPage({ headers }: FastifyRequest): void {
  const site = headers['sec-fetch-site'];
  const isOwnSite = site === undefined || site === 'same-origin' || site === 'none';
  if (isOwnSite && (headers.origin === undefined || headers.origin === `http://${headers.host}`)) return;
  throw new DstackError('ORIGIN_REFUSED', 'this is for the dashboard itself: open /dashboard/ on this port');
}
