/** A store over HTTP, as etcdctl reaches it: by the authority of its certificate, with a certificate of one's own. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createSecureContext } from 'node:tls';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';

const TIMEOUT_MS = 10_000;
/** A system's list of authorities has a quarter of it. */
const MAX_PEM_BYTES = 1024 * 1024;

export const clientOptions: Record<string, Option> = {
  cacert: { value: 'FILE', help: "the authority of the store's certificate, PEM; default: the system's" },
  cert: { value: 'FILE', help: 'the certificate to show, PEM' },
  'key-file': { value: 'FILE', help: "that certificate's key, PEM" },
};

export interface HttpCall {
  readonly url: URL;
  /** A body makes it a POST of JSON. */
  readonly body?: string;
  readonly maxBytes: number;
}

/** Calls of the store at `base`. @throws USAGE, KV_CERTIFICATE; each call KV_UNREACHABLE, KV_REFUSED */
export function httpClient(base: URL, args: Arguments): (call: HttpCall) => Promise<Buffer> {
  const isSecure = base.protocol === 'https:';
  const tls = tlsOf(args, isSecure);
  return ({ url, body, maxBytes }) =>
    new Promise((resolve, reject) => {
      const options = {
        method: body === undefined ? 'GET' : 'POST',
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...tls,
      };
      const fail = (cause: Error) =>
        reject(
          new DstackError('KV_UNREACHABLE', `no reply from ${url}: ${reasonOf(cause, isSecure)}`, { cause }),
        );
      const request = (isSecure ? httpsRequest : httpRequest)(url, options, (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('error', fail);
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxBytes) request.destroy(new Error(`it answers with more than ${maxBytes} bytes`));
          else chunks.push(chunk);
        });
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          if (response.statusCode === 200) resolve(bytes);
          else
            reject(
              new DstackError(
                'KV_REFUSED',
                `${url} answers ${response.statusCode}: ${wordsOf(bytes.toString())}`,
              ),
            );
        });
      });
      request.on('error', fail);
      request.end(body);
    });
}

/** @throws USAGE, KV_CERTIFICATE, and what reading a file throws */
function tlsOf(args: Arguments, isSecure: boolean) {
  const [cacert, certificate, keyFile] = ['cacert', 'cert', 'key-file'].map((name) => args.optional(name));
  if ((certificate === undefined) !== (keyFile === undefined))
    throw new UsageError('--cert and --key-file go together');
  if (!isSecure) {
    if (cacert === undefined && certificate === undefined) return {};
    throw new UsageError('--cacert, --cert and --key-file are for https: the URL begins with http');
  }
  const [ca, cert, key] = [cacert, certificate, keyFile].map((path) =>
    path === undefined ? undefined : readBounded(path, { maxBytes: MAX_PEM_BYTES, pipes: true }),
  );
  // Node would take it, and trust nobody.
  if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----'))
    throw new DstackError('KV_CERTIFICATE', `${cacert} (--cacert) holds no certificate in PEM`);
  try {
    createSecureContext({ ca, cert, key });
  } catch (cause) {
    const files = [cacert, certificate, keyFile].filter((path) => path !== undefined).join(', ');
    throw new DstackError(
      'KV_CERTIFICATE',
      `${files}: not certificates in PEM with the key of --cert: ${(cause as Error).message}`,
      { cause },
    );
  }
  return { ca, cert, key };
}

const UNTRUSTED = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_GET_ISSUER_CERT',
  'CERT_SIGNATURE_FAILURE',
]);

/** In words that help, where the library's are those of OpenSSL. */
function reasonOf(cause: NodeJS.ErrnoException, isSecure: boolean): string {
  const { code = '', message } = cause;
  if (UNTRUSTED.has(code))
    return 'its certificate is not of an authority that is trusted here: --cacert says which one to trust';
  if (code.endsWith('ALERT_CERTIFICATE_REQUIRED'))
    return 'it asks for a certificate: --cert and --key-file show one';
  if (
    code === 'EPROTO' ||
    code === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
    code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG'
  )
    return 'it does not speak TLS: perhaps its URL begins with http';
  if (code === 'ECONNRESET')
    return isSecure
      ? `${message}: perhaps it does not take the certificate of --cert, or is being stopped`
      : `${message}: perhaps its URL begins with https`;
  return message || code;
}

/** What the gateway says in JSON is in one of its fields. */
function wordsOf(body: string): string {
  try {
    const { message } = JSON.parse(body) as { message?: unknown };
    if (typeof message === 'string') return message.slice(0, 200);
  } catch {
    // It is not JSON, or nothing.
  }
  return body.trim().slice(0, 200);
}

/** @throws USAGE */
export function urlOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UsageError(`not an http or https URL: ${text}`);
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw new UsageError("a store's URL has neither a user nor a query: users are known by --cert");
  return url;
}
