/**
 * What the node's signer may do, as the contract says it: which manifest in force names a signer, and why nothing may be signed now. The
 * signer asks for it each second, and signs nothing without a recent answer.
 */
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { type AppSecret, type Manifest, secretsOf, signerPartOf } from '../../lib/protocol/manifest.ts';
import { secretsOfSigner } from '../../lib/protocol/signer-part.ts';
import { CONTRACT_UNREAD } from '../../lib/protocol/signer-status.ts';
import type { SignerOrder, SignerOrderReply } from '../../lib/protocol/sockets.ts';
import type { NetworkState } from './apps-reader.ts';

export interface SignerOrdersOptions {
  /** One that was checked; undefined while it is not here. */
  manifest(hash: Hex): Manifest | undefined;
  /** The time by the chain's clock. @throws CHAIN_STALE when no block came for an hour */
  chainNow(): number;
  /** Called once, when a manifest that is here and in force names a signer. */
  onFirst(): void;
}

interface Named {
  readonly order: SignerOrder;
  readonly secrets: readonly AppSecret[];
}

/** Where the manifest says nothing. */
const MINIMUM_NODES = 2;

export class SignerOrders {
  readonly #options: SignerOrdersOptions;
  /** Of the manifests in force, those that were here once: they may be tidied away where an app does not come up. */
  readonly #known = new Map<Hex, Manifest>();
  #named: Named | undefined;
  /** An app that comes before the one with a signer, and whose manifest is not here. */
  #awaited: { readonly app: string; readonly before: string } | undefined;
  #isRead = false;
  /** Once true it stays true. */
  #onboarded = false;
  #hadOrder = false;

  constructor(options: SignerOrdersOptions) {
    this.#options = options;
  }

  /**
   * The contract was read. Of several apps with a signer, the first in its order is followed, on every node: so as long as the manifest of an
   * app before it is not here, which may name one too, nothing is begun. Two nodes that have different ones of them would sign for one chain
   * by records of their own, and a host chooses which ones a node has.
   */
  follow({ apps, onboarded }: Pick<NetworkState, 'apps' | 'onboarded'>): void {
    this.#isRead = true;
    this.#onboarded ||= onboarded;
    this.#learn(new Set(apps.values()));
    const named = [...apps].map(([app, hash]) => this.#signerOf(app, hash)).find((one) => one !== undefined);
    this.#awaited = named && this.#missingBefore(named.order.app, apps);
    // What is signed by already is kept meanwhile, with its connections; nothing is signed.
    if (this.#awaited === undefined) this.#named = named;
    else if (this.#named?.order.manifest !== named?.order.manifest) this.#named = undefined;
    if (named === undefined || this.#hadOrder) return;
    this.#hadOrder = true;
    this.#options.onFirst();
  }

  #learn(inForce: ReadonlySet<Hex>): void {
    for (const hash of this.#known.keys()) if (!inForce.has(hash)) this.#known.delete(hash);
    for (const hash of inForce) {
      const manifest = this.#known.get(hash) ?? this.#options.manifest(hash);
      if (manifest !== undefined) this.#known.set(hash, manifest);
    }
  }

  #missingBefore(before: string, apps: NetworkState['apps']): { app: string; before: string } | undefined {
    for (const [app, hash] of apps) {
      if (app === before) return undefined;
      if (!this.#known.has(hash)) return { app, before };
    }
    return undefined;
  }

  #signerOf(app: string, hash: Hex): Named | undefined {
    const manifest = this.#known.get(hash);
    const signer = manifest && signerPartOf(manifest);
    if (manifest?.app !== app || signer === undefined) return undefined;
    const used = secretsOfSigner(signer);
    return {
      order: { app, manifest: hash, signer },
      secrets: secretsOf(manifest).filter(({ name }) => used.includes(name)),
    };
  }

  /** For the signer. */
  reply(): SignerOrderReply {
    const order = this.#named?.order;
    const stopped = this.#stopped();
    return { ...(order !== undefined && { order }), ...(stopped !== undefined && { stopped }) };
  }

  /** A secret that the signer of this manifest, in force, uses. @throws SIGNER_SECRET */
  secret(manifest: Hex, name: string): { readonly app: string; readonly secret: AppSecret } {
    const { order, secrets = [] } = this.#named ?? {};
    const secret = secrets.find((one) => one.name === name);
    if (order === undefined || order.manifest !== manifest || secret === undefined) {
      throw new DstackError(
        'SIGNER_SECRET',
        `the manifest in force has no signer with a key that is the secret ${name}`,
      );
    }
    return { app: order.app, secret };
  }

  #stopped(): SignerOrderReply['stopped'] {
    if (!this.#isRead)
      return { code: CONTRACT_UNREAD, message: 'this node has not read the contract since it was started' };
    if (this.#awaited !== undefined) {
      const { app, before } = this.#awaited;
      return {
        code: 'SIGNER_UNSURE',
        message: `the manifest of ${app} that is in force is not on this node, and may name another signer, which would come before that of ${before}: put it into the host's volume (\`app pack --out\`), or withdraw ${app}`,
      };
    }
    if (this.#named === undefined) {
      return {
        code: 'SIGNER_NOT_NAMED',
        message: 'no manifest in force, of those that this node has, names a signer',
      };
    }
    const { minimumNodes = MINIMUM_NODES } = this.#named.order.signer;
    if (minimumNodes > 1 && !this.#onboarded) {
      return {
        code: 'NETWORK_TOO_SMALL',
        message: `no second node has joined, and the signer's manifest asks for ${minimumNodes}: the key of a single node is lost with it`,
      };
    }
    try {
      this.#options.chainNow();
      return undefined;
    } catch (error) {
      return { code: codeOf(error), message: (error as Error).message.slice(0, 500) };
    }
  }
}
