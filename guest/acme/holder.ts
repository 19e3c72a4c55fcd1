/** The certificate in use. Whatever way one comes, it is judged here, and what is refused changes nothing. */

import {
  type CertificateRule,
  judgeCertificate,
  type SiteCertificate,
} from '../../lib/site/certificate-rule.ts';
import type { WebCertificate } from '../../lib/site/web-certificate.ts';

export interface HolderOptions {
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
  names: readonly string[];
  roots: readonly WebCertificate[];
  /** Called with each one that was taken. */
  taken(certificate: SiteCertificate): void;
}

export class Holder {
  readonly #options: HolderOptions;
  #present: SiteCertificate | undefined;
  /** The one before, where it ends later: a newer one may be of a few seconds. */
  #spare: SiteCertificate | undefined;

  constructor(options: HolderOptions) {
    this.#options = options;
  }

  /** The one in use, unless its time is up. @param now Unix seconds by the chain's clock */
  present(now: number): SiteCertificate | undefined {
    return [this.#present, this.#spare].find((each) => each !== undefined && now <= each.notAfter);
  }

  /** @throws CERT_* (certificate-rule.ts) */
  take(chain: string, now: number): SiteCertificate {
    const { publicKey, names, roots } = this.#options;
    const rule: CertificateRule = { publicKey, names, roots, now };
    const before = this.present(now);
    const certificate = judgeCertificate(chain, rule, before);
    this.#spare = [this.#spare, before].find(
      (each) => each !== undefined && each.notAfter > certificate.notAfter,
    );
    this.#present = certificate;
    this.#options.taken(certificate);
    return certificate;
  }
}
