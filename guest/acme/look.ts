/**
 * What the website shows now, by whichever node the name leads to: another one may have a newer certificate, which gossip has not
 * brought yet. Nothing is believed of it: a chain is public, and judged as any other. The host chooses where the name leads, at
 * worst to this node itself.
 */
import { type ConnectionOptions, connect, type DetailedPeerCertificate } from 'node:tls';
import { encodePem } from '../../lib/attestation/bytes/pem.ts';

/** For all names together. Milliseconds. */
const WITHIN = 5_000;
/** Certificates in what is shown. */
const MAX_CHAIN = 5;

/** PEM chains, none twice. Never rejects. @param options for tests without a name server */
export async function shownChains(
  names: readonly string[],
  options: ConnectionOptions = {},
): Promise<string[]> {
  const found = await Promise.all(names.map((name) => shownBy(name, options)));
  return [...new Set(found.filter((chain) => chain !== undefined))];
}

function shownBy(name: string, options: ConnectionOptions): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({
      host: name,
      port: 443,
      servername: name,
      // It is judged by the rule for certificates, not here.
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
      ...options,
    });
    const end = (chain: string | undefined) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(chain);
    };
    const timer = setTimeout(() => end(undefined), WITHIN);
    socket.once('error', () => end(undefined));
    socket.once('secureConnect', () => end(chainOf(socket.getPeerCertificate(true))));
  });
}

function chainOf(leaf: DetailedPeerCertificate | undefined): string | undefined {
  const chain: string[] = [];
  // A root names itself as its issuer.
  for (let next = leaf; next?.raw !== undefined && chain.length < MAX_CHAIN; next = next.issuerCertificate) {
    const pem = encodePem(next.raw);
    if (chain.includes(pem)) break;
    chain.push(pem);
  }
  return chain.length === 0 ? undefined : chain.join('');
}
