/**
 * Carries the website's certificate between this host's own node and gossip: what the node shows is spread, what others' nodes
 * show is brought to it. A guest dials no relay, so the relay asks, as any visitor could (docs/site-certificates.md).
 *
 * The node also says what a certificate of its website must be: its request has the key and the names. By that rule, and the roots
 * of this process, gossip keeps out what is of no use to anybody. The node judges again what it is brought.
 */
import { rootCertificates } from 'node:tls';
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, type DstackError, Retryable } from '../../lib/protocol/errors.ts';
import type { CertificateMessage } from '../../lib/protocol/onboarding-messages.ts';
import { HexUpTo, Strict } from '../../lib/protocol/schema.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { type CertificateRule, parseRoots, type SiteCertificate } from '../../lib/site/certificate-rule.ts';
import { readSigningRequest, type SigningRequest } from '../../lib/site/signing-request.ts';
import type { WebCertificate } from '../../lib/site/web-certificate.ts';
import type { Publisher } from '../gossip/gossip.ts';
import { messageId } from '../gossip/message-kind.ts';
import type { MessageLog } from '../gossip/message-log.ts';
import type { SiteClient } from '../site-client.ts';
import { heldCertificates, newestCertificate } from './kinds/certificate.ts';

export interface SiteCertificateOptions {
  client: Pick<SiteClient, 'request' | 'chain' | 'give'>;
  gossip: Publisher;
  messages: Pick<MessageLog, 'about' | 'refuse'>;
  store: Store;
  domain: Domain;
  /** Roots that count besides this process's own, PEM: network.json's. */
  extraRoots(): readonly string[];
  metrics: Pick<Metrics, 'count' | 'gauge'>;
  log: Log<'info' | 'warn'>;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

/**
 * How often the node is asked what it shows. As often it is published, so that relays hear of it that had no use for it before:
 * their nodes had not joined, say. Milliseconds.
 */
const EVERY_MS = 60_000;
/** After a node that was busy or away. */
const AGAIN_MS = 5_000;

const RequestSchema = Strict({ csr: HexUpTo(8 * 1024) });

export class SiteCertificateCourier {
  readonly #options: SiteCertificateOptions;
  /** What the node said last: it holds while the node is away, and for a new process. */
  readonly #requests: Table<typeof RequestSchema>;
  #request: SigningRequest | undefined;
  #roots: readonly WebCertificate[] | undefined;
  #nextAt = Number.NEGATIVE_INFINITY;
  #said = '';
  #known: SiteCertificate | undefined;

  constructor(options: SiteCertificateOptions) {
    this.#options = options;
    this.#requests = new Table(options.store, 'site/', RequestSchema);
    const stored = this.#requests.get('request');
    if (stored !== undefined) this.#request = readSigningRequest(fromHex(stored.csr));
  }

  /** What a certificate must be, now; undefined while the node has not said. */
  rule(): CertificateRule | undefined {
    if (this.#request === undefined) return undefined;
    this.#roots ??= parseRoots([...rootCertificates, ...this.#options.extraRoots()].join('\n'));
    return { ...this.#request, roots: this.#roots, now: Math.floor(Date.now() / 1000) };
  }

  /** The newest one, as of the last look; undefined while there is none. */
  get known(): SiteCertificate | undefined {
    return this.#known;
  }

  /** A certificate came by gossip: the older ones are of no more use, and the node is looked at soon. */
  arrived(): void {
    const newest = this.#newest();
    for (const message of heldCertificates(this.#options.messages))
      if (message.chain !== newest?.chain) this.#options.messages.refuse(messageId(message));
    this.#nextAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * To be called at each look at a node that has joined; does something only now and then, and never fails.
   * @param isNew the node had not joined at the look before
   */
  async bring(isNew: boolean): Promise<void> {
    const now = (this.#options.monotonic ?? (() => performance.now()))();
    if (isNew) this.#nextAt = Number.NEGATIVE_INFINITY;
    if (now < this.#nextAt) return;
    this.#nextAt = now + EVERY_MS;
    try {
      await this.#once();
    } catch (error) {
      if (error instanceof Retryable) this.#nextAt = now + AGAIN_MS;
      this.#say(codeOf(error), `the website's certificate is not carried: ${(error as Error).message}`);
    }
  }

  async #once(): Promise<void> {
    const { client, metrics } = this.#options;
    const csr = await client.request();
    if (csr === undefined) return;
    this.#learn(csr);
    const shown = await client.chain();
    if (shown !== undefined) await this.#publish(shown);
    const newest = this.#newest();
    this.#known = newest;
    if (newest !== undefined && newest.chain !== shown) await this.#give(newest);
    const help = 'When the newest known certificate of the website ends, Unix seconds.';
    metrics.gauge('dstack_relay_certificate_not_after', help, newest?.notAfter ?? 0);
    if (shown === newest?.chain) this.#said = '';
  }

  #learn(csr: Uint8Array): void {
    const hex = toHex(csr);
    if (this.#request !== undefined && this.#requests.get('request')?.csr === hex) return;
    this.#request = readSigningRequest(csr);
    this.#requests.put('request', { csr: hex });
  }

  #newest(): SiteCertificate | undefined {
    const rule = this.rule();
    return rule === undefined ? undefined : newestCertificate(this.#options.messages, rule);
  }

  async #publish(chain: string): Promise<void> {
    const message: CertificateMessage = { type: 'certificate', ...this.#options.domain, chain };
    try {
      await this.#options.gossip.publish(message as unknown as Parameters<Publisher['publish']>[0]);
    } catch (error) {
      // Others have a newer one: it is given to the node below.
      if (codeOf(error) === 'CERT_OLDER') return;
      this.#say(codeOf(error), `the node's certificate is not spread: ${(error as Error).message}`);
    }
  }

  async #give(certificate: SiteCertificate): Promise<void> {
    const { client, metrics, log } = this.#options;
    const count = (outcome: string) =>
      metrics.count(
        'dstack_relay_certificates_given_total',
        'Certificates given to the node, by its answer.',
        {
          outcome,
        },
      );
    try {
      await client.give(certificate.chain);
      count('taken');
      log.info({ serial: certificate.serial }, 'the node has taken a certificate for its website');
    } catch (error) {
      count(codeOf(error));
      if (error instanceof Retryable) throw error;
      // It has a newer one, and shows that at the next look.
      if (codeOf(error) === 'CERT_OLDER') return;
      // This machine's clock says that it is valid: by the node's, which may be behind, it is not yet. It is tried again.
      if (codeOf(error) === 'CERT_EXPIRED') throw error;
      this.#drop(certificate, error as DstackError);
    }
  }

  /** What the node refuses is spread no further from here. */
  #drop({ chain, serial }: SiteCertificate, error: DstackError): void {
    const { messages, log } = this.#options;
    for (const message of heldCertificates(messages))
      if (message.chain === chain) messages.refuse(messageId(message));
    log.warn({ code: codeOf(error), serial }, `the node refuses a certificate: ${error.message}`);
  }

  /** Once, until something else is to be said. */
  #say(code: string, message: string): void {
    if (message !== this.#said) this.#options.log.warn({ code }, message);
    this.#said = message;
  }
}
