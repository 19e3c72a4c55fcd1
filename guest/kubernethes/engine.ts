/** What the supervisor needs of a container engine: little, so that another engine is a small file. */
import type { Readable } from 'node:stream';
import type { Container } from '../../lib/protocol/manifest.ts';

/** An app's own bridge network. `gateway` is the guest's address on it. */
export interface AppNetwork {
  name: string;
  gateway: string;
}

export interface ContainerSpec {
  /** Unique on the node. */
  name: string;
  app: string;
  /** Image id, 64 hex digits. */
  image: string;
  /** As the manifest has it: what each of its fields means to an engine is for the engine's file to say. */
  container: Container;
  network: AppNetwork;
  /** The folder of the data disk that it sees as /mnt/encrypted_data; absent without a data disk. */
  data?: string;
}

export interface Running {
  id: string;
  /** IPv4 on the app's network. */
  address: string;
}

/** Every call rejects with a DstackError `ENGINE_…`. */
export interface Engine {
  /** Removes every container and network of apps, which an earlier run of this daemon may have left. */
  clear(): Promise<void>;
  hasImage(digest: string): Promise<boolean>;
  loadImage(archive: Readable): Promise<void>;
  /** Removes all images but these. */
  pruneImages(keep: ReadonlySet<string>): Promise<void>;
  ensureNetwork(app: string): Promise<AppNetwork>;
  removeNetwork(app: string): Promise<void>;
  /** Creates a container without starting it, replacing one of the same name. Resolves to its id. */
  create(spec: ContainerSpec): Promise<string>;
  /** Starts a container, also one that was stopped. It gets a new address each time. */
  start(id: string): Promise<Running>;
  stop(id: string): Promise<void>;
  remove(id: string): Promise<void>;
  isRunning(id: string): Promise<boolean>;
}
