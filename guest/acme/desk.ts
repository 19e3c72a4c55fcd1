/**
 * What the driver of the front is told, and what it brings: the daemon's one socket. What a challenge needs is shown by the
 * front: a certificate for tls-alpn-01 counts as shown once the driver says so, what answers http-01 once the driver has asked again.
 */
import type { Routes } from '../../lib/daemon/json-server.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { check } from '../../lib/protocol/schema.ts';
import { type AcmeSite, BroughtCertificate, ShownChallenges } from '../../lib/protocol/sockets.ts';
import type { ShownChallenge } from './authority.ts';

export interface DeskOptions {
  /** All but what challenges need. */
  site(): Omit<AcmeSite, 'alpn'>;
  /** @throws CERT_* */
  take(chain: string): Promise<void>;
  /** A certificate that answers tls-alpn-01, and its key (RFC 8737, section 3). */
  alpnCertificate(challenge: ShownChallenge): Promise<{ certificate: string; key: string }>;
}

/** With the second question, the driver has done what the first one told it. */
const ASKED_TIMES = 2;
/** A driver that has not asked for so long is away; it asks each second, but a machine may be slow. Milliseconds. */
const AWAY_AFTER = 60_000;
/** However often it asks. Milliseconds. */
const SHOWN_WITHIN = 120_000;

export class Desk {
  readonly #options: DeskOptions;
  readonly #alpn = new Map<string, AcmeSite['alpn'][number]>();
  #asked = 0;
  #askedAt = performance.now();
  /** What the driver says that the front shows. */
  #shown: readonly string[] = [];

  constructor(options: DeskOptions) {
    this.#options = options;
  }

  routes(): Routes {
    return {
      'GET /v1/site': () => {
        this.#asked += 1;
        this.#askedAt = performance.now();
        return { ...this.#options.site(), alpn: [...this.#alpn.values()] };
      },
      'POST /v1/shown': (body) => {
        this.#shown = check(ShownChallenges, body, 'BAD_REQUEST', 'what the front shows').certificates;
      },
      'POST /v1/certificate': async (body) => {
        const { chain } = check(BroughtCertificate, body, 'BAD_REQUEST', 'the certificate that was brought');
        await this.#options.take(chain);
        return { taken: true };
      },
    };
  }

  /**
   * Resolves once the challenge can be answered, or when the driver is away: other nodes may answer it, and it is the authority
   * that says whether somebody did. What it resolves to takes the answer away.
   */
  async show(challenge: ShownChallenge): Promise<() => void> {
    const { type, domain } = challenge;
    if (type === 'dns-persist-01') return () => {};
    if (type === 'tls-alpn-01') {
      const answer = await this.#options.alpnCertificate(challenge);
      this.#alpn.set(domain, { domain, ...answer });
      const id = toHex(sha256(utf8(answer.certificate)));
      await this.#until(() => this.#shown.includes(id));
    } else {
      const enough = this.#asked + ASKED_TIMES;
      await this.#until(() => this.#asked >= enough);
    }
    return () => this.#alpn.delete(domain);
  }

  async #until(isShown: () => boolean): Promise<void> {
    const last = performance.now() + SHOWN_WITHIN;
    while (!isShown() && performance.now() < Math.min(last, this.#askedAt + AWAY_AFTER))
      await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
