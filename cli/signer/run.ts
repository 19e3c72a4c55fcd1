/** `signer start --dev` and `signer status`. */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { pino } from 'pino';
import { recordKey } from '../../guest/signer/chain-signer.ts';
import type { SignerConfig } from '../../guest/signer/config.ts';
import { openStore, SignerDaemon } from '../../guest/signer/daemon.ts';
import { keysOf, networkSeed, type SignerSecret } from '../../guest/signer/keys.ts';
import { placeOf, serveStatus } from '../../guest/signer/status-server.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { logLines, print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Command, UsageError } from '../command.ts';
import { configFrom, configOption, secretIn } from './desk.ts';

const MAX_STATUS = 1024 * 1024;

export const startCommand: Command = {
  name: 'signer start',
  summary: 'runs the signer outside of a VM, for tests: its secret is in a file or lasts as long as it runs',
  options: {
    ...configOption,
    dev: { help: 'says that this is a test: whoever has this machine has the keys' },
    secret: {
      value: 'FILE',
      help: 'keeps the secret in a file, made if it is not there',
      env: 'DSTACK_SIGNER_SECRET',
    },
  },
  async run(args) {
    if (!args.flag('dev'))
      throw new UsageError('the signer runs in a VM; outside of one it is a test: --dev');
    const config = configFrom(args);
    const file = args.optional('secret');
    printError(
      'WARNING: this signer is not in a VM. Whoever has this machine has its keys, and no validator of value may use it.',
      file === undefined
        ? 'WARNING: its secret is made now and ends with it: so do the keys that are derived from it.'
        : `WARNING: its secret is in ${file}.`,
    );
    const secret = file === undefined ? await throwaway(config) : secretIn(file);
    const log = pino({ name: 'signer' }, logLines);
    const store = openStore(config);
    const keys = keysOf(secret, store.records);
    const daemon = await SignerDaemon.start({ config, store, keys, log });
    const server =
      config.statusListen === undefined ? undefined : await serveStatus(config.statusListen, daemon);
    for (const { id, protocol, publicKey, address } of daemon.status().chains) {
      log.info({ chain: id, protocol, publicKey, address }, 'signs');
    }
    await stopSignal();
    server?.closeAllConnections();
    server?.close();
    await daemon.stop();
  },
};

/** Keys of a new secret never signed anything: they need no record from elsewhere. */
async function throwaway(config: SignerConfig): Promise<SignerSecret> {
  const secret = { secret: new Uint8Array(randomBytes(32)), epoch: 0 };
  const { client, records } = openStore(config);
  try {
    for (const { id, key } of config.chains) {
      if (key === 'imported') {
        throw new UsageError(
          `chain ${id} has an imported key, which needs the secret that sealed it: --secret`,
        );
      }
      const { publicKey } = ed25519Key(networkSeed(secret, id));
      await records.swap(recordKey(id, publicKey), 0n, encodeState(NOTHING_SIGNED));
    }
    return secret;
  } finally {
    client.close();
  }
}

export const statusCommand: Command = {
  name: 'signer status',
  summary: 'shows what a running signer says of itself; exits 1 when a chain is not served',
  options: { ...configOption, json: { help: 'prints one JSON object' } },
  async run(args) {
    const { statusListen } = configFrom(args);
    if (statusListen === undefined) throw new UsageError('the configuration has no [status] listen');
    const status = JSON.parse(await fetchText(statusListen)) as ReturnType<SignerDaemon['status']>;
    if (args.flag('json')) printJson(status);
    else print(...linesOf(status));
    const served = (id: string): boolean =>
      status.connections.some(({ chain, state, quiet }) => chain === id && state === 'serving' && !quiet);
    if (status.stopped !== undefined || !status.chains.every(({ id }) => served(id))) process.exitCode = 1;
  },
};

function linesOf(status: ReturnType<SignerDaemon['status']>): string[] {
  const { rollbackProtected, dials, stopped, chains, connections } = status;
  return [
    rollbackProtected
      ? 'store      several members'
      : 'store      ONE MEMBER: an old copy of its disk makes the validator sign twice',
    `dials      ${dials ? 'yes' : 'no: another signer does'}`,
    ...(stopped === undefined ? [] : [`STOPPED    ${stopped.code}: ${stopped.message}`]),
    ...chains.map(
      ({ id, protocol, address, height = '?', round = '?', step = '?' }) =>
        `chain      ${id} (${protocol}) ${address}: height ${height}, round ${round}, step ${step}`,
    ),
    ...connections.map(({ address, state, seconds, quiet, asked, problem }) => {
      const requests = Object.values(asked).reduce((sum, count) => sum + count, 0);
      const silent = quiet ? ', asks nothing' : '';
      const why = problem === undefined ? '' : ` (${problem.code}: ${problem.message})`;
      return `connection ${address}: ${state} for ${seconds} s${silent}, ${requests} requests${why}`;
    }),
  ];
}

/** @throws SIGNER_AWAY */
async function fetchText(listen: string): Promise<string> {
  const place = placeOf(listen);
  const target = 'path' in place ? { socketPath: place.path } : place;
  try {
    const call = request({ ...target, path: '/v1/status', signal: AbortSignal.timeout(5_000) });
    call.end();
    const [answer] = (await once(call, 'response')) as [AsyncIterable<Buffer>];
    const chunks: Buffer[] = [];
    for await (const chunk of answer) {
      chunks.push(chunk);
      if (chunks.reduce((sum, { length }) => sum + length, 0) > MAX_STATUS)
        throw new Error('the answer is too long');
    }
    return Buffer.concat(chunks).toString('utf8');
  } catch (cause) {
    throw new DstackError('SIGNER_AWAY', `no signer answers at ${listen}: ${(cause as Error).message}`, {
      cause,
    });
  }
}
