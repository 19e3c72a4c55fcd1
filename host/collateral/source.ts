/**
 * Where a host gets collateral from. Start reading here: the interface, the order of the sources, and what is given when
 * several have something.
 *
 * No source is trusted, nor is this host by those who judge: collateral is signed by Intel, and whoever judges a quote
 * checks it. What is checked here keeps rubbish out of the cache and out of messages.
 */
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import type { PlatformKind } from '../../lib/attestation/quote/platform-kind.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { inspectCollateral } from './inspect.ts';

export interface CollateralSource {
  /** For messages: where the collateral came from. */
  readonly name: string;
  /** Collateral of this kind of platform, undefined when the source has none. It may be stale. @throws any typed error */
  find(kind: PlatformKind): Promise<Collateral | undefined>;
}

/**
 * Several sources as one, asked in order: gives the first current collateral; if no source has any, whatever there is, since
 * the verifier's refusal of it says more than nothing at all would. A source that fails is skipped, and reported once.
 */
export function firstCurrent(
  sources: readonly CollateralSource[],
  log: Log,
  now: () => number = Date.now,
): CollateralSource {
  const said = new Map<string, string>();
  const complain = (source: CollateralSource, kind: PlatformKind, problem: string | undefined) => {
    const key = `${source.name} ${kindName(kind)}`;
    if (problem !== undefined && problem !== said.get(key)) {
      log.warn({ source: source.name, ...kind }, `no collateral from ${source.name}: ${problem}`);
    }
    if (problem === undefined) said.delete(key);
    else if (said.size < MAX_SAID) said.set(key, problem);
  };
  return {
    name: sources.map(({ name }) => name).join(', '),
    async find(kind) {
      let stale: Collateral | undefined;
      for (const source of sources) {
        let found: Collateral | undefined;
        try {
          found = await source.find(kind);
          if (found !== undefined) inspectCollateral(found, kind, now());
          complain(source, kind, undefined);
          if (found !== undefined) return found;
        } catch (error) {
          complain(source, kind, `${codeOf(error)}: ${(error as Error).message}`);
          stale ??= found;
        }
      }
      return stale;
    },
  };
}

const MAX_SAID = 256;

/** The name of the file with what one kind of platform needs. */
export const kindName = ({ tee, fmspc, ca }: PlatformKind): string => `${tee}-${fmspc}-${ca}`;
