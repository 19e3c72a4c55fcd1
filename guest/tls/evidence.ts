/**
 * What the node answers at `/.well-known/dstack/evidence.json`: evidence of the website's key.
 *
 * A function from a request to a reply, whatever serves HTTP around it. It owns the limit and the cache: a quote costs the
 * machine up to seconds, and whoever asks is a stranger, so fresh evidence is made one at a time and at most once a second; who
 * brings no nonce gets what was made lately. The limit is the node's, not a source's: all may look like one address.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { SiteEvidence } from '../../lib/protocol/site-evidence.ts';
import { type NodeHandler, type NodeReply, type NodeRequest, refusal, reply } from './node-reply.ts';

export interface EvidenceOptions {
  /** Asks the replicator. @param nonce 64 hex digits */
  ask(nonce?: string): Promise<SiteEvidence>;
  log: Log<'warn'>;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

/** Between two quotes for nonces, and between two tries for the one without. Milliseconds. */
const ONE_EACH_MS = 1_000;
/** How long the evidence without a nonce is given again. Milliseconds. */
const KEPT_FOR_MS = 600_000;

export function evidenceHandler(options: EvidenceOptions): NodeHandler {
  const { ask, log, monotonic = () => performance.now() } = options;
  let lastNonceAt = Number.NEGATIVE_INFINITY;
  let lastTryAt = Number.NEGATIVE_INFINITY;
  let atWork = false;
  let kept: { evidence: SiteEvidence; at: number } | undefined;
  let making: Promise<SiteEvidence> | undefined;
  let lastCode = '';

  async function fresh(nonce: string): Promise<SiteEvidence> {
    const wait = lastNonceAt + ONE_EACH_MS - monotonic();
    if (atWork || wait > 0) throw busy(wait);
    atWork = true;
    lastNonceAt = monotonic();
    try {
      return await ask(nonce);
    } finally {
      atWork = false;
    }
  }

  /** Many may ask at once; the replicator is asked once. */
  async function recent(): Promise<SiteEvidence> {
    if (kept !== undefined && monotonic() - kept.at < KEPT_FOR_MS) return kept.evidence;
    if (making === undefined) {
      const wait = lastTryAt + ONE_EACH_MS - monotonic();
      if (wait > 0) throw busy(wait);
      lastTryAt = monotonic();
      making = ask().finally(() => {
        making = undefined;
      });
    }
    const evidence = await making;
    kept = { evidence, at: monotonic() };
    return evidence;
  }

  async function answer({ method, target }: NodeRequest): Promise<NodeReply> {
    if (method !== 'GET' && method !== 'HEAD') {
      return refusal(405, 'METHOD', 'evidence is read with GET', { allow: 'GET, HEAD' });
    }
    const nonce = nonceOf(target);
    return reply(200, await (nonce === undefined ? recent() : fresh(nonce)));
  }

  return async (request) => {
    try {
      return await answer(request);
    } catch (error) {
      const code = codeOf(error);
      if (error instanceof Busy) {
        return refusal(429, code, error.message, { 'retry-after': `${error.seconds}` });
      }
      if (code === 'NONCE') return refusal(400, code, (error as Error).message);
      // Strangers choose how often they ask: what is logged is that something changed.
      if (code !== lastCode) log.warn({ code, err: (error as Error).message }, 'no evidence can be given');
      lastCode = code;
      // What went wrong inside is for the node's log.
      return refusal(503, code, 'the node cannot give evidence now', { 'retry-after': '5' });
    }
  };
}

/** Somebody else's turn. */
class Busy extends DstackError {
  readonly seconds: number;

  constructor(seconds: number) {
    super('BUSY', 'fresh evidence is made once a second; try again, or take the one without a nonce');
    this.seconds = seconds;
  }
}

const busy = (waitMs: number): Busy => new Busy(Math.max(1, Math.ceil(waitMs / 1000)));

/** @throws NONCE for a query that is anything but one nonce */
function nonceOf(target: string): string | undefined {
  const at = target.indexOf('?');
  if (at < 0) return undefined;
  const match = /^nonce=([0-9a-f]{64})$/.exec(target.slice(at + 1));
  if (match === null) {
    throw new DstackError('NONCE', 'the query is nonce= and 64 lower-case hex digits, or there is none');
  }
  return match[1];
}
