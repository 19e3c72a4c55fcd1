/** Who got in, by the contract's events; and what its owner's lists say of them today. */
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { Seen } from './chain-history.ts';
import type { AllowedRow, NodeRow } from './state.ts';

type Bootstrapped = NetworkEvent & { name: 'Bootstrapped' };

/**
 * The newest first. The health of other hosts' nodes cannot be known from here: they tell nobody. What can be known is whether their
 * measurement and platform would still be let in.
 * @param isOwn whether a request (0x and 64 hex digits) is this host's own node's
 */
export function nodes(
  events: readonly Seen[],
  allowed: readonly AllowedRow[],
  isOwn: (request: string) => boolean,
): readonly NodeRow[] {
  const revoked = new Set(
    allowed.flatMap(({ kind, value, state }) => (state === 'revoked' ? [`${kind} ${value}`] : [])),
  );
  const asked = new Map<string, string>();
  const lastBootstrap = events.findLast(({ event }) => event.name === 'Bootstrapped')?.event as
    | Bootstrapped
    | undefined;
  let epoch: bigint | undefined;
  const found: NodeRow[] = [];
  for (const { event, block } of events) {
    if (event.name === 'Registered') asked.set(event.requestHash, event.node);
    if (event.name === 'Bootstrapped') epoch = event.epoch;
    if (event.name !== 'Onboarded' && event.name !== 'Bootstrapped') continue;
    const { measurement, platform } = event;
    const isOld = lastBootstrap !== undefined && epoch !== lastBootstrap.epoch && epoch !== undefined;
    const standing = isOld
      ? 'other epoch'
      : revoked.has(`measurement ${measurement}`)
        ? 'measurement revoked'
        : revoked.has(`platform ${platform}`)
          ? 'platform revoked'
          : 'allowed';
    const request = event.name === 'Onboarded' ? event.requestHash : null;
    const node = request === null ? null : (asked.get(request) ?? null);
    const own = request !== null && isOwn(request);
    found.push({ node, request, measurement, platform, block, standing, own });
  }
  return found.reverse();
}
