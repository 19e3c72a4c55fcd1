/**
 * The store on a laptop: what `npx dstack kv start --dev` runs. The parts are those of a VM; the secret is made on the spot and lies on the
 * disk in the clear, so nothing that it proves or protects is worth anything.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { print, printError, printFailure } from '../../../lib/daemon/terminal.ts';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { verifierKey } from '../../../lib/ledger/note.ts';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { type StoreShares, storeShares } from '../../../lib/protocol/store-shares.ts';
import { openLedger } from '../open-ledger.ts';
import { startStore } from '../start.ts';
import type { Caller } from '../types.ts';
import { devCertificates, namesOf, serviceTls } from './certificates.ts';
import { lockData, openData } from './data-folder.ts';
import { type EtcdProcess, startEtcdProcess } from './etcd-process.ts';
import { lockSigners } from './lock-signers.ts';
import { ledgerOf, readName, signerOf } from './log.ts';
import { type Address, type StartOptions, startOptions, urlOf } from './options.ts';

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

function tlsOf({ data, address, plain, certificate }: StartOptions): { tls?: TlsOptions; lines: string[] } {
  if (plain) return { lines: ['No TLS: whoever reaches the port is the owner.'] };
  const made = devCertificates(join(data, 'certs'), namesOf(address.host));
  return {
    tls: serviceTls(certificate ?? made.service, made.authority),
    lines: [
      `A client trusts ${made.authority}`,
      `and shows ${made.user.certificate} with ${made.user.key}; scripts/etcdctl.sh does.`,
    ],
  };
}

const LISTEN_REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there',
  EADDRNOTAVAIL: 'it is no address of this machine',
  EACCES: 'ports below 1024 are for root',
  ENOTFOUND: 'nobody knows that name',
};

/** @throws KV_LISTEN */
async function listening(server: Server, { host, port }: Address): Promise<AddressInfo> {
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw new DstackError(
      'KV_LISTEN',
      `cannot listen at ${host}, port ${port}: ${LISTEN_REASONS[code] ?? message}; --listen chooses another address`,
    );
  }
  return server.address() as AddressInfo;
}

/** A port that was free a moment ago. */
async function portThatIsFree(address: Address): Promise<number> {
  const server = createServer();
  const { port } = await listening(server, address);
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

/** Exits with 2 for what was typed wrong, as every command does. */
function typedOptions(): StartOptions {
  try {
    return startOptions(flags);
  } catch (error) {
    printFailure('kv', error);
    process.exit(2);
  }
}

async function main(): Promise<void> {
  // Before anything is made, and for good: a second Ctrl-C must not end this while etcd is being ended.
  const told = new Promise<undefined>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => resolve(undefined));
  });
  const options = typedOptions();
  const port = await portThatIsFree(options.address);
  const { secret } = openData(options.data);
  await lockData(options.data);
  const transport = tlsOf(options);
  printError(
    'A store for development: its secret lies beside its data, no machine is attested, and its receipts prove nothing to anyone.',
  );
  const { data, socket } = options;
  const peerPort = await portThatIsFree({ host: '127.0.0.1', port: 0 });
  const shares = storeShares();
  const etcd = startEtcdProcess({ data, socket, peerPort, quota: shares.database }, (args) =>
    options.etcd === undefined
      ? toolCommand('etcd', args, flags.tools)
      : { command: options.etcd, args, env: {} },
  );
  try {
    await run(
      { ...options, address: { ...options.address, port } },
      { secret, transport, etcd, shares, told },
    );
  } finally {
    await etcd.stop();
  }
}

interface Parts {
  readonly secret: Uint8Array;
  readonly transport: ReturnType<typeof tlsOf>;
  readonly etcd: EtcdProcess;
  readonly shares: StoreShares;
  /** Resolves when it is to end. */
  readonly told: Promise<undefined>;
}

/** Until it is told to end. @throws KV_ETCD_ENDED, KV_LISTEN, LEDGER_* */
async function run(
  { data, socket, address }: StartOptions,
  { secret, transport, etcd, shares, told }: Parts,
): Promise<void> {
  const url = urlOf(transport.tls === undefined ? 'http' : 'https', address);
  // Opened at once: an end before it is open would be a crash.
  const log = pino({ name: 'kv' }, pino.destination({ dest: join(data, 'kv.log'), sync: true }));
  const name = readName(data);
  const ledgerSettings = {
    ...ledgerOf(data, secret, name),
    onStop: (why: DstackError) => printFailure('kv', why),
  };
  const ended = etcd.ended.then((said) => {
    throw new DstackError('KV_ETCD_ENDED', 'etcd has ended; the last that it said, if anything:', {
      details: said
        .split('\n')
        .filter((line) => line.trim() !== '')
        .slice(-5),
    });
  });
  const started = startStore({
    socket,
    folder: data,
    urls: () => [url],
    log,
    shares,
    ledger: (upstream, onRevision) => openLedger(ledgerSettings, upstream, onRevision),
  });
  const running = await Promise.race([started, ended, told]);
  if (running === undefined) return;
  try {
    const locked = name.earlier.length === 0 ? 0 : await lockSigners(running.upstream, data, name.log);
    if (locked > 0)
      printError(
        `This store was restored: ${locked} records of what keys signed are locked (STORE_RESTORED) until \`dstack signer state import --state priv_validator_state.json\` says what their nodes signed last.`,
      );
    const { tls, lines } = transport;
    const door = running.door({ callerOf, ...(tls && { tls }) });
    await listening(door.server, address);
    print(
      `kv listens at ${url}`,
      ...lines,
      `The ledger's verifier key, for kv receipt and kv audit: ${verifierKey(signerOf(secret, name))}`,
    );
    await Promise.race([ended, told]);
  } finally {
    await running.close();
  }
}

try {
  await main();
} catch (error) {
  printFailure('kv', error);
  process.exitCode = 1;
}
// A connection that still lingers is nobody's.
process.exit();
