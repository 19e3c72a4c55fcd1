/**
 * Whether whoever is on the way to the website, its host first of all, could have a certificate for one of its names: true until at
 * least two resolvers of network.json have shown, lately and for every name, CAA records that leave all to the network's own
 * account, and as long as none shows anything else. What is not known counts as true: who keeps the resolvers away can
 * have it said, and nobody can have it said that it is not so.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import { type CaaPolicy, type CaaRecord, requireOwnAccount } from '../../lib/site/caa.ts';
import { caaOf, resolverAgent } from './doh.ts';

export interface CaaWatchOptions {
  readonly domains: readonly string[];
  /** URLs of RFC 8484. */
  readonly resolvers: readonly string[];
  /** PEM: by whom their TLS may be certified. */
  readonly roots: readonly string[];
  /** Has the website's evidence say it; what is not said again within five minutes is forgotten there. */
  tell(hostImpersonable: boolean): Promise<void>;
  /** A clock that only moves forward, in milliseconds. */
  readonly monotonic?: () => number;
}

export interface CaaVerdict {
  readonly hostImpersonable: boolean;
  /** Why it is so: a code and what it means. */
  readonly code?: string;
  readonly reason?: string;
}

/** Resolvers that must agree. */
const QUORUM = 2;
/** Between two looks: once it is well, and until then. Milliseconds. */
const EVERY_MS = 300_000;
const AGAIN_MS = 60_000;
/** How long a good look counts while resolvers do not answer. Milliseconds. */
const GOOD_FOR_MS = 900_000;
/** How often it is told, the same again too. Milliseconds. */
const TELL_EVERY_MS = 60_000;
/** For all questions to one resolver. Milliseconds. */
const WITHIN_MS = 20_000;

const UNKNOWN: CaaVerdict = {
  hostImpersonable: true,
  code: 'CAA_UNKNOWN',
  reason: 'the DNS has not been looked at yet',
};

export class CaaWatch {
  readonly #options: CaaWatchOptions;
  #verdict = UNKNOWN;
  #goodAt = Number.NEGATIVE_INFINITY;
  #nextAt = Number.NEGATIVE_INFINITY;
  /** What the last look was for. */
  #policy = '';
  #told: { hostImpersonable: boolean; at: number } | undefined;

  constructor(options: CaaWatchOptions) {
    this.#options = options;
  }

  /** As of now. */
  get verdict(): CaaVerdict {
    const isOld = !this.#verdict.hostImpersonable && this.#now() - this.#goodAt > GOOD_FOR_MS;
    return isOld ? UNKNOWN : this.#verdict;
  }

  /**
   * To be called often; asks and tells now and then.
   * @param policy undefined while the account is not known
   * @throws what `tell` throws
   */
  async look(policy: CaaPolicy | undefined): Promise<void> {
    await this.#look(policy);
    const { hostImpersonable } = this.verdict;
    const isOld = this.#told === undefined || this.#now() - this.#told.at >= TELL_EVERY_MS;
    if (!isOld && this.#told?.hostImpersonable === hostImpersonable) return;
    await this.#options.tell(hostImpersonable);
    this.#told = { hostImpersonable, at: this.#now() };
  }

  async #look(policy: CaaPolicy | undefined): Promise<void> {
    const key = JSON.stringify(policy ?? null);
    if (key === this.#policy && this.#now() < this.#nextAt) return;
    if (key !== this.#policy) this.#verdict = UNKNOWN;
    this.#policy = key;
    const found =
      policy === undefined ? bad('CAA_POLICY', 'the account is not known') : await this.#ask(policy);
    const now = this.#now();
    if (!found.hostImpersonable) this.#goodAt = now;
    this.#nextAt = now + (found.hostImpersonable ? AGAIN_MS : EVERY_MS);
    // Silence is no news: a good look counts for its time.
    if (found.code === 'DNS_QUORUM' && !this.verdict.hostImpersonable) return;
    this.#verdict = found;
  }

  async #ask(policy: CaaPolicy): Promise<CaaVerdict> {
    const { resolvers } = this.#options;
    if (resolvers.length === 0) return bad('CAA_RESOLVERS', 'network.json names no resolvers to ask');
    const problems = await Promise.all(resolvers.map((resolver) => this.#problemAt(resolver, policy)));
    const found = problems.filter((problem) => problem !== undefined);
    const shown = found.find(({ code }) => code.startsWith('CAA_'));
    if (shown !== undefined) return bad(shown.code, shown.message);
    if (problems.length - found.length >= QUORUM) return { hostImpersonable: false };
    const said = found.map(({ message }) => message).join('; ');
    return bad('DNS_QUORUM', `fewer than ${QUORUM} resolvers of network.json answered: ${said}`);
  }

  /** Undefined when one resolver shows what fits, of all names. */
  async #problemAt(resolver: string, policy: CaaPolicy): Promise<DstackError | undefined> {
    const { domains, roots } = this.#options;
    const signal = AbortSignal.timeout(WITHIN_MS);
    const agent = resolverAgent(roots);
    const asked = new Map<string, Promise<CaaRecord[]>>();
    const ask = (name: string): Promise<CaaRecord[]> => {
      const known = asked.get(name) ?? caaOf(name, { resolver, agent, signal });
      asked.set(name, known);
      return known;
    };
    try {
      for (const domain of domains) requireOwnAccount(await relevantRecords(domain, ask), policy);
      return undefined;
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      return new DstackError(error.code, `${new URL(resolver).host}: ${error.message}`);
    } finally {
      agent.destroy();
    }
  }

  #now(): number {
    return (this.#options.monotonic ?? (() => performance.now()))();
  }
}

/** Those of the name, else those of the next one above it that has any (RFC 8659, section 3). */
export async function relevantRecords(
  domain: string,
  ask: (name: string) => Promise<CaaRecord[]>,
): Promise<CaaRecord[]> {
  for (let name = domain; name !== ''; name = name.split('.').slice(1).join('.')) {
    const records = await ask(name);
    if (records.length > 0) return records;
  }
  return [];
}

const bad = (code: string, reason: string): CaaVerdict => ({
  hostImpersonable: true,
  code,
  reason: reason.slice(0, 500),
});
