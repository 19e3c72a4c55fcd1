/**
 * What an app may run next: manifests that are fetched, their images loaded and their secrets opened, before anything of the app changes.
 * The host may delay all of that, so it happens beside whatever else the app does.
 */
import type { Hex } from '../../lib/protocol/hex.ts';
import { domainsOf, type Manifest, plansOf } from '../../lib/protocol/manifest.ts';
import { type Fetcher, ManifestRefused } from './deployment.ts';
import type { Secrets } from './secrets.ts';

export interface PreparationsOptions {
  readonly fetcher: Fetcher;
  readonly secrets: Pick<Secrets, 'prepare'>;
}

interface Preparation {
  state: 'running' | 'ready';
  /** From when it was read. */
  manifest?: Manifest;
  done: Promise<void>;
}

export class Preparations {
  readonly #app: string;
  readonly #options: PreparationsOptions;
  readonly #under = new Map<Hex, Preparation>();
  /** The domains that a manifest names; none for one that no node runs. */
  readonly #domains = new Map<Hex, readonly string[]>();

  constructor(app: string, options: PreparationsOptions) {
    this.#app = app;
    this.#options = options;
  }

  /** Whether it is under way or done. */
  has(hash: Hex): boolean {
    return this.#under.has(hash);
  }

  /** Fetches and loads. @param ended is told once: without an error when all is there. What failed is forgotten, to be begun again */
  begin(hash: Hex, ended: (error?: unknown) => void): void {
    const preparation: Preparation = { state: 'running', done: Promise.resolve() };
    this.#under.set(hash, preparation);
    preparation.done = this.#fetch(hash, preparation).then(
      () => {
        preparation.state = 'ready';
        ended();
      },
      (error: unknown) => {
        this.#under.delete(hash);
        ended(error);
      },
    );
  }

  /** Of which everything is there. */
  ready(hash: Hex): Manifest | undefined {
    const preparation = this.#under.get(hash);
    return preparation?.state === 'ready' ? preparation.manifest : undefined;
  }

  /** The domains that a manifest names, once that is known. */
  domains(hash: Hex): readonly string[] | undefined {
    return this.#domains.get(hash);
  }

  /** Those whose images must not be tidied away. */
  manifests(): { readonly hash: Hex; readonly manifest: Manifest }[] {
    return [...this.#under].flatMap(([hash, { manifest }]) =>
      manifest === undefined ? [] : [{ hash, manifest }],
    );
  }

  /** What the engine has may have changed: the next attempt looks again. */
  drop(hash: Hex): void {
    this.#under.delete(hash);
  }

  /** Lets go of all but these, and of what is under way once it has ended. */
  keepOnly(hashes: ReadonlySet<Hex | undefined>): void {
    for (const hash of this.#domains.keys()) if (!hashes.has(hash)) this.#domains.delete(hash);
    for (const [hash, { state }] of this.#under)
      if (!hashes.has(hash) && state === 'ready') this.#under.delete(hash);
  }

  /** Undefined when nothing is under way; else resolves when that has ended. */
  underWay(): Promise<unknown> | undefined {
    const running = [...this.#under.values()].filter(({ state }) => state === 'running');
    return running.length === 0 ? undefined : Promise.all(running.map(({ done }) => done));
  }

  async #fetch(hash: Hex, preparation: Preparation): Promise<void> {
    const { fetcher, secrets } = this.#options;
    const manifest = await fetcher.manifest(this.#app, hash).catch((error: unknown) => {
      if (error instanceof ManifestRefused) this.#domains.set(hash, []);
      throw error;
    });
    this.#domains.set(hash, domainsOf(manifest));
    preparation.manifest = manifest;
    for (const { image, tmpfs, volumes } of plansOf(manifest))
      await fetcher.image(image, [...Object.keys(tmpfs), ...Object.keys(volumes)]);
    await secrets.prepare(hash, manifest);
  }
}
