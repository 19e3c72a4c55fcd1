/**
 * One look at a website that nobody trusts: a TLS connection of our own, evidence asked by it, and the key that it was made
 * with. Whether a browser would take the certificate is noted, and decides nothing here: what counts is the key.
 */
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { EVIDENCE_PATH, type SiteEvidence, SiteEvidenceSchema } from '../../lib/protocol/site-evidence.ts';

export interface Visit {
  readonly evidence: SiteEvidence;
  /** SubjectPublicKeyInfo, DER, of the key that the connection was made with. */
  readonly publicKey: Uint8Array;
  /** Why a browser would not take the certificate; undefined when it would. */
  readonly browserRefuses: string | undefined;
}

/** On TDX a quote takes seconds. Milliseconds. */
const VISIT_MS = 60_000;
/** A server that says so is left alone for so long at least, and at most. Seconds. */
const RETRY_AFTER = { least: 1, most: 10 };

/** Somebody else's evidence was being made. */
class Busy extends DstackError {
  readonly seconds: number;

  constructor(url: URL, seconds: number) {
    super('SITE_BUSY', `${url.host} was asked for too much evidence lately; try again`);
    this.seconds = seconds;
  }
}

/**
 * @param nonce 32 bytes, fresh for each try: called again when the node was busy
 * @param waitMs how long a busy node is asked again
 * @param visitMs for one try, from the connection to the last byte
 * @throws SITE_UNREACHABLE, SITE_REDIRECT, SITE_STATUS, SITE_NO_EVIDENCE, SITE_NOT_READY, SITE_BUSY, SITE_TOO_LARGE,
 *   SITE_KEY, SITE_MALFORMED
 */
export async function visit(
  site: URL,
  nonce: () => Uint8Array,
  waitMs: number,
  visitMs: number = VISIT_MS,
): Promise<Visit & { nonce: Uint8Array }> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const own = nonce();
    try {
      return { ...(await once(site, own, visitMs)), nonce: own };
    } catch (error) {
      if (!(error instanceof Busy) || performance.now() + error.seconds * 1000 > deadline) throw error;
      // Not all who wait come back at the same moment.
      await new Promise((resolve) => setTimeout(resolve, error.seconds * 1000 + Math.random() * 500));
    }
  }
}

async function once(site: URL, nonce: Uint8Array, visitMs: number): Promise<Visit> {
  const url = new URL(`${EVIDENCE_PATH}?nonce=${toHex(nonce)}`, site);
  const signal = AbortSignal.timeout(visitMs);
  const response = await get(url, signal);
  const socket = response.socket as TLSSocket;
  // Of the very connection that this answer comes by, before anything else is read of it.
  const publicKey = keyOf(socket, url);
  const browserRefuses = socket.authorized ? undefined : String(socket.authorizationError ?? 'unknown');
  requireEvidence(response, url);
  const text = await read(response, url);
  // An answer without a length just ends when its time is up.
  if (signal.aborted) throw unreachable(url, signal.reason as Error);
  const evidence = parseJson(SiteEvidenceSchema, text, 'SITE_MALFORMED', 'the evidence', MESSAGE_MAX_BYTES);
  return { evidence, publicKey, browserRefuses };
}

function get(url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const asked = request({
      host,
      port: url.port === '' ? 443 : Number(url.port),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      path: url.pathname + url.search,
      headers: { host: url.host, accept: 'application/json', 'accept-encoding': 'identity' },
      // A connection of its own, without a session of before: its handshake shows the key.
      agent: false,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      maxHeaderSize: 16 * 1024,
      signal,
    });
    asked.on('response', resolve);
    // Nothing that was asked for becomes another protocol.
    asked.on('upgrade', (_, socket) => {
      socket.destroy();
      reject(new DstackError('SITE_STATUS', `${url.host} switches protocols instead of answering`));
    });
    asked.on('error', (cause) => reject(unreachable(url, cause)));
    asked.end();
  });
}

function keyOf(socket: TLSSocket, url: URL): Uint8Array {
  try {
    const certificate = socket.getPeerX509Certificate()!;
    return new Uint8Array(certificate.publicKey.export({ type: 'spki', format: 'der' }));
  } catch (cause) {
    socket.destroy();
    throw new DstackError('SITE_KEY', `${url.host} shows a certificate whose key can't be read`, { cause });
  }
}

function requireEvidence(response: IncomingMessage, url: URL): void {
  const status = response.statusCode ?? 0;
  if (status === 200) return;
  response.destroy();
  const seconds = Number(response.headers['retry-after'] ?? RETRY_AFTER.least);
  if (status === 429) {
    const { least, most } = RETRY_AFTER;
    throw new Busy(url, Number.isFinite(seconds) ? Math.min(most, Math.max(least, seconds)) : least);
  }
  if (status >= 300 && status < 400) {
    const to = JSON.stringify(String(response.headers.location ?? '').slice(0, 200));
    throw new DstackError(
      'SITE_REDIRECT',
      `${url.host} leads to ${to}, which is not followed: a node answers itself`,
    );
  }
  if (status === 404) {
    throw new DstackError(
      'SITE_NO_EVIDENCE',
      `${url.host} has no ${EVIDENCE_PATH}: it is no node, or something stands in front of one`,
    );
  }
  if (status === 503) {
    throw new DstackError('SITE_NOT_READY', `${url.host} can give no evidence now; try again`);
  }
  throw new DstackError('SITE_STATUS', `${url.host} answers HTTP ${status}`);
}

async function read(response: IncomingMessage, url: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MESSAGE_MAX_BYTES) {
        throw new DstackError(
          'SITE_TOO_LARGE',
          `${url.host} answers with more than ${MESSAGE_MAX_BYTES} bytes`,
        );
      }
      chunks.push(chunk);
    }
  } catch (cause) {
    throw cause instanceof DstackError ? cause : unreachable(url, cause as Error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function unreachable(url: URL, cause: Error): DstackError {
  const late = cause.name === 'AbortError' || cause.name === 'TimeoutError';
  const why = late ? 'it took too long' : ((cause as NodeJS.ErrnoException).code ?? cause.message);
  return new DstackError('SITE_UNREACHABLE', `no answer from ${url.host}: ${why.slice(0, 200)}`, { cause });
}
