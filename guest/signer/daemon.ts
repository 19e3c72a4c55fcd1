/** The signer's parts put together: in the VM and outside of it the same. */

import { createSecureContext } from 'node:tls';
import type { ProtocolVersion } from '../../lib/cometbft/consensus.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { type EtcdAccess, EtcdClient } from '../../lib/etcd/client.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ChainSigner, describeKey, type Surroundings } from './chain-signer.ts';
import type { ChainConfig, SignerConfig } from './config.ts';
import type { ConnectionTimes } from './connection.ts';
import { type ConnectionStatus, Dialler } from './dialler.ts';
import { Election } from './election.ts';
import type { ChainKeys, KeySource } from './keys.ts';
import { Metrics } from './metrics.ts';
import { EtcdRecords } from './records.ts';

const MAX_PEM_BYTES = 1024 * 1024;

export interface SignerStatus {
  /** False with a store of one member: whoever has its disk can put an old copy back, and no record is safe from that. */
  readonly rollbackProtected: boolean;
  /** Whether this process is the one that dials. */
  readonly dials: boolean;
  readonly chains: readonly {
    readonly id: string;
    readonly protocol: ProtocolVersion;
    readonly publicKey: string;
    readonly address: string;
    /** What the store said last. */
    readonly height?: string;
    readonly round?: number;
    readonly step?: number;
    /** Since the start. */
    readonly signatures: number;
    readonly refusals: number;
  }[];
  readonly connections: readonly ConnectionStatus[];
  /** Why nothing is signed now. */
  readonly stopped?: { readonly code: string; readonly message: string };
}

export interface OpenStore {
  readonly client: EtcdClient;
  readonly records: EtcdRecords;
}

export interface DaemonOptions {
  readonly config: Pick<SignerConfig, 'acceptHostRollback' | 'chains' | 'validators'>;
  /** Closed with the daemon, and when it does not start. */
  readonly store: OpenStore;
  readonly keys: KeySource;
  /** Called with each chain and its public key before the record of it is read. */
  readonly prepare?: (chain: ChainConfig, publicKey: Uint8Array) => Promise<void>;
  readonly log: Log<'info' | 'warn'>;
  /** Throws why nothing may be signed now. */
  readonly gate?: () => void;
  readonly times?: ConnectionTimes;
  /** Its name among those of the signers that share the store; by default this machine's. */
  readonly machine?: string;
}

/** @throws SIGNER_CONFIG for certificates that are none, FILE_KIND, FILE_TOO_LARGE, and the file system's errors */
export function openStore({ store }: SignerConfig): OpenStore {
  const tls = tlsOf(store);
  const client = new EtcdClient({ endpoints: store.endpoints, ...(tls !== undefined && { tls }) });
  return { client, records: new EtcdRecords(client) };
}

function tlsOf({ ca: caFile, certificate, key }: SignerConfig['store']): EtcdAccess['tls'] {
  if (caFile === undefined) return undefined;
  const read = (file: string): string => readBounded(file, { maxBytes: MAX_PEM_BYTES }).toString();
  const ca = read(caFile);
  const own =
    certificate === undefined || key === undefined ? {} : { certificate: read(certificate), key: read(key) };
  // Node would take it, and trust nobody.
  if (!ca.includes('-----BEGIN CERTIFICATE-----'))
    throw new DstackError('SIGNER_CONFIG', `store.ca: ${caFile} holds no certificate in PEM`);
  try {
    createSecureContext({ ca, cert: own.certificate, key: own.key });
  } catch (cause) {
    const why = (cause as Error).message;
    throw new DstackError('SIGNER_CONFIG', `store.ca, certificate and key: they cannot be used: ${why}`, {
      cause,
    });
  }
  return { ca, ...own };
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
   * @throws HOST_ROLLBACK, SIGN_STATE_MISSING, SIGN_STATE, what `keys` and `prepare` throw, and the store's errors
   */
  static async start(options: DaemonOptions): Promise<SignerDaemon> {
    const { config, store, log, gate = () => {} } = options;
    const { client, records } = store;
    try {
      const members = await records.members();
      requireProtection(members, config.acceptHostRollback, log);
      const metrics = new Metrics();
      const around = { records, metrics, log, gate };
      const opened = await Promise.all(
        config.chains.map(async (chain) => {
          const keys = await options.keys(chain);
          await options.prepare?.(chain, keys.key.publicKey);
          return openChain(chain, keys, around);
        }),
      );
      const chains = opened.map(({ signer }) => signer);
      const election = new Election(
        client,
        log,
        chains.map(({ lastSigned }) => lastSigned.key),
        options.machine,
      );
      const diallers = config.validators.map(
        ({ chainId, address }) =>
          new Dialler({
            address,
            ...opened.find(({ signer }) => signer.options.id === chainId)!,
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
        ...this.#metrics.totals(id),
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
      `${what}. Add members, or accept it: accept_host_rollback = true under [store], in a manifest "acceptHostRollback": true`,
    );
  }
  log.warn({}, what);
}

async function openChain(
  { id, protocol, signsBytes }: ChainConfig,
  { key, identity }: ChainKeys,
  around: Surroundings,
): Promise<{ signer: ChainSigner; identity: ChainKeys['identity'] }> {
  const signer = new ChainSigner({ id, protocol, signsBytes, key }, around);
  await signer.lastSigned.read();
  return { signer, identity };
}
