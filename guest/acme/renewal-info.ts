/**
 * When the authority proposes to renew a certificate (ARI, RFC 9773): it may want them spread, or be about to revoke one. A proposal
 * is no more than that: schedule.ts bounds it by the certificate's own dates, and a wrong one costs an order of the week's.
 */
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { expectTag, readChildren, readDer, TAG } from '../../lib/attestation/bytes/der.ts';
import { readCertificateFields, readExtensions } from '../../lib/attestation/certificates/certificate.ts';
import { AttestationError } from '../../lib/attestation/errors.ts';
import type { SiteCertificate } from '../../lib/site/certificate-rule.ts';
import { UNDERSTOOD } from '../../lib/site/web-certificate.ts';
import { retryAfterOf, type TransportOptions, transport } from './transport.ts';

export interface Proposal {
  /** Unix seconds. */
  start: number;
  end: number;
}

export interface RenewalInfoOptions extends TransportOptions {
  /** Milliseconds, of a clock that only moves forward. */
  monotonic?: () => number;
  /** Called when the authority, which says that it makes proposals, made none that can be read. */
  problem(error: unknown): void;
}

/** Between two questions; the authority may choose within these (RFC 9773, section 4.3). Seconds. */
const ASK_AFTER = { least: 60, usual: 6 * 3600, most: 24 * 3600 };
/** After one that was not answered. Seconds. */
const ASK_AGAIN = 600;

const Directory = Type.Object({ renewalInfo: Type.Optional(Type.String({ maxLength: 1000 })) });
const Time = Type.String({
  pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?(Z|[+-]\\d\\d:\\d\\d)$',
  maxLength: 40,
});
const RenewalInfo = Type.Object({ suggestedWindow: Type.Object({ start: Time, end: Time }) });

export class Renewals {
  readonly #options: RenewalInfoOptions;
  #kept: { fingerprint: string; proposal: Proposal | undefined; until: number } | undefined;

  constructor(options: RenewalInfoOptions) {
    this.#options = options;
  }

  /** What the authority proposes, asked now and then; undefined when it proposes nothing. Never rejects. */
  async proposed(certificate: SiteCertificate): Promise<Proposal | undefined> {
    const { monotonic = () => performance.now(), problem } = this.#options;
    const { fingerprint, chain } = certificate;
    const mine = this.#kept?.fingerprint === fingerprint ? this.#kept : undefined;
    if (mine !== undefined && monotonic() < mine.until) return mine.proposal;
    const keep = (proposal: Proposal | undefined, seconds: number) => {
      this.#kept = { fingerprint, proposal, until: monotonic() + seconds * 1000 };
      return proposal;
    };
    try {
      const { proposal, again } = await this.#ask(chain);
      return keep(proposal, Math.min(Math.max(again, ASK_AFTER.least), ASK_AFTER.most));
    } catch (error) {
      problem(error);
      return keep(mine?.proposal, ASK_AGAIN);
    }
  }

  async #ask(chain: string): Promise<{ proposal?: Proposal; again: number }> {
    const send = transport(this.#options);
    const directory: unknown = JSON.parse((await send({ url: this.#options.directory })).data);
    const id = renewalId(chain);
    if (!Value.Check(Directory, directory) || directory.renewalInfo === undefined || id === undefined)
      return { again: ASK_AFTER.usual };
    const answer = await send({ url: `${directory.renewalInfo.replace(/\/$/, '')}/${id}` });
    const again = retryAfterOf(answer.headers['retry-after']) ?? ASK_AFTER.usual;
    const info: unknown = JSON.parse(answer.data);
    if (!Value.Check(RenewalInfo, info)) return { again };
    const [start, end] = [info.suggestedWindow.start, info.suggestedWindow.end].map(
      (time) => Date.parse(time) / 1000,
    );
    if (!(start! <= end!)) return { again };
    return { proposal: { start: start!, end: end! }, again };
  }
}

const AUTHORITY_KEY = '2.5.29.35';
/** keyIdentifier of an AuthorityKeyIdentifier (RFC 5280, section 4.2.1.1). */
const KEY_IDENTIFIER = 0x80;

/** How the authority calls the first certificate of a chain (RFC 9773, section 4.1); undefined when it does not name its issuer's key. */
export function renewalId(chain: string): string | undefined {
  const [, base64 = ''] = /-----BEGIN CERTIFICATE-----\n([^-]+)/.exec(chain) ?? [];
  const refused = (message: string) => new AttestationError('CERTIFICATE_FORMAT', message);
  const { serial, extensionsList } = readCertificateFields(
    new Uint8Array(Buffer.from(base64, 'base64')),
    refused,
  );
  const value = readExtensions(extensionsList, UNDERSTOOD, refused).get(AUTHORITY_KEY);
  if (value === undefined) return undefined;
  const key = readChildren(readDer(value, TAG.sequence)).find(({ tag }) => tag === KEY_IDENTIFIER);
  if (key === undefined) return undefined;
  return [key.content, expectTag(serial, TAG.integer).content]
    .map((bytes) => Buffer.from(bytes).toString('base64url'))
    .join('.');
}
