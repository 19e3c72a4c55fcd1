/**
 * The containers of a node's apps. A node says of its apps which manifest serves and which is to, and nothing of single containers:
 * those are what the manifests name, which lie in the host's volume and count by their hash alone.
 */
import { join } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  type ContainerPlan,
  MANIFEST_MAX_BYTES,
  type Manifest,
  manifestHash,
  parseManifest,
  plansOf,
} from '../../lib/protocol/manifest.ts';

/**
 * `running`: its manifest serves; `ending`: it does, and is being stopped; `starting`: the node tries to have it serve; `down`: it
 * does not try just now, after a refusal; `waiting`: its manifest has not taken effect.
 */
export type ContainerState = 'running' | 'ending' | 'starting' | 'down' | 'waiting';

export interface ContainerRow {
  readonly app: string;
  /** Null where the manifest is not in the volume: then the row stands for all of its containers. */
  readonly container: string | null;
  /** `sha256:` and the config digest. */
  readonly image: string | null;
  readonly state: ContainerState;
  /** Where it speaks HTTP: the port, and the domain if it has one of its own. */
  readonly http: readonly { readonly port: number; readonly domain: string | null }[];
  readonly manifest: string;
}

/** What serves is first, then what is to. @param manifestOf the manifest of a hash, where it is known */
export function containersOf(
  { apps }: AppsStatus,
  manifestOf: (hash: Hex) => Manifest | undefined,
): readonly ContainerRow[] {
  return apps.flatMap((status) =>
    manifestsOf(status).flatMap(([hash, state]): readonly ContainerRow[] => {
      const of = { app: status.app, state, manifest: `0x${hash}` };
      const manifest = manifestOf(hash);
      // One of another app under this name would be the host's own joke.
      if (manifest?.app !== status.app) return [{ ...of, container: null, image: null, http: [] }];
      return plansOf(manifest).map((plan) => ({ ...of, ...shown(plan) }));
    }),
  );
}

const shown = ({ name, image, http }: ContainerPlan) => ({
  container: name,
  image: `sha256:${image}`,
  http: http.map(({ port, domain }) => ({ port, domain: domain ?? null })),
});

function manifestsOf({ state, serving, inForce, pending }: AppStatus): readonly [Hex, ContainerState][] {
  const found: [Hex, ContainerState][] = [];
  if (serving !== undefined) found.push([serving, state === 'ended' ? 'ending' : 'running']);
  if (inForce !== undefined && inForce !== serving)
    found.push([inForce, state === 'down' || state === 'ended' ? 'down' : 'starting']);
  if (pending !== undefined && pending !== inForce && pending !== serving) found.push([pending, 'waiting']);
  return found;
}

/** Reads manifests of a host's volume. What is not there, not whole or another's is not known. */
export function manifestsIn(volume: string | undefined): (hash: Hex) => Manifest | undefined {
  return (hash) => {
    if (volume === undefined) return undefined;
    try {
      const file = join(volume, 'manifests', `${hash}.json`);
      const bytes = readBounded(file, { maxBytes: MANIFEST_MAX_BYTES });
      return toHex(manifestHash(bytes)) === hash ? parseManifest(bytes) : undefined;
    } catch {
      return undefined;
    }
  };
}

const HEAD = ['APP', 'CONTAINER', 'IMAGE', 'STATE', 'PORTS', 'MANIFEST'];

/** A table as `docker ps` prints one: hashes are cut to twelve digits. */
export function containerTable(rows: readonly ContainerRow[]): readonly string[] {
  const cells = rows.map(({ app, container, image, state, http, manifest }) => [
    app,
    container ?? '(manifest not in the volume)',
    image?.slice('sha256:'.length, 'sha256:'.length + 12) ?? '',
    state,
    http.map(({ port, domain }) => (domain === null ? `${port}` : `${domain}:${port}`)).join(', '),
    manifest.slice(0, 14),
  ]);
  const all = [HEAD, ...cells];
  const widths = HEAD.map((_, at) => Math.max(...all.map((row) => row[at]!.length)));
  return all.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at]!))
      .join('   ')
      .trimEnd(),
  );
}
