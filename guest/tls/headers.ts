/**
 * Which headers pass the proxy. Hop-by-hop ones end here (RFC 9110, 7.6.1); what claims where a request came from is
 * the proxy's to say, so a client's own claims are dropped.
 */

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
]);
const CLAIMS = /^(forwarded|via|x-real-ip|x-forwarded(-.*)?|x-original-.*|true-client-ip|cf-connecting-ip)$/;

/** Name and value in turn, as node:http's `rawHeaders`. */
export type RawHeaders = readonly string[];

/** The headers for the app: the client's, without hop-by-hop and claims, plus ours. */
export function requestHeaders(raw: RawHeaders, client: { address: string; host: string }): string[] {
  const kept = pairs(raw).filter(([name]) => !CLAIMS.test(name.toLowerCase()));
  return [
    ...withoutHopByHop(kept).flat(),
    ...['X-Forwarded-For', client.address],
    ...['X-Forwarded-Host', client.host],
    ...['X-Forwarded-Proto', 'https'],
  ];
}

/** The headers for the client. */
export function responseHeaders(raw: RawHeaders): string[] {
  return withoutHopByHop(pairs(raw)).flat();
}

/** Also drops what `Connection` names: such a header is hop-by-hop by its sender's word. */
function withoutHopByHop(headers: [name: string, value: string][]): [string, string][] {
  const named = headers
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.split(',').map((token) => token.trim().toLowerCase()));
  // These frame the message or say where it goes: no sender may have them dropped.
  const dropped = new Set(named.filter((name) => name !== 'content-length' && name !== 'host'));
  return headers.filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()) && !dropped.has(name.toLowerCase()));
}

function pairs(raw: RawHeaders): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i]!, raw[2 * i + 1]!]);
}
