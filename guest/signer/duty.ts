/**
 * What the node's signer does: it follows the order that the contract gives by the manifest in force. It signs while there is one that names
 * this node's disk, begins anew when it is another one, and says why where it does not sign.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { RpcError } from '../../lib/etcd/errors.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Validators } from '../../lib/protocol/network-config.ts';
import { CONTRACT_UNREAD, type SignerProblem, type SignerStatus } from '../../lib/protocol/signer-status.ts';
import type { SignerOrder } from '../../lib/protocol/sockets.ts';
import type { SignerConfig } from './config.ts';
import type { ConnectionTimes } from './connection.ts';
import { type OpenStore, SignerDaemon } from './daemon.ts';
import { Gate } from './gate.ts';
import type { Siblings } from './siblings.ts';
import { keysInVm, raiseRecord } from './vm-keys.ts';

/** Between two tries to begin. Milliseconds. */
const AGAIN_AFTER = 2_000;

export interface DutyOptions {
  readonly siblings: Siblings;
  readonly openStore: () => OpenStore;
  /** Where the host says that validators are. */
  readonly validators: Validators;
  readonly log: Log<'info' | 'warn'>;
  readonly times?: ConnectionTimes;
}

export class Duty {
  readonly #options: DutyOptions;
  readonly #gate = new Gate();
  #order: SignerOrder | undefined;
  #daemon: SignerDaemon | undefined;
  #beginning: Promise<void> | undefined;
  #problem: SignerProblem | undefined;
  #disk: SignerStatus['disk'];
  #notBefore = 0;
  #untold = false;

  constructor(options: DutyOptions) {
    this.#options = options;
  }

