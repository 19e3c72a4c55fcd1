/** The website of one node, as a visitor sees it, and the key that its TLS presents. */
import { createHash, X509Certificate } from 'node:crypto';
import { get } from 'node:https';
import type { TLSSocket } from 'node:tls';

export interface Page {
  version: string;
  fingerprint: string;
  note: string;
  /** SHA-256 of the TLS key's SubjectPublicKeyInfo. */
  tlsKey: string;
}

/** @returns undefined while the site is not up */
export function fetchPage(port: number): Promise<Page | undefined> {
  return new Promise((resolve) => {
    const request = get(
      // The certificate is self-signed; what counts here is which key it is for.
      { host: '127.0.0.1', port, path: '/', rejectUnauthorized: false, timeout: 15_000, agent: false },
      (response) => {
        const socket = response.socket as TLSSocket;
        const certificate = new X509Certificate(socket.getPeerCertificate(true).raw);
        const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
        const tlsKey = createHash('sha256').update(spki).digest('hex');
        let html = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          if (html.length < 1_000_000) html += chunk;
        });
        response.on('end', () => {
          const version = /<h1>Hello from version ([^<]+)<\/h1>/.exec(html)?.[1];
          const fingerprint = /id="fingerprint">([0-9a-f]{32})</.exec(html)?.[1];
          const note = /id="note">([^<]*)</.exec(html)?.[1];
          const whole = version !== undefined && fingerprint !== undefined && note !== undefined;
          resolve(whole ? { version, fingerprint, note, tlsKey } : undefined);
        });
        response.on('error', () => resolve(undefined));
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

/** What the website answers to this path. @throws Error when the answer is not a 200 */
export function ask(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      path,
      rejectUnauthorized: false,
      timeout: 60_000,
      agent: false,
    };
    const request = get(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (text.length < 10_000_000) text += chunk;
      });
      response.on('end', () =>
        response.statusCode === 200
          ? resolve(text)
          : reject(new Error(`${path}: HTTP ${response.statusCode}: ${text.slice(0, 300)}`)),
      );
      response.on('error', reject);
    });
    request.on('timeout', () => request.destroy(new Error(`${path}: no answer`)));
    request.on('error', reject);
  });
}
