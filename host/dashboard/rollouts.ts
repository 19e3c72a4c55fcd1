/** What became of apps, the newest first: what the owner did, by the contract's events, and what this host's node made of it. */
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { chainHex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import type { Seen } from './chain-history.ts';
import { type RolloutRow, text } from './state.ts';

/** @param delay the network's, seconds: a rollout without one takes effect with its block */
export function rollouts(events: readonly Seen[], status: AppsStatus | undefined): readonly RolloutRow[] {
  const byOwner = events.flatMap(rolloutIn).reverse();
  const byNode = (status?.rollouts ?? [])
    .map(
      ({ app, manifest, at, outcome, code }): RolloutRow => ({
        app: text(app),
        manifest: chainHex(manifest),
        what: outcome,
        by: 'node',
        block: null,
        at,
        code: code === undefined ? null : text(code),
      }),
    )
    .reverse();
  return merged(byOwner, byNode);
}

function rolloutIn({ event, block }: Seen): readonly RolloutRow[] {
  const row = { by: 'contract', block, at: null, code: null } as const;
  switch (event.name) {
    case 'RolledOut': {
      const at = Number(event.from);
      return [{ ...row, app: nameOf(event.app), manifest: event.manifestHash, what: 'rolled out', at }];
    }
    case 'RolledBack': {
      const manifest = event.manifestHash === ZERO_WORD ? null : event.manifestHash;
      return [{ ...row, app: nameOf(event.app), manifest, what: 'rolled back' }];
    }
    case 'Withdrawn':
      return [{ ...row, app: nameOf(event.app), manifest: null, what: 'withdrawn by the owner' }];
    default:
      return [];
  }
}

/** Two lists in their own orders, put together by time where both have one. */
function merged(one: readonly RolloutRow[], other: readonly RolloutRow[]): readonly RolloutRow[] {
  const all: RolloutRow[] = [];
  const [left, right] = [[...one], [...other]];
  while (left.length > 0 || right.length > 0) {
    const [a, b] = [left[0], right[0]];
    const isFirst = b === undefined || (a !== undefined && (a.at ?? Number.POSITIVE_INFINITY) > (b.at ?? 0));
    all.push((isFirst ? left : right).shift()!);
  }
  return all;
}

/** The contract makes none but good names; an endpoint may show others. */
export function nameOf(id: string): string {
  try {
    return appName(fromHex(id.replace(/^0x/, '')));
  } catch {
    return id;
  }
}
