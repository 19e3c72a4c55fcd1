/**
 * Brings one VM into a running network and keeps it there: `joinNetwork` is the whole story. VM and relay share the process, so
 * that what one waits for can be explained with what the other knows.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { type Relay, runRelay } from '../../host/relay/main.ts';
import type { RelaySettings, VmSettings } from '../../host/relay/settings.ts';
import { consoleTail, type Vm, type VmOptions } from '../../host/vm/vm.ts';
import { DstackError, Retryable } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { NodeStatus } from '../../lib/protocol/onboarding-messages.ts';
import { writeHints } from '../host-hints.ts';
import { ContractView, type NodeClaims } from './contract.ts';
import { type HostFacts, hostFacts } from './host.ts';
import { type Narrator, narrator, type Reason } from './narrator.ts';
import { findNetworkFile, type NetworkFile, placeNetworkFile } from './network-file.ts';
import {
  blockers,
  fundsReasons,
  peerReasons,
  permissionReasons,
  progress,
  type RequestFacts,
} from './reasons.ts';

/** What a join needs of `startVm`; tests pass one that starts daemons instead. */
export type StartVm = (
  options: VmOptions,
) => Promise<Pick<Vm, 'platformId' | 'accelerator' | 'consoleLog' | 'exited' | 'stop'>>;

export interface JoinSettings {
  readonly relay: RelaySettings;
  readonly vm: VmSettings;
  /** Where network.json comes from; undefined: the volume, else a gossip peer. */
  readonly networkJson?: string;
  /** Let the VM format a blank data disk. */
  readonly createDisk: boolean;
  /** Return once the node has joined. */
  readonly onceJoined: boolean;
  /** For a production image: tables.json of this host's machine. */
  readonly tables?: string;
}

export interface JoinDependencies {
  readonly startVm: StartVm;
  /** Aborted when the operator stops the command. */
  readonly stop: AbortSignal;
  readonly print: (line: string) => void;
}

/** While nothing runs yet, the chain is asked this many times less often than the relay polls it. */
const CHECK_FACTOR = 5;
/** Permissions may be revoked while a request waits, so they are read again every this many rounds. */
const PERMISSIONS_EVERY = 5;

/**
 * Resolves after the node has joined: at once with `onceJoined`, else when the operator stops it. It always stops VM and relay
 * before it settles.
 * @throws INTERRUPTED when stopped before the node had joined; VM_ENDED, NODE_FAILED; NETWORK_MISSING, RPC_WRONG_CHAIN;
 *   the codes of hostFacts, findNetworkFile, runRelay and startVm
 */
export async function joinNetwork(settings: JoinSettings, dependencies: JoinDependencies): Promise<void> {
  const tell = narrator(dependencies.print);
  const contract = new ContractView(settings.relay);
  const waiting = new Waiting(settings.relay, tell, dependencies.stop);

  const host = await hostFacts({
    ...settings.vm,
    gasKeyFile: settings.relay.gasKeyFile,
    ...(settings.tables === undefined ? {} : { tables: settings.tables }),
  });
  describe(host, settings, tell);
  await waiting.until(async () => ({ done: await contract.network() }));
  const file = await waiting.until(() => networkFile(settings, host, contract));
  const path = await placeNetworkFile(settings.vm.hostVolume, file);
  tell.say(`${path} is config ${file.config}${file.origin === path ? '' : `, from ${file.origin}`}.`);

  const identity: NodeClaims = { ...host, config: file.config };
  await waiting.until(() => readiness(contract, identity, host));

  const logFile = join(settings.relay.stateDir, 'relay.log');
  const relay = await runRelay(
    { ...settings.relay, nodeUrl: `http://127.0.0.1:${settings.vm.ports.replicator}` },
    pino.destination({ dest: logFile, mkdir: true }),
  );
  try {
    tell.say(
      `The relay runs: gossip ${relay.gossipUrl}, dashboard ${relay.adminUrl}/dashboard/, log ${logFile}.`,
    );
    // Whether peers answer is not known yet, but it is known if there are none.
    if (settings.relay.gossipPeers.length === 0) tell.waitFor(peerReasons(relay.status()));
    const node = new NodeProgress(relay, contract, identity);
    await withVm(settings, dependencies, tell, async (vmEnded) => {
      const joined = await waiting.until(() => node.look(), vmEnded);
      tell.say(`The node has joined: epoch ${joined.epoch}, network key ${joined.networkKey}.`);
      if (settings.onceJoined) return;
      tell.say('It stays until Ctrl-C.');
      await waiting.forever(vmEnded);
    });
  } finally {
    await relay.close();
  }
}

