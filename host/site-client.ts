/**
 * The client of a website's own paths, for its certificate. It needs no certificate that a browser takes: what is asked for is
 * public, and what is given is judged by the node. Where it counts who answers, the key of the connection is given.
 */
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type Static, type TSchema, Type } from 'typebox';
import { readText } from '../lib/daemon/http-body.ts';
import { bytesEqual } from '../lib/protocol/encoding.ts';
import { codeOf, DstackError, Retryable } from '../lib/protocol/errors.ts';
import { ErrorReplySchema } from '../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../lib/protocol/schema.ts';
import { sitePaths } from '../lib/protocol/site-evidence.ts';
import { AcmeStatus } from '../lib/protocol/sockets.ts';
import { CERTIFICATE_MAX_BYTES } from '../lib/site/certificate-rule.ts';

/** For one exchange, milliseconds. */
const WITHIN_MS = 10_000;
/** PEM of a request with twenty long names is no longer; a refusal is shorter. Bytes. */
const REPLY_MAX_BYTES = 32 * 1024;

const REQUEST =
  /^-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE REQUEST-----\n$/;

export class SiteClient {
  readonly #url: URL;
  readonly #publicKey: Uint8Array | undefined;

  /**
   * @param url `https://HOST[:PORT]`
   * @param publicKey SubjectPublicKeyInfo, DER: answers by a connection with another key are refused (SITE_TLS_ENDED)
   */
  constructor(url: string, publicKey?: Uint8Array) {
    this.#url = new URL(url);
    this.#publicKey = publicKey;
  }

  /** What an authority is to sign, DER; undefined for a network without a site. @throws SITE_* */
  async request(): Promise<Uint8Array | undefined> {
    const text = await this.#read(sitePaths.request, 'NO_SITE');
    if (text === undefined) return undefined;
    const [, base64] = REQUEST.exec(text) ?? [];
    if (base64 === undefined)
      throw new DstackError('SITE_MALFORMED', `${this.#name} shows no certificate request`);
    return new Uint8Array(Buffer.from(base64, 'base64'));
  }

  /** The chain in force, PEM; undefined while there is only the self-signed one. @throws SITE_* */
  async chain(): Promise<string | undefined> {
    const text = await this.#read(sitePaths.certificate, 'NO_CERTIFICATE');
    if (text === undefined || text.length <= CERTIFICATE_MAX_BYTES) return text;
    throw new DstackError('SITE_MALFORMED', `${this.#name} shows a chain that is too long`);
  }

  /** @throws SITE_* */
  async status(): Promise<Static<typeof AcmeStatus>> {
    const { status, text } = await this.#exchange('GET', sitePaths.status);
    if (status === 200) return this.#parsed(AcmeStatus, text);
    throw this.#refusal(status, text);
  }

  /** Brings a chain; returns once the node uses it. @throws CERT_* as the node says; SITE_* */
  async give(chain: string): Promise<void> {
    const { status, text } = await this.#exchange('POST', sitePaths.certificate, chain);
    if (status !== 200) throw this.#refusal(status, text);
    this.#parsed(Type.Object({ taken: Type.Literal(true) }), text);
  }

  get #name(): string {
    return this.#url.host;
  }

  /** Undefined when the node says, by this code, that there is none. */
  async #read(path: string, none: string): Promise<string | undefined> {
    const { status, text } = await this.#exchange('GET', path);
    if (status === 200) return text;
    const refusal = this.#refusal(status, text);
    if (status === 404 && refusal.code === none) return undefined;
    throw refusal;
  }

  #parsed<T extends TSchema>(schema: T, text: string): Static<T> {
    return parseJson(schema, text, 'SITE_MALFORMED', `the answer of ${this.#name}`, REPLY_MAX_BYTES);
  }

  /** What a node refuses keeps its code; everything else is a website that is none, or not now. */
  #refusal(status: number, text: string): DstackError {
    const said = `${this.#name} answers HTTP ${status}`;
    if (status === 429) return new Retryable('SITE_BUSY', `${said}: it was brought too much lately`);
    if (status === 503) return new Retryable('SITE_NOT_READY', `${said}: try again`);
    let found: Static<typeof ErrorReplySchema>;
    try {
      found = this.#parsed(ErrorReplySchema, text);
    } catch (error) {
      if (codeOf(error) !== 'SITE_MALFORMED') throw error;
      return new DstackError('SITE_STATUS', `${said}: it is no node, or something stands in front of one`);
    }
    const isOurs = /^(CERT_[A-Z]+|NO_SITE|NO_CERTIFICATE|BODY_TOO_LARGE)$/.test(found.code);
    return new DstackError(isOurs ? found.code : 'SITE_STATUS', isOurs ? found.message : said);
  }

  async #exchange(
    method: 'GET' | 'POST',
    path: string,
    body?: string,
  ): Promise<{ status: number; text: string }> {
    try {
      const response = await this.#send(method, path, body);
      this.#requireKey(response);
      return { status: response.statusCode ?? 0, text: await readText(response, REPLY_MAX_BYTES) };
    } catch (cause) {
      if (cause instanceof DstackError && cause.code !== 'BODY_TOO_LARGE') throw cause;
      if (codeOf(cause) === 'BODY_TOO_LARGE')
        throw new DstackError(
          'SITE_TOO_LARGE',
          `${this.#name} answers with more than ${REPLY_MAX_BYTES} bytes`,
        );
      const { name, code, message } = cause as NodeJS.ErrnoException;
      const why = name === 'TimeoutError' || name === 'AbortError' ? 'it took too long' : (code ?? message);
      throw new Retryable('SITE_UNREACHABLE', `no answer from ${this.#name}: ${why.slice(0, 200)}`, {
        cause,
      });
    }
  }

  #requireKey(response: IncomingMessage): void {
    if (this.#publicKey === undefined) return;
    const shown = (response.socket as TLSSocket).getPeerX509Certificate()?.publicKey;
    const key = shown?.export({ type: 'spki', format: 'der' });
    if (key !== undefined && bytesEqual(new Uint8Array(key), this.#publicKey)) return;
    response.destroy();
    throw new DstackError('SITE_TLS_ENDED', `${this.#name} answers by a connection with another key`);
  }

  #send(method: string, path: string, body?: string): Promise<IncomingMessage> {
    const host = this.#url.hostname.replace(/^\[|\]$/g, '');
    return new Promise((resolve, reject) => {
      const asked = request({
        host,
        port: this.#url.port === '' ? 443 : Number(this.#url.port),
        ...(isIP(host) === 0 ? { servername: host } : {}),
        method,
        path,
        headers: {
          host: this.#url.host,
          'accept-encoding': 'identity',
          ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
        },
        agent: false,
        rejectUnauthorized: false,
        minVersion: 'TLSv1.2',
        signal: AbortSignal.timeout(WITHIN_MS),
      });
      asked.on('response', resolve);
      asked.on('upgrade', (_, socket) => {
        socket.destroy();
        reject(new DstackError('SITE_STATUS', `${this.#name} switches protocols instead of answering`));
      });
      asked.on('error', reject);
      asked.end(body);
    });
  }
}
