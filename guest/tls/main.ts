/** The TLS daemon. `--root DIR` puts /run and /usr below DIR, `--listen HOST:PORT` moves the server, for tests without a VM. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { readImageInfo } from '../../lib/daemon/image-info.ts';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { SiteEvidenceSchema } from '../../lib/protocol/site-evidence.ts';
import { sockets, TlsKeyReply, UpstreamReply } from '../../lib/protocol/sockets.ts';
import { selfSigned } from './certificate.ts';
import { evidenceHandler } from './evidence.ts';
import { proxyServer } from './proxy.ts';

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: '/' }, listen: { type: 'string', default: '0.0.0.0:443' } },
});
const log = pino({ name: 'tls' });
const at = (path: string): string => join(flags.root, path);
const FOR_EVER = 24 * 3600 * 1000;
/** On TDX a quote takes seconds, and is tried again while the host is busy. Milliseconds. */
const QUOTED_WITHIN = 95_000;

// Held back by the replicator until the node has joined: before that there is no key, and nothing listens.
const { epoch, privateKey } = await callUnix({
  path: at(join('run/dstack', sockets.replicatorForTls)),
  method: 'GET',
  route: '/v1/tls-key',
  reply: TlsKeyReply,
  connectWithin: FOR_EVER,
});
const image = readImageInfo(flags.root);
const network = parseNetworkConfig(readFileSync(at('run/dstack/network.json')), image.flavour);
const credentials = selfSigned({
  privateKey: fromHex(privateKey, 32),
  chainId: network.chainId,
  contract: network.contract,
  builtAt: image.builtAt,
});
const server = proxyServer({
  credentials,
  log,
  node: evidenceHandler({
    log,
    ask: (nonce) =>
      callUnix({
        path: at(join('run/dstack', sockets.replicatorForTls)),
        method: 'POST',
        route: '/v1/site-evidence',
        body: nonce === undefined ? {} : { nonce },
        reply: SiteEvidenceSchema,
        timeout: QUOTED_WITHIN,
      }),
  }),
  upstream: () =>
    callUnix({
      path: at(join('run/dstack', sockets.kubernethesForTls)),
      method: 'GET',
      route: '/v1/upstream',
      reply: UpstreamReply,
      timeout: 10_000,
    }),
});
const [host, port] = flags.listen.split(':');
server.listen(Number(port), host);
await once(server, 'listening');
log.info({ address: server.address(), epoch, certificate: credentials.fingerprint }, 'listening');
