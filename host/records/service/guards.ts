/**
 * Who may ask a node's API. Anybody may read and post who reaches it, within a rate; only who has the token tells it what to do. A web page in a
 * browser on this machine reaches the loopback too: it says where it is from (Origin), or by which name it asked (Host), and is refused.
 */
import { timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sourceOf } from '../../../lib/daemon/server-limits.ts';
import { sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { Allowance } from '../wire/allowance.ts';

/** Of one source. */
const RATE = { perSecond: 50, burst: 500 };
/** Milliseconds of the processor, in which this thread does nothing else: a question may take thousands of times as long as another. */
const PROCESSOR = { perSecond: 250, burst: 2_000 };
/** Bytes, with which one more answer may begin; and the milliseconds in which an answer is to be read. */
const UNTAKEN = { perSource: 8 << 20, bytes: 128 << 20, within: 60_000 };
/** The one that asked longest ago begins anew. */
const MOST_SOURCES = 4_096;

/** Addresses, localhost, and the names that the operator gave. @throws HOST_REFUSED, ORIGIN_REFUSED */
export function requireOwnName({ headers }: FastifyRequest, names: readonly string[]): void {
  if (headers.origin !== undefined) {
    throw new DstackError('ORIGIN_REFUSED', 'web pages may not ask this port; use a program');
  }
  const [, address, name] =
    /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::\d{1,5})?$/i.exec(headers.host ?? '') ?? [];
  const asked = (address ?? name)?.toLowerCase();
  const isOwn = asked !== undefined && (isIP(asked) !== 0 || ['localhost', ...names].includes(asked));
  if (!isOwn)
    throw new DstackError(
      'HOST_REFUSED',
      'this port answers to an address or to localhost, not to another name',
    );
}

/** @throws TOKEN_REFUSED */
export function requireToken(request: FastifyRequest, token: string): void {
  if (!hasToken(request, token)) {
    throw new DstackError(
      'TOKEN_REFUSED',
      'this is for who has the token: Authorization: Bearer, with what is in authtoken',
    );
  }
}

export function hasToken({ headers }: FastifyRequest, token: string): boolean {
  const [, given = ''] = /^Bearer ([\da-f]{64})$/.exec(headers.authorization ?? '') ?? [];
  return timingSafeEqual(sha256(utf8(given)), sha256(utf8(token)));
}

/** Keys of owners come with it, and nothing hides them on a network. @throws TOKEN_REFUSED */
export function requireThisMachine({ ip }: FastifyRequest): void {
  if (/^(127\.|::1$|::ffff:127\.)/.test(ip)) return;
  throw new DstackError('TOKEN_REFUSED', 'this is asked on the node’s own machine only');
}

/** How much each source may ask. */
export class Sources {
  readonly #allowances = new Map<string, { requests: Allowance; processor: Allowance }>();

  /** @throws RECORDS_RATE */
  spend({ ip }: FastifyRequest): void {
    const { requests, processor } = this.#of(ip);
    if (requests.spend(1) > 0)
      throw new DstackError('RECORDS_RATE', 'too many requests from this address; slow down and try again');
    if (processor.spend(0) > 0)
      throw new DstackError(
        'RECORDS_RATE',
        'what this address asked took long to answer; ask for less at a time, or wait and try again',
      );
  }

  /** Does what was asked, as far as it is done at once, on the account of who asked. */
  charged<T>({ ip }: FastifyRequest, act: () => T): T {
    const before = process.threadCpuUsage();
    try {
      return act();
    } finally {
      const { user, system } = process.threadCpuUsage(before);
      this.#of(ip).processor.spend((user + system) / 1_000);
    }
  }

  #of(ip: string): { requests: Allowance; processor: Allowance } {
    const source = sourceOf(ip);
    const own = this.#allowances.get(source) ?? {
      requests: new Allowance(RATE),
      processor: new Allowance(PROCESSOR),
    };
    this.#allowances.delete(source);
    this.#allowances.set(source, own);
    if (this.#allowances.size > MOST_SOURCES) this.#allowances.delete(this.#allowances.keys().next().value!);
    return own;
  }
}

/** Answers that were made and that nobody has taken yet: who reads slowly, or not at all, takes so much memory and no more. */
export class Untaken {
  readonly #bySource = new Map<string, number>();
  #bytes = 0;

  /** @throws RECORDS_BUSY */
  requireRoom({ ip }: FastifyRequest): void {
    const own = this.#bySource.get(sourceOf(ip)) ?? 0;
    if (own < UNTAKEN.perSource && this.#bytes < UNTAKEN.bytes) return;
    throw new DstackError('RECORDS_BUSY', 'answers wait to be read; read those, or try again in a minute');
  }

  /** Until the answer is taken, or its connection is over. */
  hold({ ip }: FastifyRequest, { raw }: FastifyReply, bytes: number): void {
    const source = sourceOf(ip);
    const change = (by: number) => {
      this.#bytes += by;
      const own = (this.#bySource.get(source) ?? 0) + by;
      if (own === 0) this.#bySource.delete(source);
      else this.#bySource.set(source, own);
    };
    change(bytes);
    const late = setTimeout(() => raw.destroy(), UNTAKEN.within).unref();
    // After the last byte as well as where the connection is lost.
    raw.once('close', () => {
      clearTimeout(late);
      change(-bytes);
    });
  }
}
