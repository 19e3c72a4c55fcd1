/**
 * The replicator holds the network's secret: it gets it by bootstrap or with an attested request, answers other nodes'
 * requests, and derives keys for its siblings. Start reading at node.ts (how a node joins) and onboard.ts (the checks).
 *
 * Runs as its own user. When it ends, so does the machine: its unit powers the VM off.
 */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { chainClient } from '../../lib/chain/chain-client.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { AppsStatusSchema } from '../../lib/protocol/app-status.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { SignerStatusSchema } from '../../lib/protocol/signer-status.ts';
import { AppCallReply, sockets } from '../../lib/protocol/sockets.ts';
import { attestorClient, attestorReady } from './attestor-client.ts';
import { CONNECTIONS } from './chain-reads.ts';
import { readIdentity } from './identity.ts';
import { createNode } from './node.ts';
import { nodePort } from './node-port.ts';
import { serveSiblings } from './siblings.ts';

/** The exit code that tells a unit or a test that the end was intended, not a crash. */
const ENDED = 70;
/** For an app's answer, milliseconds: kubernethes gives it less. */
const APP_WITHIN = 58_000;

const { values } = parseArgs({
  options: {
    root: { type: 'string', default: '' },
    listen: { type: 'string', default: `0.0.0.0:${guestPorts.replicator}` },
  },
});
const log = pino({ name: 'replicator' });

// Unforeseen errors end the machine too. The reason must be readable on the console, which a crash alone would not ensure.
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    log.fatal({ err: error, code: codeOf(error) }, 'the replicator ends, and the machine with it');
    process.exit(1);
  });
}

const runDirectory = join(values.root, '/run/dstack');
// The attestor answers once it has copied and measured this node's boot files; before that there is nothing to read.
await attestorReady(join(runDirectory, sockets.attestor));
const identity = readIdentity(values.root);
const reader = networkReader(
  chainClient({ config: identity.network, builtAt: identity.image.builtAt, connections: CONNECTIONS }),
  identity.network.contract,
);
const node = createNode({
  identity,
  reader,
  attestor: attestorClient(join(runDirectory, sockets.attestor)),
  log,
  pollEvery: 1000,
  watchEvery: 5000,
  end(code, message) {
    log.error({ code }, `${message}; powering off`);
    process.exit(ENDED);
  },
});
if (identity.image.flavour !== 'production') {
  log.warn({ flavour: identity.image.flavour }, 'NOT A PRODUCTION IMAGE: its attestation proves nothing');
}

await serveSiblings(runDirectory, node.joined, values.root);
// Only where the network has a store is it started, and not before there is a key for it.
if (identity.network.store !== undefined) {
  node.joined.then(
    () => writeFileSync(join(runDirectory, 'replicator/store'), ''),
    () => {},
  );
}
const apps = () =>
  callUnix({
    path: join(runDirectory, sockets.kubernethesForReplicator),
    method: 'GET',
    route: '/v1/apps',
    reply: AppsStatusSchema,
    timeout: 5_000,
  });
const signer = () =>
  callUnix({
    path: join(runDirectory, sockets.signerForReplicator),
    method: 'GET',
    route: '/v1/status',
    reply: SignerStatusSchema,
    timeout: 5_000,
  }).catch((error: unknown) => {
    throw codeOf(error) === 'SOCKET_UNREACHABLE'
      ? new DstackError('SIGNER_AWAY', 'no signer runs on this node: no manifest in force has named one yet')
      : error;
  });
const ask = (app: string, path: string, body: unknown) =>
  callUnix({
    path: join(runDirectory, sockets.kubernethesForReplicator),
    method: 'POST',
    route: '/v1/app-request',
    body: { app, path, body: body ?? {} },
    reply: AppCallReply,
    timeout: APP_WITHIN,
  });
const port = nodePort(node, { apps, ask, signer }, log);
const [host, number] = splitListen(values.listen);
port.listen(number, host);
await once(port, 'listening');
log.info({ address: values.listen }, 'listening for the relay');
await node.run(new AbortController().signal);

function splitListen(listen: string): [string, number] {
  const at = listen.lastIndexOf(':');
  return [listen.slice(0, at), Number(listen.slice(at + 1))];
}
