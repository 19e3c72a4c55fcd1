/**
 * A cache of another source's collateral, in a folder: one file per kind of platform, written whole or not at all. The
 * source is asked again once a day, so that a revocation reaches this host long before the old list expires, and in any
 * case before it does; while the source fails, the cached collateral is used for as long as it is current.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type Collateral, parseCollateral } from '../../lib/attestation/collateral/collateral.ts';
import type { PlatformKind } from '../../lib/attestation/quote/platform-kind.ts';
import { dropDrafts, writeDurably } from '../../lib/daemon/durable-file.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { type Inspection, inspectCollateral } from './inspect.ts';
import { type CollateralSource, kindName } from './source.ts';

export interface CacheOptions {
  /** Created if missing. */
  directory: string;
  source: CollateralSource;
  log: Log;
  /** Unix milliseconds. */
  now?: () => number;
}

const DAY = 86_400_000;
/** Age at which the source is asked again. */
const REFRESH_AFTER = DAY;
/** Time before expiry at which the source is asked again: CRLs and documents are valid for 30 days. */
const REFRESH_BEFORE = 3 * DAY;
/** How long a source that failed is left alone. */
const RETRY_AFTER = 60_000;
/** Kinds of platforms: Intel has a few dozen. The least recently used one gives way. */
const MAX_FILES = 64;

interface Cached {
  collateral: Collateral;
  inspection: Inspection;
  /** Unix milliseconds. */
  fetchedAt: number;
}

export function cachedSource(options: CacheOptions): CollateralSource {
  const { directory, source, log, now = Date.now } = options;
  const failedAt = new Map<string, number>();
  const fetching = new Map<string, Promise<Collateral | undefined>>();
  mkdirSync(directory, { recursive: true });
  dropDrafts(directory);
  const pathOf = (kind: PlatformKind) => join(directory, `${kindName(kind)}.json`);

  /** The cached collateral, if it is current: a file with anything wrong counts as missing. */
  function read(kind: PlatformKind): Cached | undefined {
    const path = pathOf(kind);
    try {
      const { mtimeMs, size } = statSync(path);
      if (size > MESSAGE_MAX_BYTES) return undefined;
      const collateral = parseCollateral(readFileSync(path, 'utf8'));
      return { collateral, inspection: inspectCollateral(collateral, kind, now()), fetchedAt: mtimeMs };
    } catch {
      return undefined;
    }
  }

  function write(kind: PlatformKind, collateral: Collateral): void {
    writeDurably(pathOf(kind), `${JSON.stringify(collateral, null, 1)}\n`);
    evict();
  }

  function evict(): void {
    const files = readdirSync(directory)
      .filter((name) => name.endsWith('.json'))
      .map((name) => ({ path: join(directory, name), at: statSync(join(directory, name)).mtimeMs }))
      .sort((a, b) => b.at - a.at);
    for (const { path } of files.slice(MAX_FILES)) unlinkSync(path);
  }

  /** Only valid collateral of this kind is cached. */
  async function fetchAnew(kind: PlatformKind): Promise<Collateral | undefined> {
    const collateral = await source.find(kind);
    if (collateral === undefined) return undefined;
    const { nextUpdate, tcbEvaluationDataNumber } = inspectCollateral(collateral, kind, now());
    write(kind, collateral);
    log.info(
      { ...kind, tcbEvaluationDataNumber, until: new Date(nextUpdate).toISOString() },
      `collateral came from ${source.name}`,
    );
    return collateral;
  }

  /** However many ask at once, the source is asked once. */
  function fetchOnce(kind: PlatformKind): Promise<Collateral | undefined> {
    const name = kindName(kind);
    const running = fetching.get(name);
    if (running !== undefined) return running;
    const started = fetchAnew(kind)
      .then((found) => {
        failedAt.delete(name);
        return found;
      })
      .catch((error: unknown) => {
        if (failedAt.size >= 16 * MAX_FILES) failedAt.clear();
        failedAt.set(name, now());
        throw error;
      })
      .finally(() => fetching.delete(name));
    fetching.set(name, started);
    return started;
  }

  return {
    name: source.name,
    async find(kind) {
      const cached = read(kind);
      const current = cached !== undefined && !isDue(cached, now());
      const resting = now() - (failedAt.get(kindName(kind)) ?? Number.NEGATIVE_INFINITY) < RETRY_AFTER;
      if (current || (cached !== undefined && resting)) return cached.collateral;
      try {
        return (await fetchOnce(kind)) ?? cached?.collateral;
      } catch (error) {
        if (cached === undefined) throw error;
        const until = new Date(cached.inspection.nextUpdate).toISOString();
        log.warn({ ...kind, until }, `collateral could not be renewed: ${(error as Error).message}`);
        return cached.collateral;
      }
    },
  };
}

function isDue({ inspection, fetchedAt }: Cached, now: number): boolean {
  return now - fetchedAt > REFRESH_AFTER || inspection.nextUpdate - now < REFRESH_BEFORE;
}