  /** Asks for the order and moves towards it. Nothing is thrown, and nothing has to be waited for but the end of what was ordered before. */
  async step(): Promise<void> {
    const { siblings, log } = this.#options;
    try {
      const { order, stopped } = await siblings.order();
      this.#gate.tell(stopped);
      this.#untold = false;
      // A daemon that was started again takes nothing back before it has read the contract. Meanwhile nothing is signed, and the connections
      // stay: a node that loses one misses rounds.
      if (stopped?.code !== CONTRACT_UNREAD && order?.manifest !== this.#order?.manifest)
        await this.#follow(order);
    } catch (error) {
      // What was heard before counts for a while: the gate sees to that.
      if (!this.#untold)
        log.warn({ code: codeOf(error) }, `no order can be had: ${(error as Error).message}`);
      this.#untold = true;
    }
    this.#begin();
  }

  /** Resolves when nothing is signed any more. */
  async stop(): Promise<void> {
    await this.#take(undefined);
  }

  status(): SignerStatus {
    const stopped = this.#problem ?? this.#gate.stopped();
    const shared = {
      ...(this.#order !== undefined && { app: this.#order.app, manifest: this.#order.manifest }),
      ...(this.#disk !== undefined && { disk: this.#disk }),
      ...(stopped !== undefined && { stopped: shown(stopped) }),
    };
    if (this.#daemon === undefined) return { ...shared, dials: false, chains: [], connections: [] };
    const { rollbackProtected, dials, chains, connections } = this.#daemon.status();
    return {
      ...shared,
      rollbackProtected,
      dials,
      chains: [...chains],
      connections: connections.map(({ asked, peer: _, problem, ...connection }) => ({
        ...connection,
        requests: Object.values(asked).reduce((sum, count) => sum + count, 0),
        ...(problem !== undefined && { problem: shown(problem) }),
      })),
    };
  }

  /** A manifest that changes nothing for the signer, such as one with another container, costs no connection. */
  async #follow(order: SignerOrder | undefined): Promise<void> {
    if (order !== undefined && this.#order !== undefined && isTheSame(order, this.#order))
      this.#order = order;
    else await this.#take(order);
  }

  /** Ends what was ordered before. */
  async #take(order: SignerOrder | undefined): Promise<void> {
    this.#order = order;
    await this.#beginning;
    const daemon = this.#daemon;
    this.#daemon = undefined;
    this.#problem = undefined;
    this.#notBefore = 0;
    await daemon?.stop();
    const { log } = this.#options;
    if (order === undefined) log.info({}, 'there is nothing to sign');
    else log.info({ app: order.app, manifest: order.manifest }, 'ordered to sign');
  }

  /** Beside everything else: while a store is waited for, the order may change. */
  #begin(): void {
    const order = this.#order;
    if (order === undefined || this.#daemon !== undefined || this.#beginning !== undefined) return;
    if (performance.now() < this.#notBefore) return;
    this.#beginning = this.#start(order).then(
      () => this.#ended(undefined),
      (error: unknown) => this.#ended(error),
    );
  }

  #ended(error: unknown): void {
    this.#beginning = undefined;
    this.#notBefore = performance.now() + AGAIN_AFTER;
    const code = error === undefined ? undefined : codeOf(error);
    if (code !== undefined && code !== this.#problem?.code)
      this.#options.log.warn({ code, err: error }, 'nothing is signed');
    this.#problem = code === undefined ? undefined : { code, message: (error as Error).message };
  }

  /** @throws SIGNER_DISK, STORE_UNAVAILABLE, and as `SignerDaemon.start` */
  async #start(order: SignerOrder): Promise<void> {
    const { siblings, openStore, validators, log, times } = this.#options;
    const { signer } = order;
    await this.#requireDisk(signer.disk);
    const store = openStore();
    const starting = SignerDaemon.start({
      config: configOf(order, validators),
      store,
      keys: keysInVm(order, siblings, store.records),
      prepare: ({ id }, publicKey) =>
        raiseRecord(store.records, signer.chains.find((chain) => chain.id === id)!, publicKey),
      log,
      gate: this.#gate.check,
      // All VMs have one host name.
      machine: signer.disk,
      ...(times !== undefined && { times }),
    });
    const daemon = await starting.catch((error: unknown) => {
      throw error instanceof RpcError ? noStore(error) : error;
    });
    this.#daemon = daemon;
    for (const { id, protocol, publicKey, address } of daemon.status().chains)
      log.info({ chain: id, protocol, publicKey, address }, 'signs');
  }

  /** Another node's signer, with records of its own, would sign what this one did. @throws SIGNER_DISK */
  async #requireDisk(wanted: string): Promise<void> {
    const { state, diskId, code } = await this.#options.siblings.disk();
    if (state === 'ready' && diskId !== undefined) this.#disk = diskId;
    if (this.#disk === wanted) return;
    const own = this.#disk === undefined ? `which is ${code ?? state}` : `which is ${this.#disk}`;
    throw new DstackError(
      'SIGNER_DISK',
      `the manifest wants the signer on the data disk ${wanted}, and not on this node's, ${own}`,
    );
  }
}

/** Manifests are canonical JSON, so equal parts have equal text. Under the name of a secret there may be another one. */
function isTheSame(one: SignerOrder, other: SignerOrder): boolean {
  return (
    one.app === other.app &&
    JSON.stringify(one.signer) === JSON.stringify(other.signer) &&
    one.signer.chains.every(({ key }) => key === 'derived')
  );
}

function noStore(cause: RpcError): DstackError {
  return new DstackError(
    'STORE_UNAVAILABLE',
    `the store of this node does not answer, which it has where network.json has a store and the VM a data disk: ${cause.message}`,
    { cause },
  );
}

/** The configuration as the signer outside of a VM has it. */
function configOf(
  { signer }: SignerOrder,
  validators: Validators,
): Pick<SignerConfig, 'acceptHostRollback' | 'chains' | 'validators'> {
  const chains = signer.chains.map(({ id, protocol, key, signBytes = false }) => ({
    id,
    protocol,
    key: key === 'derived' ? ('network' as const) : ('imported' as const),
    signsBytes: signBytes,
    bech32Prefix: '',
  }));
  return {
    acceptHostRollback: signer.acceptHostRollback ?? false,
    chains,
    validators: validators
      .filter(({ chain }) => chains.some(({ id }) => id === chain))
      .map(({ chain: chainId, address: host, port }) => ({
        chainId,
        address: { kind: 'tcp', text: `tcp://${host}:${port}`, host, port },
      })),
  };
}

const shown = ({ code, message }: SignerProblem): SignerProblem => ({ code, message: message.slice(0, 500) });
