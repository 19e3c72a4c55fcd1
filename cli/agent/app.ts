/** Whose agent a simulated one is: a container of a manifest, as it would run in a VM. */
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  AGENT_API,
  type AgentApi,
  formatManifest,
  MANIFEST_MAX_BYTES,
  manifestHash,
  parseManifest,
  plansOf,
} from '../../lib/protocol/manifest.ts';
import { typed, UsageError } from '../command.ts';

export interface SimulatedApp {
  readonly app: string;
  readonly container: string;
  /** What it may ask. */
  readonly api: readonly AgentApi[];
  readonly manifestHash: Hex;
  /** The manifest itself. */
  readonly text: string;
}

/** An app of this name that may ask everything. @throws USAGE, MANIFEST_MALFORMED */
export function appNamed(app: string): SimulatedApp {
  // Nothing of the image is ever asked for.
  const container = { name: 'app', image: `sha256:${'00'.repeat(32)}`, api: [...AGENT_API] };
  return appOf(
    typed(() => formatManifest({ version: 2, app, containers: [container] })),
    undefined,
  );
}

/**
 * @param container which of the manifest's; it has to be named where several may ask something
 * @throws USAGE, the codes of `parseManifest`, FILE_KIND, FILE_TOO_LARGE, the file system's own errors
 */
export function appFrom(file: string, container: string | undefined): SimulatedApp {
  return appOf(readBounded(file, { maxBytes: MANIFEST_MAX_BYTES, pipes: true }), container);
}

function appOf(bytes: Uint8Array, wanted: string | undefined): SimulatedApp {
  const manifest = parseManifest(bytes);
  const asking = plansOf(manifest).filter(({ api }) => api.length > 0);
  const names = asking.map(({ name }) => name).join(', ');
  if (asking.length === 0)
    throw new UsageError(
      `the manifest of ${manifest.app} lets no container ask for anything: give one "api" (docs/agent.md)`,
    );
  const found = wanted === undefined ? asking : asking.filter(({ name }) => name === wanted);
  if (found.length !== 1)
    throw new UsageError(
      `--container names one of those that may ask something: ${names}${wanted === undefined ? '' : `; not ${wanted}`}`,
    );
  return {
    app: manifest.app,
    container: found[0]!.name,
    api: found[0]!.api,
    manifestHash: toHex(manifestHash(bytes)),
    text: new TextDecoder().decode(bytes),
  };
}
