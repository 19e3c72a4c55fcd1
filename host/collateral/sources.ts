/** The sources of a host, as its settings say: its own folder, the simulated platform's, then the cached service. */
import type { Log } from '../../lib/daemon/log.ts';
import { cachedSource } from './cache.ts';
import { folderSource } from './folder.ts';
import { type PcsOptions, pcsSource } from './pcs.ts';
import { simulatedSource } from './simulated.ts';
import { type CollateralSource, firstCurrent } from './source.ts';

export interface CollateralSettings {
  /** Absent: no service is asked. */
  pcs?: PcsOptions;
  /** A folder of collateral.json files. */
  folder?: string;
}

/** @param settings `cacheDir`: where the service's answers are kept */
export function collateralSources(
  { pcs, folder, cacheDir }: CollateralSettings & { cacheDir: string },
  log: Log,
): CollateralSource {
  return firstCurrent(
    [
      ...(folder === undefined ? [] : [folderSource(folder, log)]),
      simulatedSource,
      ...(pcs === undefined ? [] : [cachedSource({ directory: cacheDir, source: pcsSource(pcs), log })]),
    ],
    log,
  );
}
