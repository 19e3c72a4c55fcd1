/**
 * The store on a laptop: what `npx dstack kv start --dev` runs. The parts are those of a VM; the secret is made on the spot and lies on the
 * disk in the clear, so nothing that it proves or protects is worth anything.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { print, printError, printFailure } from '../../../lib/daemon/terminal.ts';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { noteSigner, verifierKey } from '../../../lib/ledger/note.ts';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { ledgerKey, ledgerSaltKey } from '../../../lib/protocol/keys.ts';
import { storeShares } from '../../../lib/protocol/store-shares.ts';
import { openLedger } from '../open-ledger.ts';
import { startStore } from '../start.ts';
import type { Caller } from '../types.ts';
import { devCertificates } from './certificates.ts';
import { startEtcdProcess } from './etcd-process.ts';

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string' },
    listen: { type: 'string', default: '127.0.0.1:2379' },
    'cert-file': { type: 'string' },
    'key-file': { type: 'string' },
    etcd: { type: 'string' },
    tools: { type: 'string' },
    plain: { type: 'boolean', default: false },
  },
});

/** The log's name: nobody's network. */
const LOG = new Uint8Array(16);
const ORIGIN = 'dstack.localhost/dev';

interface Address {
  readonly host: string;
  readonly port: number;
}

function addressOf(text: string): Address {
  const match = /^([^:]+):(\d{1,5})$/.exec(text);
  if (match === null) throw new DstackError('KV_LISTEN', `--listen takes HOST:PORT, not ${text}`);
  return { host: match[1]!, port: Number(match[2]) };
}

const isLoopback = (host: string): boolean => host === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(host);

/** Made at the first start; a store that was started with it can only be read with it. */
function throwawaySecret(data: string): Uint8Array {
  const path = join(data, 'secret');
  if (!existsSync(path)) writeFileSync(path, randomBytes(32).toString('hex'), { mode: 0o600 });
  return Buffer.from(readFileSync(path, 'utf8'), 'hex');
}

function tlsOf(data: string, { host }: Address): { tls?: TlsOptions; lines: string[] } {
  if (flags.plain) {
    if (!isLoopback(host))
      throw new DstackError(
        'KV_PLAIN',
        `--plain is for this machine alone: listen at 127.0.0.1, not at ${host}`,
      );
    return { lines: ['No TLS: whoever reaches the port is the owner.'] };
  }
  const made = devCertificates(join(data, 'certs'), [...new Set(['localhost', '127.0.0.1', host])]);
  const [certificate, key] = [
    flags['cert-file'] ?? made.service.certificate,
    flags['key-file'] ?? made.service.key,
  ];
  return {
    tls: {
      cert: readFileSync(certificate),
      key: readFileSync(key),
      ca: readFileSync(made.authority),
      requestCert: true,
      rejectUnauthorized: true,
    },
    lines: [
      `A client trusts ${made.authority}`,
      `and shows ${made.user.certificate} with ${made.user.key}; scripts/etcdctl.sh does.`,
    ],
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** On a laptop there is one namespace, the owner's; a certificate's name is a user of it, once it has users. */
function callerOf(socket: Socket | TLSSocket): Caller {
  const common = 'getPeerCertificate' in socket ? socket.getPeerCertificate().subject?.CN : undefined;
  return {
    prefix: utf8('o/'),
    name: 'owner',
    owner: true,
    ...(typeof common === 'string' && { commonName: common }),
  };
}

async function main(): Promise<void> {
  if (flags.data === undefined) throw new DstackError('KV_DATA', 'say with --data where the store is to be');
  if ((flags['cert-file'] === undefined) !== (flags['key-file'] === undefined))
    throw new DstackError('KV_CERTIFICATE', '--cert-file and --key-file go together');
  const data = resolve(flags.data);
  const address = addressOf(flags.listen);
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const secret = throwawaySecret(data);
  const { tls, lines } = tlsOf(data, address);
  printError(
    'A store for development: its secret lies beside its data, no machine is attested, and its receipts prove nothing to anyone.',
  );
  const socket = join(data, 'etcd.sock');
  const shares = storeShares();
  const etcd = startEtcdProcess(
    { data, socket, peerPort: await freePort(), quota: shares.database },
    (args) =>
      flags.etcd === undefined
        ? toolCommand('etcd', args, flags.tools)
        : { command: resolve(flags.etcd), args, env: {} },
  );
  const url = `${tls === undefined ? 'http' : 'https'}://${address.host}:${address.port}`;
  const log = pino({ name: 'kv' }, pino.destination({ dest: join(data, 'kv.log'), mkdir: true }));
  const ledgerSettings = {
    folder: join(data, 'ledger'),
    origin: ORIGIN,
    seed: ledgerKey(secret, 1, LOG),
    saltKey: ledgerSaltKey(secret, 1, LOG),
    // There is no chain here.
    now: () => Math.floor(Date.now() / 1000),
    onStop: (why: DstackError) => printFailure('kv', why),
  };
  const running = await Promise.race([
    startStore({
      socket,
      urls: () => [url],
      log,
      shares,
      ledger: (upstream, onRevision) => openLedger(ledgerSettings, upstream, onRevision),
    }),
    etcd.ended.then((said) => {
      throw new DstackError('KV_ETCD_ENDED', 'etcd has ended', {
        details: said.trim().split('\n').slice(-5),
      });
    }),
  ]);
  const door = running.door({ callerOf, ...(tls && { tls }) });
  door.server.listen(address.port, address.host);
  await once(door.server, 'listening');
  print(
    `kv listens at ${url}`,
    ...lines,
    `The ledger's verifier key, for kv receipt and kv audit: ${verifierKey(noteSigner(ORIGIN, ledgerSettings.seed))}`,
  );
  const why = await Promise.race([
    etcd.ended.then(() => 'etcd has ended' as const),
    ...(['SIGINT', 'SIGTERM'] as const).map((signal) => once(process, signal).then(() => undefined)),
  ]);
  await running.close();
  await etcd.stop();
  if (why !== undefined) throw new DstackError('KV_ETCD_ENDED', `${why}; its last words are in ${data}`);
}

try {
  await main();
} catch (error) {
  printFailure('kv', error);
  process.exitCode = 1;
}
// A connection that still lingers is nobody's.
process.exit();