function describe(host: HostFacts, { vm, relay }: JoinSettings, tell: Narrator): void {
  const { cpus, memoryMiB } = host.shape;
  tell.say(`Joining ${relay.contract} on chain ${relay.chainId}; ${host.gasAddress} pays.`);
  tell.say(
    `Image ${vm.imageFolder} (${host.flavour}), ${cpus} CPUs and ${memoryMiB} MiB: measurement ${host.measurement}.`,
  );
  tell.say(
    host.platform === undefined
      ? "This host's platform id is known once its VM has made a quote."
      : `This host is platform ${host.platform}, a simulated one: its attestation proves nothing.`,
  );
}

/** What one look found: what was waited for, or the reasons to wait on. */
type Look<T> = { done: T } | { reasons: readonly Reason[] };

async function networkFile(
  { relay, vm, networkJson }: JoinSettings,
  { flavour }: HostFacts,
  contract: ContractView,
): Promise<Look<NetworkFile>> {
  const found = await findNetworkFile({
    source: networkJson,
    volume: vm.hostVolume,
    peers: relay.gossipPeers,
    records: relay.records?.peers ?? [],
    network: relay,
    flavour,
    isAllowed: (config) => contract.isConfigAllowed(config),
  });
  return 'kind' in found ? { reasons: [found] } : { done: found };
}

/** Whether it makes sense to power on. */
async function readiness(contract: ContractView, identity: NodeClaims, host: HostFacts): Promise<Look<true>> {
  const { view } = await contract.network();
  const reasons = blockers(
    view,
    identity,
    await contract.permissions(identity),
    await contract.funds(host.gasAddress),
    host.gasAddress,
  );
  return reasons.length === 0 ? { done: true } : { reasons };
}

/** The node's progress, once VM and relay run. */
class NodeProgress {
  readonly #relay: Relay;
  readonly #contract: ContractView;
  readonly #identity: NodeClaims;
  #rounds = 0;
  #taken: Reason[] = [];

  constructor(relay: Relay, contract: ContractView, identity: NodeClaims) {
    this.#relay = relay;
    this.#contract = contract;
    this.#identity = identity;
  }

