/**
 * What containers get at /run/secrets. The host volume has what the owner sealed (lib/protocol/app-secrets.ts), under its SHA-256; the
 * manifest, which the contract names, says which hash is which secret; the replicator opens it. The values are files of this daemon's
 * own, in the VM's memory, and get to a container by a mount: nothing of them is in an environment, an argument, the engine's own
 * files, a log or a status.
 *
 * A manifest's are in `<folder>/<manifest hash>/<container>/<name>`, under that name once all of them are there. They stay for as
 * long as the manifest is needed: a new start of this daemon or of a container, and going back, ask nothing of host and replicator.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import {
  type AppSecret,
  type ContainerPlan,
  type Manifest,
  plansOf,
  secretsOf,
} from '../../lib/protocol/manifest.ts';
import { ENVELOPE_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import type { Engine, SecretsFolder } from './engine.ts';
import { readHostFile } from './host-files.ts';

export interface Secrets {
  /**
   * Fetches and opens the secrets of a manifest's containers, once their images are in the engine.
   * @throws SECRET_MISSING, SECRET_NOT_REGULAR, SECRET_TOO_LARGE, SECRET_UNREADABLE, SECRET_HASH_MISMATCH, SECRET_USER, and what `open` does
   */
  prepare(hash: Hex, manifest: Manifest): Promise<void>;
  /** One secret's value, for the node's signer. @throws as `prepare`, but for SECRET_USER */
  value(app: string, secret: AppSecret): Promise<Uint8Array>;
  /** What one of its containers gets. @throws SECRET_USER */
  of(hash: Hex, plan: ContainerPlan): Promise<SecretsFolder | undefined>;
  /** Removes those of all other manifests. */
  prune(hashes: ReadonlySet<Hex>): void;
}

export interface SecretsOptions {
  readonly engine: Pick<Engine, 'imageUser'>;
  readonly hostVolume: string;
  /** In memory, and closed to every other user. */
  readonly folder: string;
  /** The replicator's part. @throws SECRET_MALFORMED, SECRET_WRONG_…, SECRET_UNOPENABLE */
  open(app: string, name: string, envelope: Uint8Array): Promise<Uint8Array>;
}

const DRAFT = '.draft';

export function secretsIn({ engine, hostVolume, folder, open }: SecretsOptions): Secrets {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const folderOf = (hash: Hex) => join(folder, toHex(fromHex(hash, 32)));
  const remove = (path: string) => rmSync(path, { recursive: true, force: true });
  for (const name of readdirSync(folder).filter((name) => name.endsWith(DRAFT))) remove(join(folder, name));

  async function opened(app: string, { name, envelope }: AppSecret): Promise<Uint8Array> {
    const path = join(hostVolume, 'secrets', `${toHex(fromHex(envelope, 32))}.json`);
    const bytes = await readHostFile(path, 'SECRET', ENVELOPE_MAX_BYTES);
    const actual = toHex(sha256(bytes));
    if (actual !== envelope) {
      throw new DstackError(
        'SECRET_HASH_MISMATCH',
        `${path} hashes to ${actual}; replace it with the envelope that the manifest names`,
      );
    }
    return open(app, name, bytes);
  }

  /** Who a container's files belong to. A name would mean what a file in the image says, and nobody but the engine reads that. */
  async function userOf({ name, image, user }: ContainerPlan): Promise<number> {
    const text = user ?? (await engine.imageUser(image));
    const digits = /^(\d{1,5})?(:.*)?$/.exec(text);
    if (digits !== null) return Number(digits[1] ?? 0);
    throw new DstackError(
      'SECRET_USER',
      `container ${name} runs as ${JSON.stringify(text.slice(0, 40))}, as its image has it, and its secrets need an owner by number: give it a user in digits`,
    );
  }

  return {
    async prepare(hash, manifest) {
      const plans = plansOf(manifest).filter(({ secrets }) => secrets.length > 0);
      for (const plan of plans) await userOf(plan);
      const target = folderOf(hash);
      if (plans.length === 0 || existsSync(target)) return;
      const values = new Map<string, Uint8Array>();
      const draft = `${target}${DRAFT}`;
      try {
        for (const secret of secretsOf(manifest)) values.set(secret.name, await opened(manifest.app, secret));
        remove(draft);
        for (const { name: container, secrets } of plans) {
          const own = join(draft, container);
          mkdirSync(own, { recursive: true, mode: 0o700 });
          for (const { name } of secrets)
            writeFileSync(join(own, name), values.get(name)!, { flag: 'wx', mode: 0o400 });
          // Any process of the container may see which there are, as with Docker.
          chmodSync(own, 0o755);
        }
        renameSync(draft, target);
      } catch (error) {
        remove(draft);
        throw error;
      } finally {
        for (const value of values.values()) value.fill(0);
      }
    },

    value: opened,

    async of(hash, plan) {
      if (plan.secrets.length === 0) return undefined;
      return { folder: join(folderOf(hash), plan.name), user: await userOf(plan) };
    },

    prune(hashes) {
      for (const name of readdirSync(folder))
        if (!hashes.has(name.replace(DRAFT, '') as Hex)) remove(join(folder, name));
    },
  };
}
