/**
 * How a node gets from power-on to joined: a state machine with one writer.
 *
 *     starting ──► bootstrapping ──► joined          (role `bootstrap`, before the network's first onboarding)
 *        └───────► requesting ─────► joined
 *
 * Whatever ends it (another node's key on chain, a superseded key) ends the process, and with it the VM: a reboot is a fresh
 * machine. Nothing here is durable, on purpose: the chain and the relay hold what must outlive the node.
 */

import type { Evidence } from '../../lib/attestation/verify.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import type { NetworkView } from '../../lib/protocol/network-contract.ts';
import type { NodeStatus, SealedMessage } from '../../lib/protocol/onboarding-messages.ts';
import { appQuotes } from './app-quotes.ts';
import type { Attestor } from './attestor.ts';
import { type Bootstrap, bootstrap } from './bootstrap.ts';
import { chainReads } from './chain-reads.ts';
import type { Identity } from './identity.ts';
import { keyring } from './keyring.ts';
import { ledgerWitness } from './ledger-evidence.ts';
import type { NodeService } from './node-port.ts';
import { type Onboarder, onboarder } from './onboard.ts';
import { type Monotonic, ownRequests } from './own-request.ts';
import { newSecret, type SecretHolder, secretHolder } from './secret.ts';
import type { Joined } from './siblings.ts';
import { type SiteWitness, siteWitness } from './site-evidence.ts';
import { siteRequest } from './site-request.ts';
import { storeNames } from './store-names.ts';

export interface NodeOptions {
  identity: Identity;
  reader: NetworkReader;
  attestor: Attestor;
  log: Log;
  /** How often to look at the chain before the node has joined, milliseconds. */
  pollEvery: number;
  /** The same after it has joined, when only a superseded key matters. */
  watchEvery: number;
  /** Replaces the boot clock in tests. */
  monotonic?: Monotonic;
  /** Ends the machine: called once, when this node must not go on. */
  end(code: string, message: string): void;
}

export interface Node extends NodeService {
  joined: Promise<Joined>;
  /** Runs until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>;
}

type State =
  | { name: 'starting' }
  | { name: 'bootstrapping'; keys: SecretHolder; bootstrap: Bootstrap }
  | { name: 'requesting' }
  | { name: 'joined'; keys: SecretHolder; onboarder: Onboarder; site: SiteWitness }
  | { name: 'failed' };

export function createNode(options: NodeOptions): Node {
  const { identity, reader, attestor, log } = options;
  const requests = ownRequests(identity, reader, attestor, options.monotonic);
  const { promise: joined, resolve: nowJoined } = Promise.withResolvers<Joined>();
  let state: State = { name: 'starting' };
  let trouble: { code: string; message: string } | undefined;
  let epoch = 0;
  let joining: Promise<NodeStatus> | undefined;

  function status(): NodeStatus {
    const hash = state.name === 'requesting' ? requests.currentHash() : undefined;
    return {
      state: state.name,
      flavour: identity.image.flavour,
      ...identity.domain,
      config: toHex(identity.config),
      epoch,
      ...(hash === undefined ? {} : { requestHash: toHex(hash) }),
      ...('keys' in state ? { networkKey: state.keys.networkKey } : {}),
      ...(trouble === undefined ? {} : { code: trouble.code, message: trouble.message.slice(0, 1000) }),
    };
  }

  /** A node gets one epoch's secret; after a rotation, those of earlier epochs will come with it. */
  const holderOf = (secret: Uint8Array, epoch: number): SecretHolder =>
    secretHolder(keyring(new Map([[epoch, secret]])), identity.domain);

  /** Which path this node takes: decided once, by the contract's state and the host's hint. */
  function decide(network: NetworkView): State {
    if (identity.hints.role === 'bootstrap' && !network.onboarded) {
      const keys = holderOf(newSecret(), network.epoch + 1);
      log.info(
        { epoch: keys.epoch, networkKey: keys.networkKey },
        'made a network secret; waiting for the owner',
      );
      return { name: 'bootstrapping', keys, bootstrap: bootstrap(identity, reader, attestor, keys) };
    }
    log.info({ epoch: network.epoch }, 'asking to join');
    // Made before the relay asks for it: keys and quote take seconds on a slow machine. The relay will learn of a failure.
    if (network.epoch > 0) requests.current().catch(() => {});
    return { name: 'requesting' };
  }

  async function become(keys: SecretHolder, evidence: Evidence): Promise<void> {
    await attestor.joined();
    const site = siteWitness(identity, reader, attestor, keys, options.monotonic);
    state = { name: 'joined', keys, onboarder: onboarder(identity, reader, keys), site };
    epoch = keys.epoch;
    trouble = undefined;
    nowJoined({
      keys,
      site,
      quotes: appQuotes(identity, attestor),
      ledgerEvidence: ledgerWitness(identity, reader, attestor, keys),
      siteRequest: () => siteRequest(identity.network.site, keys),
      storeNames: (app) => storeNames(identity.network.store, app),
      info: {
        ...identity.domain,
        networkKey: keys.networkKey,
        epoch: keys.epoch,
        config: toHex(identity.config),
        measurement: toHex(evidence.measurement),
        platform: toHex(evidence.platform),
        flavour: identity.image.flavour,
      },
      chain: chainReads(reader.chain),
      requireFresh: () => reader.chain.now(),
      reached: () => reader.chain.reached(),
    });
    log.info({ epoch: keys.epoch, networkKey: keys.networkKey }, 'joined');
  }

