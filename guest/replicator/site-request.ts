/** What a certificate authority signs for the website. The names are those of network.json, which is measured: nobody else has a say. */
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { SiteConfig } from '../../lib/protocol/network-config.ts';
import { p256PublicKey } from '../../lib/protocol/site-evidence.ts';
import type { SiteRequestReply } from '../../lib/protocol/sockets.ts';
import { signingRequest } from '../../lib/site/signing-request.ts';
import type { KeyManager } from './key-manager.ts';

/** @throws NO_SITE when network.json names no website */
export function siteRequest(
  site: SiteConfig | undefined,
  keys: Pick<KeyManager, 'tlsKey'>,
): SiteRequestReply {
  if (site === undefined)
    throw new DstackError(
      'NO_SITE',
      'network.json names no website to certify: see docs/site-certificates.md',
    );
  const key = keys.tlsKey();
  return { request: toHex(signingRequest(key, site.domains)), publicKey: toHex(p256PublicKey(key)) };
}
