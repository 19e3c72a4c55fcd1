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

/** @returns undefined while the site is not up, or does not answer in time; milliseconds */
export function fetchPage(port: number, timeout = 120_000): Promise<Page | undefined> {
  return new Promise((resolve) => {
    const request = get(
      // The certificate is self-signed; what counts here is which key it is for.
      { host: '127.0.0.1', port, path: '/', rejectUnauthorized: false, timeout, agent: false },
      (response) => {
        const socket = response.socket as TLSSocket;
        const certificate = new X509Certificate(socket.getPeerCertificate(true).raw);
        const tlsKey = spkiHash(certificate);
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

export interface Shown {
  /** Hex, of the certificate. */
  serial: string;
  /** SHA-256 of the SubjectPublicKeyInfo. */
  tlsKey: string;
  status: number;
}

/**
 * A visit as a browser makes it: by name, and only if the certificate is for that name and ends in this root.
 * @param root PEM
 * @throws Error as Node says it, such as DEPTH_ZERO_SELF_SIGNED_CERT
 */
export function visit(port: number, name: string, root: string, path = '/'): Promise<Shown> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, servername: name, ca: root, agent: false };
    const request = get({ ...options, headers: { host: name }, timeout: 120_000 }, (response) => {
      const certificate = (response.socket as TLSSocket).getPeerX509Certificate()!;
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          serial: certificate.serialNumber,
          tlsKey: spkiHash(certificate),
          status: response.statusCode ?? 0,
        }),
      );
      response.resume();
    });
    request.on('timeout', () => request.destroy(new Error('the visit timed out')));
    request.on('error', reject);
  });
}

function spkiHash({ publicKey }: X509Certificate): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

/**
 * What the website answers to this path.
 * @param name of an app's own website; left out, it is the network's
 * @throws Error when the answer is not a 200
 */
export function ask(port: number, path: string, name?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      path,
      ...(name === undefined ? {} : { servername: name, headers: { host: name } }),
      rejectUnauthorized: false,
      // Of silence: some of what tests ask for takes a while.
      timeout: 300_000,
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