  async look(): Promise<Look<NodeStatus>> {
    const status = this.#relay.status();
    const { node } = status;
    if (node?.state === 'joined') return { done: node };
    if (node?.state === 'failed') {
      throw new DstackError(
        'NODE_FAILED',
        `the node failed: ${node.code ?? ''} ${node.message ?? ''}`.trim(),
      );
    }
    const facts = await requestFacts(this.#contract, node?.requestHash);
    if (facts?.request.state !== 'open') this.#taken = [];
    else if (this.#rounds++ % PERMISSIONS_EVERY === 0) {
      this.#taken = permissionReasons(this.#identity, await this.#contract.permissions(this.#identity));
    }
    const unpaid = status.transactions.some(({ code }) => code === 'TX_NO_FUNDS')
      ? fundsReasons(await this.#contract.funds(status.gasAddress), status.gasAddress)
      : [];
    return { reasons: [...unpaid, ...this.#taken, ...progress(status, facts)] };
  }
}

/** Runs `work` beside a VM, which is stopped in any case; `ended` rejects with VM_ENDED when the VM ends by itself. */
async function withVm(
  { vm: settings, createDisk }: JoinSettings,
  { startVm }: JoinDependencies,
  tell: Narrator,
  work: (ended: Promise<never>) => Promise<void>,
): Promise<void> {
  tell.say('Starting the VM.');
  await writeHints(settings.hostVolume, 'join', createDisk, settings.validators);
  const vm = await startVm({ ...settings, log: (message) => tell.say(message) });
  tell.say(`The VM runs under ${vm.accelerator}; its console log is ${vm.consoleLog}.`);
  const ended = vm.exited.then(async ({ code }): Promise<never> => {
    throw new DstackError(
      'VM_ENDED',
      `the VM powered off (exit code ${code}). The end of ${vm.consoleLog}:`,
      { details: await consoleTail(vm, 10) },
    );
  });
  // Whatever waits awaits it too; while nothing waits, its rejection must not count as unhandled.
  ended.catch(() => {});
  try {
    await work(ended);
  } finally {
    tell.say('Stopping the VM.');
    await vm.stop();
  }
}

/** Waits by polling, says why, and ends when the operator says so. */
class Waiting {
  readonly #settings: RelaySettings;
  readonly #tell: Narrator;
  readonly #stop: AbortSignal;

  constructor(settings: RelaySettings, tell: Narrator, stop: AbortSignal) {
    this.#settings = settings;
    this.#tell = tell;
    this.#stop = stop;
  }

  /**
   * Until `look` is done. Before there is a VM, only a failing endpoint is waited for; once one runs, so is every other trouble
   * except the node's own failure, because ending the VM costs more than waiting.
   */
  async until<T>(look: () => Promise<Look<T>>, vmEnded?: Promise<never>): Promise<T> {
    for (;;) {
      if (this.#stop.aborted) throw new DstackError('INTERRUPTED', 'stopped before the node had joined');
      let reasons: readonly Reason[];
      try {
        const found = await look();
        if ('done' in found) return found.done;
        reasons = found.reasons;
      } catch (error) {
        const passing = error instanceof Retryable || (vmEnded !== undefined && error instanceof DstackError);
        if (!passing || error.code === 'NODE_FAILED') throw error;
        reasons = [endpointFails(error, this.#settings.rpcUrl)];
      }
      this.#tell.waitFor(reasons);
      await this.#pause(this.#settings.pollMs * (vmEnded === undefined ? CHECK_FACTOR : 1), vmEnded);
    }
  }

  /** Until the operator ends it. @throws VM_ENDED */
  async forever(vmEnded: Promise<never>): Promise<void> {
    while (!this.#stop.aborted) await this.#pause(60_000, vmEnded);
  }

  async #pause(milliseconds: number, vmEnded: Promise<never> | undefined): Promise<void> {
    const done = new AbortController();
    const slept = sleep(milliseconds, undefined, { signal: AbortSignal.any([done.signal, this.#stop]) });
    try {
      await Promise.race([slept.catch(() => {}), ...(vmEnded === undefined ? [] : [vmEnded])]);
    } finally {
      done.abort();
    }
  }
}

/** An endpoint's URL often holds the operator's key to it, so only its host is shown. */
function endpointFails(error: DstackError, rpcUrl: string): Reason {
  const text = error.message.replaceAll(rpcUrl, new URL(rpcUrl).host);
  return {
    kind: `chain ${error.code}`,
    text: `The chain can't be read (DSTACK_RPC_URL): ${error.code}: ${text}`,
  };
}

/** What the chain says of the node's own request. @param hash 64 hex digits; undefined when it has made none */
export async function requestFacts(
  contract: ContractView,
  hash: Hex | undefined,
): Promise<RequestFacts | undefined> {
  if (hash === undefined) return undefined;
  const { head } = await contract.network();
  return { request: await contract.request(hash), head };
}
