/** Apps by the contract, beside what this host's own node says of each. */
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { chainHex, type Hex, ZERO_WORD } from '../../lib/protocol/hex.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import { nameOf } from './rollouts.ts';
import { type AppRow, most, text } from './state.ts';

/** In the contract's order; then what the node still has and the contract does not. */
export function apps(views: readonly AppView[], status: AppsStatus | undefined): readonly AppRow[] {
  const said = new Map((status?.apps ?? []).map((one) => [one.app, one]));
  const listed = views.map(({ app: id, manifestHash, latest, from }): AppRow => {
    const app = nameOf(id);
    const own = said.get(app);
    said.delete(app);
    return {
      app: text(app),
      manifest: manifestHash === ZERO_WORD ? null : manifestHash,
      next: latest === manifestHash ? null : { manifest: latest, from: Number(from) },
      node: own === undefined ? null : nodeOf(own),
    };
  });
  const others = [...said.values()].map(
    (one): AppRow => ({ app: text(one.app), manifest: null, next: null, node: nodeOf(one) }),
  );
  return [...listed, ...others];
}

const hash0x = (hash: Hex | undefined): string | null => (hash === undefined ? null : chainHex(hash));

function nodeOf({ state, serving, trouble }: AppStatus): NonNullable<AppRow['node']> {
  if (trouble === undefined) return { state, serving: hash0x(serving), trouble: null };
  const { code, message, manifest, attempts } = trouble;
  const logs = Object.entries(trouble.logs)
    .flatMap(([container, lines]) => lines.map((line) => text(`${container}: ${line}`)))
    .slice(-most.logLines);
  return {
    state,
    serving: hash0x(serving),
    trouble: { code, message: text(message), manifest: chainHex(manifest), attempts, logs },
  };
}
