/** The signer's parts put together: in the VM and outside of it the same. */
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { EtcdClient, tlsFromFiles } from '../../lib/etcd/client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ChainSigner, describeKey, type Surroundings } from './chain-signer.ts';
import type { ChainConfig, SignerConfig } from './config.ts';
import type { ConnectionTimes } from './connection.ts';
import { type ConnectionStatus, Dialler } from './dialler.ts';
import { Election } from './election.ts';
import { identityKey, type SignerSecret, seedFor } from './keys.ts';
import { Metrics } from './metrics.ts';
import { EtcdRecords } from './records.ts';

export interface SignerStatus {
  /** False with a store of one member: whoever has its disk can put an old copy back, and no record is safe from that. */
  readonly rollbackProtected: boolean;
  /** Whether this process is the one that dials. */
  readonly dials: boolean;
  readonly chains: readonly {
    readonly id: string;
    readonly protocol: string;
    readonly publicKey: string;
    readonly address: string;
    /** What the store said last. */
    readonly height?: string;
    readonly round?: number;
    readonly step?: number;
  }[];
  readonly connections: readonly ConnectionStatus[];
  /** Why nothing is signed now. */
  readonly stopped?: { readonly code: string; readonly message: string };
}

export interface DaemonOptions {
  readonly config: SignerConfig;
  readonly secret: SignerSecret;
  readonly log: Log<'info' | 'warn'>;
  /** Throws why nothing may be signed now. */
  readonly gate?: () => void;
  readonly times?: ConnectionTimes;
}

export function openStore({ store }: SignerConfig): { client: EtcdClient; records: EtcdRecords } {
  const { endpoints, ca, certificate, key } = store;
  const files = { ...(certificate !== undefined && { certificate }), ...(key !== undefined && { key }) };
  const tls = ca === undefined ? undefined : tlsFromFiles({ ca, ...files });
  const client = new EtcdClient({ endpoints, ...(tls !== undefined && { tls }) });
  return { client, records: new EtcdRecords(client) };
}

export class SignerDaemon {
  readonly #chains: readonly ChainSigner[];
  readonly #diallers: readonly Dialler[];
  readonly #election: Election;
  readonly #client: EtcdClient;
  readonly #metrics: Metrics;
  readonly #gate: () => void;
  readonly #members: number;

  private constructor(parts: {
    chains: readonly ChainSigner[];
    diallers: readonly Dialler[];
    election: Election;
    client: EtcdClient;
    metrics: Metrics;
    gate: () => void;
    members: number;
  }) {
    this.#chains = parts.chains;
    this.#diallers = parts.diallers;
    this.#election = parts.election;
    this.#client = parts.client;
    this.#metrics = parts.metrics;
    this.#gate = parts.gate;
    this.#members = parts.members;
  }

  /**
   * Reads every key and every record, then dials.
   * @throws HOST_ROLLBACK, KEY_NOT_IMPORTED, KEY_SEALED, SIGN_STATE_MISSING, SIGN_STATE, and the store's errors
   */
  static async start(options: DaemonOptions): Promise<SignerDaemon> {
    const { config, secret, log, gate = () => {} } = options;
    const { client, records } = openStore(config);
    try {
      const members = await records.members();
      requireProtection(members, config.acceptHostRollback, log);
      const metrics = new Metrics();
      const around = { records, metrics, log, gate };
      const chains = await Promise.all(config.chains.map((chain) => openChain(chain, secret, around)));
      const election = new Election(client, log);
      const identity = identityKey(secret);
      const diallers = config.validators.map(
        ({ chainId, address }) =>
          new Dialler({
            address,
            signer: chains.find(({ options: { id } }) => id === chainId)!,
            identity,
            log,
            elected: () => election.elected,
            ...(options.times !== undefined && { times: options.times }),
          }),
      );
      election.start();
      for (const dialler of diallers) dialler.start();
      return new SignerDaemon({ chains, diallers, election, client, metrics, gate, members });
    } catch (error) {
      client.close();
      throw error;
    }
  }

  status(): SignerStatus {
    const stopped = this.#stopped();
    return {
      rollbackProtected: this.#members > 1,
      dials: this.#election.elected,
      chains: this.#chains.map(({ options: { id, protocol, key }, lastSigned: { state } }) => ({
        id,
        protocol,
        ...describeKey(key),
        ...(state !== undefined && { height: state.height.toString(), round: state.round, step: state.step }),
      })),
      connections: this.#diallers.map((dialler) => dialler.status()),
      ...(stopped !== undefined && { stopped }),
    };
  }

  metrics(): string {
    return this.#metrics.text(
      this.#diallers.map((dialler) => {
        const { chain, address, state } = dialler.status();
        return { chain, address, serving: state === 'serving' };
      }),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#diallers.map((dialler) => dialler.stop()));
    await this.#election.stop();
    this.#client.close();
  }

  #stopped(): SignerStatus['stopped'] {
    try {
      this.#gate();
      return undefined;
    } catch (error) {
      if (error instanceof DstackError) return { code: error.code, message: error.message };
      throw error;
    }
  }
}

/** @throws HOST_ROLLBACK */
function requireProtection(members: number, accepted: boolean, log: Log<'info' | 'warn'>): void {
  if (members > 1) return;
  const what =
    'the store has one member: who has its disk can put an old copy back, and the validator would sign twice';
  if (!accepted) {
    throw new DstackError(
      'HOST_ROLLBACK',
      `${what}. Add members, or set accept_host_rollback = true under [store]`,
    );
  }
  log.warn({}, what);
}

async function openChain(
  chain: ChainConfig,
  secret: SignerSecret,
  around: Surroundings,
): Promise<ChainSigner> {
  const { id, protocol, signsBytes } = chain;
  const key = ed25519Key(await seedFor(secret, chain, around.records));
  const signer = new ChainSigner({ id, protocol, signsBytes, key }, around);
  await signer.lastSigned.read();
  return signer;
}
