/** Adds collateral to quotes: in the requests of this host's own node, and in those of others that it is asked to judge. */

import { type Collateral, collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { type PlatformKind, platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import type { CollateralMessage } from '../../lib/protocol/collateral.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import type { BootstrapPackage, RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { inspectCollateral } from './inspect.ts';
import type { CollateralSource } from './source.ts';

export interface CollateralDesk {
  /**
   * The collateral to judge a quote by: this host's own if it is current; else the newest current one that came with the
   * message; else whatever there is. What others bring comes second, because they could choose a revocation list from
   * before a revocation.
   * @param quote hex
   */
  forQuote(quote: string, brought?: readonly CollateralMessage[]): Promise<CollateralMessage | undefined>;
  /** This host's own, for whoever judges quotes of such a platform; the best there is. */
  forKind(kind: PlatformKind): Promise<CollateralMessage | undefined>;
}

export function collateralDesk(source: CollateralSource, now: () => number = Date.now): CollateralDesk {
  const inspected = (collateral: Collateral, kind: PlatformKind) => {
    try {
      return { collateral, ...inspectCollateral(collateralOf(collateral), kind, now()) };
    } catch {
      return undefined;
    }
  };
  return {
    forKind: (kind) => source.find(kind),
    async forQuote(quote, brought = []) {
      const kind = kindOf(quote);
      if (kind === undefined) return brought[0];
      const own = await source.find(kind);
      if (own !== undefined && inspected(own, kind) !== undefined) return own;
      const current = brought.flatMap((candidate) => inspected(candidate, kind) ?? []);
      // Collateral that is valid but old must not hide newer collateral by which the platform may pass.
      const [newest] = current.toSorted(
        (a, b) => b.tcbEvaluationDataNumber - a.tcbEvaluationDataNumber || b.nextUpdate - a.nextUpdate,
      );
      return newest?.collateral ?? own ?? brought[0];
    },
  };
}

/** A quote that can't be read is for the node to refuse. */
function kindOf(quote: string): PlatformKind | undefined {
  try {
    return platformKindOf(parseQuote(fromHex(quote)));
  } catch {
    return undefined;
  }
}

/** A message about this host's own node, with the collateral that the guest itself does not have. */
export async function withCollateral<Message extends RequestMessage | BootstrapPackage>(
  message: Message,
  desk: CollateralDesk,
): Promise<Message> {
  const collateral = await desk.forQuote(message.quote);
  return collateral === undefined ? message : { ...message, collateral };
}
