/**
 * Keeps one connection to a validator or sentry: dials, serves, and dials again. It never closes one that might be asked yet: a node of
 * 0.38 takes the next connection only when its next ping finds the last one gone.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ed25519Key } from '../../lib/cometbft/ed25519.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { CONNECTION_STATES } from '../../lib/protocol/signer-status.ts';
import type { ChainSigner } from './chain-signer.ts';
import type { ValidatorAddress } from './config.ts';
import { type ConnectionTimes, serveConnection, TIMES } from './connection.ts';

/** Pauses between two tries, milliseconds: doubled from the first to the last. */
const FIRST_PAUSE = 50;
const LAST_PAUSE = 800;
const CONNECT_WITHIN = 3_000;
/** After which a node that is connected and says nothing is shown as such. Milliseconds. */
const QUIET_AFTER = 10_000;

export type ConnectionState = (typeof CONNECTION_STATES)[number];

export interface ConnectionStatus {
  readonly chain: string;
  readonly address: string;
  readonly state: ConnectionState;
  /** Seconds in this state. */
  readonly seconds: number;
  /** Connected and silent for 10 s: a sentry that is connected but never asks, or a node that has another signer. */
  readonly quiet: boolean;
  /** Requests of this connection, by kind. */
  readonly asked: Readonly<Record<string, number>>;
  readonly peer?: string;
  /** Why the last connection ended, or could not be made. */
  readonly problem?: { readonly code: string; readonly message: string };
}

export interface DiallerOptions {
  readonly address: ValidatorAddress;
  readonly signer: ChainSigner;
  readonly identity: Ed25519Key;
  readonly log: Log<'info' | 'warn'>;
  /** Whether this process is the one that dials. */
  readonly elected: () => boolean;
  readonly times?: ConnectionTimes;
}

export class Dialler {
  readonly #options: DiallerOptions;
  readonly #stop = new AbortController();
  #socket: Socket | undefined;
  #state: ConnectionState = 'dialling';
  #since = performance.now();
  #asked: Record<string, number> = {};
  #lastAsked = performance.now();
  #peer: string | undefined;
  #problem: ConnectionStatus['problem'];
  #connections = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: DiallerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#socket?.destroy();
    await this.#running;
  }

  status(): ConnectionStatus {
    const now = performance.now();
    const isOpen = this.#state === 'connected' || this.#state === 'serving';
    return {
      chain: this.#options.signer.options.id,
      address: this.#options.address.text,
      state: this.#state,
      seconds: Math.floor((now - this.#since) / 1000),
      quiet: isOpen && now - this.#lastAsked > QUIET_AFTER,
      asked: this.#asked,
      ...(this.#peer !== undefined && { peer: this.#peer }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
    };
  }

  async #run(): Promise<void> {
    let pause = FIRST_PAUSE;
    while (!this.#stop.signal.aborted) {
      if (!this.#options.elected()) {
        this.#enter('standby');
        await this.#wait(LAST_PAUSE);
        continue;
      }
      const served = await this.#once();
      // One that is queued has waited its time already.
      pause =
        served || this.#problem?.code === 'CONNECTION_QUEUED' ? FIRST_PAUSE : Math.min(2 * pause, LAST_PAUSE);
      if (!this.#stop.signal.aborted) await this.#wait(pause);
    }
  }

  /** One connection. True if a node asked something. */
  async #once(): Promise<boolean> {
    const { address, signer, identity, log, times = TIMES } = this.#options;
    const fields = { chain: signer.options.id, address: address.text };
    this.#asked = {};
    this.#peer = undefined;
    try {
      // One that waits in the queue of a node stays `queued` while it is dialled again.
      if (this.#state !== 'queued') this.#enter('dialling');
      this.#socket = await dial(address, this.#stop.signal);
      this.#lastAsked = performance.now();
      if (address.kind === 'unix') this.#enter('connected');
      else if (this.#state !== 'queued') this.#enter('handshake');
      await serveConnection(this.#socket, {
        signer,
        identity: address.kind === 'unix' ? undefined : identity,
        times,
        name: `${address.text}#${++this.#connections}`,
        events: {
          heard: () => {
            if (this.#state === 'queued') this.#enter('handshake');
          },
          authenticated: ({ id }) => this.#authenticated(id, log, fields),
          asked: (kind) => this.#count(kind, log, fields),
        },
      });
      this.#end(new DstackError('CONNECTION_ENDED', 'the node closed the connection'), log, fields);
    } catch (error) {
      this.#end(error, log, fields);
    }
    return Object.keys(this.#asked).length > 0;
  }

  #authenticated(id: string, log: Log<'info' | 'warn'>, fields: object): void {
    const { nodeId } = this.#options.address;
    if (nodeId !== undefined && nodeId !== id) {
      throw new DstackError('NODE_ID', `the node is ${id}, and ${nodeId} was expected`);
    }
    this.#peer = id;
    this.#enter('connected');
    log.info({ ...fields, peer: id }, 'connected');
  }

  #count(kind: string, log: Log<'info' | 'warn'>, fields: object): void {
    this.#asked[kind] = (this.#asked[kind] ?? 0) + 1;
    this.#lastAsked = performance.now();
    this.#problem = undefined;
    if (this.#state === 'serving') return;
    this.#enter('serving');
    log.info(fields, 'the node asks');
  }

  #end(error: unknown, log: Log<'info' | 'warn'>, fields: object): void {
    if (this.#stop.signal.aborted) return;
    const code =
      error instanceof DstackError ? error.code : ((error as NodeJS.ErrnoException).code ?? 'INTERNAL');
    const message = error instanceof Error ? error.message : String(error);
    // Said once, however often it is tried.
    if (this.#problem?.code !== code) log.warn({ ...fields, code }, `no connection: ${message}`);
    this.#problem = { code, message: message.slice(0, 300) };
    if (codeOf(error) === 'CONNECTION_QUEUED') this.#enter('queued');
    else if (this.#state !== 'dialling') this.#enter('dialling');
  }

  #enter(state: ConnectionState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#since = performance.now();
  }

  async #wait(milliseconds: number): Promise<void> {
    const spread = milliseconds * (0.75 + Math.random() / 4);
    await sleep(spread, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}

async function dial(address: ValidatorAddress, stop: AbortSignal): Promise<Socket> {
  const socket = address.kind === 'unix' ? connect(address.path) : connect(address.port, address.host);
  try {
    await once(socket, 'connect', { signal: AbortSignal.any([stop, AbortSignal.timeout(CONNECT_WITHIN)]) });
  } catch (error) {
    socket.destroy();
    throw (error as Error).name === 'AbortError'
      ? new DstackError('CONNECT_TIMEOUT', `${address.text} does not take a connection`)
      : error;
  }
  // What happens later is thrown where it is read.
  socket.on('error', () => {});
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 5_000);
  return socket;
}