  /** Compares the contract's key, once it has one, with the key that this node made. */
  async function watchBootstrap(
    current: State & { name: 'bootstrapping' },
    network: NetworkView,
  ): Promise<void> {
    if (sameAddress(network.networkKey, current.keys.networkKey)) {
      // The package may have been remade since; the evidence differs in its block only.
      const { evidence } = await current.bootstrap.package();
      await become(current.keys, evidence);
    } else if (network.epoch >= current.keys.epoch) {
      end(
        'BOOTSTRAP_SUPERSEDED',
        `the contract took ${network.networkKey} as its key, not this node's`,
        current.keys,
      );
    }
  }

  /** Epochs only grow, so an old state can't end a secret, whoever shows it. */
  function watchKey(current: State & { name: 'joined' }, network: NetworkView): void {
    if (sameAddress(network.networkKey, current.keys.networkKey)) {
      if (!network.onboarded) warnAlone();
    } else if (network.epoch > current.keys.epoch && !isZero(network.networkKey)) {
      end('KEY_SUPERSEDED', `the contract's network key is now ${network.networkKey}`, current.keys);
    } else {
      throw new DstackError(
        'CHAIN_EARLIER_STATE',
        `the contract shows key ${network.networkKey} of epoch ${network.epoch}, this node's is of epoch ${current.keys.epoch}: the state is older, or of another fork; nothing is done about it`,
      );
    }
  }

  let warnedAloneAt = Number.NEGATIVE_INFINITY;
  function warnAlone(): void {
    if (performance.now() - warnedAloneAt < 60_000) return;
    warnedAloneAt = performance.now();
    log.warn(
      { code: 'NETWORK_OF_ONE' },
      'THIS IS THE ONLY NODE THAT HAS THE SECRET: if it stops, the network is lost. Let another one join',
    );
  }

  function end(code: string, message: string, keys: SecretHolder): void {
    keys.wipe();
    state = { name: 'failed' };
    trouble = { code, message };
    options.end(code, message);
  }

  async function step(): Promise<void> {
    const network = await reader.network();
    if (state.name === 'starting') {
      epoch = network.epoch;
      state = decide(network);
    }
    if (state.name === 'bootstrapping') await watchBootstrap(state, network);
    else if (state.name === 'joined') watchKey(state, network);
    else epoch = network.epoch;
  }

  async function run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && state.name !== 'failed') {
      try {
        await step();
        if (trouble?.code.startsWith('CHAIN_')) trouble = undefined;
      } catch (error) {
        report(error);
      }
      const pause = state.name === 'joined' ? options.watchEvery : options.pollEvery;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** A failed look at the chain is not fatal. It is logged once, and again when the reason changes. */
  function report(error: unknown): void {
    const next = { code: codeOf(error), message: (error as Error).message };
    if (trouble?.code !== next.code) log.warn(next, 'cannot go on yet');
    trouble = next;
  }

  /** The order matters: the secret is compared with the contract before anything is derived from it for others. */
  async function takeAnswer(message: SealedMessage): Promise<NodeStatus> {
    if (state.name === 'joined') return status();
    requireState('requesting', 'an answer');
    const opened = await requests.open(message);
    const keys = holderOf(opened.secret, opened.epoch);
    const network = await reader.network();
    if (!sameAddress(network.networkKey, keys.networkKey) || network.epoch !== opened.epoch) {
      keys.wipe();
      requests.discard(message.requestHash);
      trouble = {
        code: 'SECRET_MISMATCH',
        message: `the answer holds the secret of ${keys.networkKey}, but the contract's network key is ${network.networkKey}; asking again`,
      };
      throw new DstackError(trouble.code, trouble.message);
    }
    await become(keys, opened.evidence);
    return status();
  }

  function requireState(name: State['name'], what: string): void {
    if (state.name !== name) {
      throw new DstackError('NODE_STATE', `this node is ${state.name}; it takes ${what} only while ${name}`);
    }
  }

  return {
    joined,
    run,
    status,
    async request() {
      requireState('requesting', 'a request');
      return requests.current();
    },
    answer(message) {
      // One at a time: two answers must not both take the last step.
      joining = (joining ?? Promise.resolve()).then(
        () => takeAnswer(message),
        () => takeAnswer(message),
      ) as Promise<NodeStatus>;
      return joining;
    },
    platformKind: async () => joinedOf(state).site.platformKind(),
    takeCollateral: (collateral) => joinedOf(state).site.takeCollateral(collateral),
    async onboard(message) {
      const answer = await joinedOf(state).onboarder.onboard(message);
      log.info({ node: message.node, requestHash: answer.requestHash }, 'answered another node');
      return answer;
    },
    async sealed(message) {
      const sealed = await joinedOf(state).onboarder.sealed(message);
      log.info({ node: message.node, requestHash: sealed.requestHash }, 'sealed the secret to another node');
      return sealed;
    },
    async sealingKey(app) {
      const { publicKey, signature } = await joinedOf(state).keys.sealingKey(app);
      return { type: 'sealing-key', ...identity.domain, app, publicKey: toHex(publicKey), signature };
    },
    async bootstrapPackage() {
      if (state.name !== 'bootstrapping') {
        throw new DstackError('NODE_STATE', `this node is ${state.name}; it has no bootstrap package`);
      }
      return (await state.bootstrap.package()).message;
    },
  };
}

const isZero = (address: string): boolean => BigInt(address) === 0n;
function joinedOf(state: State): State & { name: 'joined' } {
  if (state.name !== 'joined') {
    throw new DstackError('NODE_STATE', `this node is ${state.name}; only one that has joined can do that`);
  }
  return state;
}
