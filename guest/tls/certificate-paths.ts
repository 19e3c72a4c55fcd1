/**
 * What the node answers about the website's certificate: the request that an authority signs, the chain in force, how it
 * stands; and the way by which anybody may bring a chain. Nothing is judged here: guest/acme does that, by the one rule
 * (lib/site). This side owns what a stranger may cost: 16 KiB are read, one chain at a time is judged, and a few a second.
 */
import { encodePemBlock } from '../../lib/attestation/bytes/pem.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { sitePaths } from '../../lib/protocol/site-evidence.ts';
import type { AcmeSite } from '../../lib/protocol/sockets.ts';
import { CERTIFICATE_MAX_BYTES } from '../../lib/site/certificate-rule.ts';
import { type NodeHandler, type NodeReply, refusal, reply, textReply } from './node-reply.ts';

export interface CertificatePathsOptions {
  /** What acme said last; undefined while it has said nothing. */
  site(): AcmeSite | undefined;
  /** Hands a chain to acme. @throws CERT_*; SOCKET_* while it is away */
  give(chain: string): Promise<void>;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

/** Chains that strangers may have judged: so many at once, then one for each pause. Milliseconds. */
const BURST = 5;
const PAUSE_MS = 200;

/** RFC 8555, section 9.1. */
const CHAIN_TYPE = 'application/pem-certificate-chain';

/** By path. */
export function certificatePaths(options: CertificatePathsOptions): Record<string, NodeHandler> {
  const { give, monotonic = () => performance.now() } = options;
  const turn = turns(monotonic);

  /** @throws NOT_READY */
  function site(): AcmeSite {
    const found = options.site();
    if (found === undefined) throw new DstackError('NOT_READY', 'the node is still starting');
    return found;
  }

  function shown(): NodeReply {
    const { chain } = site();
    if (chain !== undefined) return textReply(200, CHAIN_TYPE, chain);
    return refusal(404, 'NO_CERTIFICATE', 'the website has its self-signed certificate alone');
  }

  function asked(): NodeReply {
    const { csr } = site();
    if (csr !== undefined)
      return textReply(
        200,
        'text/plain; charset=utf-8',
        encodePemBlock('CERTIFICATE REQUEST', Buffer.from(csr, 'base64')),
      );
    return refusal(404, 'NO_SITE', 'network.json names no domains for this website');
  }

  async function brought(read: (maxBytes: number) => Promise<Uint8Array>): Promise<NodeReply> {
    const body = await read(CERTIFICATE_MAX_BYTES);
    // What is no ASCII is no PEM; latin1 keeps one character a byte, so that the rule's bound stays that of bytes.
    const chain = Buffer.from(body).toString('latin1');
    await turn(() => give(chain));
    return reply(200, { taken: true });
  }

  return {
    [sitePaths.request]: reading(asked),
    [sitePaths.status]: reading(() => reply(200, site().status)),
    [sitePaths.certificate]: (request) =>
      request.method === 'POST'
        ? answered(() => brought(request.read))
        : reading(shown, 'GET, HEAD, POST')(request),
  };
}

/** A handler that only reads. @param allow the methods that the path has */
function reading(read: () => NodeReply, allow = 'GET, HEAD'): NodeHandler {
  return async ({ method }) =>
    method === 'GET' || method === 'HEAD'
      ? answered(read)
      : refusal(405, 'METHOD', `this path has ${allow}`, { allow });
}

async function answered(work: () => NodeReply | Promise<NodeReply>): Promise<NodeReply> {
  try {
    return await work();
  } catch (error) {
    const code = codeOf(error);
    const { message } = error as Error;
    if (code.startsWith('CERT_')) return refusal(422, code, message);
    if (code === 'BODY_TOO_LARGE') return refusal(413, code, message);
    if (code === 'BODY_CUT') return refusal(400, code, message);
    if (code === 'BUSY') return refusal(429, code, message, { 'retry-after': '1' });
    // What went wrong inside is not for strangers.
    const later = { 'retry-after': '5' };
    return refusal(503, code.startsWith('SOCKET_') ? 'NOT_READY' : code, 'the node cannot say now', later);
  }
}

/** One at a time, and no more than the limit. */
function turns(monotonic: () => number): <T>(work: () => Promise<T>) => Promise<T> {
  let atWork = false;
  let left = BURST;
  let at = monotonic();
  return async (work) => {
    const now = monotonic();
    left = Math.min(BURST, left + (now - at) / PAUSE_MS);
    at = now;
    if (atWork || left < 1)
      throw new DstackError('BUSY', 'a few certificates a second are looked at; try again');
    left -= 1;
    atWork = true;
    try {
      return await work();
    } finally {
      atWork = false;
    }
  };
}
