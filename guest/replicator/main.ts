/**
 * The replicator: holds the network secret; gets it by bootstrap or by an attested request, answers the requests of
 * others, and derives keys for its siblings. Start reading at node.ts (the way to joined) and onboard.ts (the checks).
 *
 * Runs as its own user, and its end is the machine's end: the unit powers the VM off.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { chainClient } from '../../lib/chain/chain-client.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { sockets } from '../../lib/protocol/sockets.ts';
import { attestorClient, attestorReady } from './attestor-client.ts';
import { readIdentity } from './identity.ts';
import { createNode } from './node.ts';
import { nodePort } from './node-port.ts';
import { serveSiblings } from './siblings.ts';

/** The exit code by which a unit or a test can tell an intended end from a crash. */
const ENDED = 70;

const { values } = parseArgs({
  options: {
    root: { type: 'string', default: '' },
    listen: { type: 'string', default: `0.0.0.0:${guestPorts.replicator}` },
  },
});
const log = pino({ name: 'replicator' });

// Whatever was not foreseen ends the machine too; it must be read on the console, which a crash alone would not ensure.
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    log.fatal({ err: error, code: codeOf(error) }, 'the replicator ends, and the machine with it');
    process.exit(1);
  });
}

const runDirectory = join(values.root, '/run/dstack');
// The attestor answers once it has copied and measured what this node is told at boot; before that there is nothing to read.
await attestorReady(join(runDirectory, sockets.attestor));
const identity = readIdentity(values.root);
const reader = networkReader(
  chainClient({ config: identity.network, builtAt: identity.image.builtAt }),
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
const port = nodePort(node, log);
const [host, number] = splitListen(values.listen);
port.listen(number, host);
await once(port, 'listening');
log.info({ address: values.listen }, 'listening for the relay');
await node.run(new AbortController().signal);

function splitListen(listen: string): [string, number] {
  const at = listen.lastIndexOf(':');
  return [listen.slice(0, at), Number(listen.slice(at + 1))];
}
