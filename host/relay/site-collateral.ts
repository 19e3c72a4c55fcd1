/**
 * Brings collateral to this host's own node once it has joined, for the evidence of its website: a guest dials nobody, and who
 * visits should need no service of Intel's. What is brought is the host's word like all else from here; whoever judges the
 * evidence checks Intel's signatures and dates in it.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { CollateralDesk } from '../collateral/attach.ts';
import type { NodeClient } from '../node-client.ts';

export interface SiteCollateralOptions {
  node: Pick<NodeClient, 'platformKind' | 'giveCollateral'>;
  collateral: Pick<CollateralDesk, 'forKind'>;
  log: Log<'info' | 'warn'>;
  /** A clock that only moves forward, in milliseconds. */
  monotonic?: () => number;
}

/** Much more often than collateral changes, and than it runs out. Milliseconds. */
const EVERY_MS = 600_000;
/** After one that failed. */
const AGAIN_MS = 60_000;

export class SiteCollateral {
  readonly #options: SiteCollateralOptions;
  #nextAt = Number.NEGATIVE_INFINITY;
  #said = '';

  constructor(options: SiteCollateralOptions) {
    this.#options = options;
  }

  /**
   * To be called at each look at a node that has joined; does something only now and then, and never fails.
   * @param isNew the node had not joined at the look before: it has been brought nothing yet
   */
  async bring(isNew: boolean): Promise<void> {
    const now = (this.#options.monotonic ?? (() => performance.now()))();
    if (isNew) this.#nextAt = Number.NEGATIVE_INFINITY;
    if (now < this.#nextAt) return;
    this.#nextAt = now + AGAIN_MS;
    try {
      await this.#once();
      this.#nextAt = now + EVERY_MS;
    } catch (error) {
      this.#say(
        codeOf(error),
        `the node has no collateral for its website's evidence: ${(error as Error).message}`,
      );
    }
  }

  async #once(): Promise<void> {
    const { node, collateral, log } = this.#options;
    const kind = await node.platformKind();
    const found = await collateral.forKind(kind);
    if (found === undefined) {
      return this.#say(
        'COLLATERAL_MISSING',
        `no source has collateral of ${kind.tee} ${kind.fmspc}: who checks this node's website has to get it from Intel (DSTACK_PCS_URL or DSTACK_COLLATERAL_DIR bring it)`,
      );
    }
    await node.giveCollateral(found);
    if (this.#said !== 'brought') log.info({ ...kind }, "the node has collateral for its website's evidence");
    this.#said = 'brought';
  }

  /** Once, until something else is to be said. */
  #say(code: string, message: string): void {
    if (message !== this.#said) this.#options.log.warn({ code }, message);
    this.#said = message;
  }
}
