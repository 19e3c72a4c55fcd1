/** `signer start --dev` and `signer status`. */

import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { pino } from 'pino';
import { type Static, Type } from 'typebox';
import { recordKey } from '../../guest/signer/chain-signer.ts';
import { placeOf, type SignerConfig } from '../../guest/signer/config.ts';
import { openStore, SignerDaemon } from '../../guest/signer/daemon.ts';
import { keysOf, networkSeed, type SignerSecret } from '../../guest/signer/keys.ts';
import { serveStatus } from '../../guest/signer/status-server.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { answerTo } from '../../lib/daemon/http-answer.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { logLines, print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { RpcError } from '../../lib/etcd/errors.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { type Command, UsageError } from '../command.ts';
import { atStore, configFrom, configOption, secretFrom, unavailable } from './desk.ts';

const MAX_STATUS = 1024 * 1024;

export const startCommand: Command = {
  name: 'signer start',
  summary: 'runs the signer outside of a VM, for tests: its secret is in a file or lasts as long as it runs',
  options: {
    ...configOption,
    dev: { help: 'says that this is a test: whoever has this machine has the keys' },
    secret: {
      value: 'FILE',
      help: 'the secret, as init makes it; without it a new one, which ends with the process',
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
    const kept = file === undefined ? undefined : secretFrom(file);
    const log = pino({ name: 'signer' }, logLines);
    let daemon: SignerDaemon | undefined;
    const server =
      config.statusListen === undefined ? undefined : await serveStatus(config.statusListen, () => daemon);
    try {
      const secret = kept ?? (await throwaway(config));
      const store = openStore(config);
      daemon = await SignerDaemon.start({ config, store, keys: keysOf(secret, store.records), log });
    } catch (error) {
      server?.close();
      throw error instanceof RpcError ? unavailable(config, error) : error;
    }
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
  const imported = config.chains.find(({ key }) => key === 'imported');
  if (imported !== undefined) {
    throw new UsageError(
      `chain ${imported.id} has an imported key, which needs the secret that sealed it: --secret`,
    );
  }
  await atStore(config, async ({ records }) => {
    for (const { id } of config.chains) {
      const { publicKey } = ed25519Key(networkSeed(secret, id));
      await records.swap(recordKey(id, publicKey), undefined, encodeState(NOTHING_SIGNED));
    }
  });
  return secret;
}

export const statusCommand: Command = {
  name: 'signer status',
  summary: 'shows what a running signer says of itself; exits 1 when a chain is not served',
  options: { ...configOption, json: { help: 'prints one JSON object' } },
  async run(args) {
    const { statusListen } = configFrom(args);
    if (statusListen === undefined) throw new UsageError('the configuration has no [status] listen');
    const status = statusIn(await fetchText(statusListen), statusListen);
    if (args.flag('json')) printJson(status);
    else print(...linesOf(status));
    const served = (id: string): boolean =>
      status.connections.some(({ chain, state, quiet }) => chain === id && state === 'serving' && !quiet);
    if (status.stopped !== undefined || !status.chains.every(({ id }) => served(id))) process.exitCode = 1;
  },
};

/** As far as it is shown. */
const Shown = Type.Object({
  rollbackProtected: Type.Boolean(),
  dials: Type.Boolean(),
  stopped: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  chains: Type.Array(
    Type.Object({
      ...{ id: Type.String(), protocol: Type.String(), address: Type.String() },
      ...{ height: Type.Optional(Type.String()), round: Type.Optional(Type.Number()) },
      step: Type.Optional(Type.Number()),
    }),
  ),
  connections: Type.Array(
    Type.Object({
      ...{ chain: Type.String(), address: Type.String(), state: Type.String() },
      ...{ seconds: Type.Number(), quiet: Type.Boolean(), asked: Type.Record(Type.String(), Type.Number()) },
      problem: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
    }),
  ),
});

/** @throws SIGNER_AWAY for what is no signer's */
function statusIn(text: string, listen: string): Static<typeof Shown> {
  const what = `what answers at ${listen}, which should be a signer,`;
  return parseJson(Shown, text, 'SIGNER_AWAY', what, MAX_STATUS);
}

function linesOf(status: Static<typeof Shown>): string[] {
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
    const answer = await answerTo(call);
    if (answer.statusCode === 503) throw new Error('the signer there is starting');
    const chunks: Buffer[] = [];
    for await (const chunk of answer as AsyncIterable<Buffer>) {
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
