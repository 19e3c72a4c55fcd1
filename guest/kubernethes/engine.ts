/** What the supervisor needs of a container engine: little, so that another engine is a small file. */
import type { Hex } from '../../lib/protocol/hex.ts';
import type { ContainerPlan } from '../../lib/protocol/manifest.ts';

/** An app's own bridge network. `gateway` is the guest's address on it. */
export interface AppNetwork {
  name: string;
  gateway: string;
}

export interface ContainerSpec {
  /** Unique on the node. */
  name: string;
  app: string;
  /** The hash of its manifest. */
  manifest: Hex;
  /** Image id, 64 hex digits. */
  image: string;
  /** As the manifest has it: what each of its fields means to an engine is for the engine's file to say. */
  container: ContainerPlan;
  network: AppNetwork;
  /** Its number on the network, of which its addresses are made (bridges.ts). */
  number: number;
  /** Every container of the app's manifest: addresses by name. */
  siblings: Readonly<Record<string, string>>;
  storage: Storage;
  secrets?: SecretsFolder | undefined;
}

/** What a container gets at /run/secrets: a folder of this daemon's, of which it sees everything as its own user's. */
export interface SecretsFolder {
  readonly folder: string;
  /** The container's user, as the container counts. */
  readonly user: number;
}

/** What a container gets of the node: folders of its, none for what it did not ask for. */
export interface Storage {
  /** With the agent's socket for it. */
  readonly agent?: string;
  /** The app's folder of the data disk; absent without a data disk. */
  readonly data?: string;
  /** Its own folders of the data disk, by where it sees them. */
  readonly volumes: Readonly<Record<string, string>>;
  /** The app's folder of the host volume, every byte of which is the host's. */
  readonly hostVolume?: string;
}

export interface Running {
  id: string;
  /** IPv4 on the app's network. */
  address: string;
}

/** A container that an earlier run of this daemon made. */
export interface Found {
  id: string;
  app: string;
  manifest: Hex;
  /** Its name in the manifest. */
  container: string;
  running: boolean;
  /** Its number on its app's network. */
  number: number;
  /** Unix seconds. */
  created: number;
}

/** Every call rejects with a DstackError `ENGINE_…`. */
export interface Engine {
  /** Every container of apps, running or not. */
  list(): Promise<Found[]>;
  hasImage(digest: string): Promise<boolean>;
  /** The paths at which an image wants storage of its own (`VOLUME`), outside of any limit. */
  imageVolumes(digest: string): Promise<string[]>;
  /** The user that an image's containers run as, as the image has it: ids, names, or nothing, which is root. */
  imageUser(digest: string): Promise<string>;
  /**
   * Whether what the engine reads of an image by itself, such as who its users are, is what it should be: it would wait for ever for what
   * a FIFO in the place of such a file gives it, and would let nobody else near its containers meanwhile.
   * @throws IMAGE_FILES
   */
  assertReadable(digest: string): Promise<void>;
  /** Removes what an `assertReadable` left that was killed: it would keep its image from being pruned. */
  removeLooks(): Promise<void>;
  /** @param reference of an offer (handover.ts) */
  pullImage(reference: string): Promise<void>;
  /** Removes all images but those that `keep` says yes to, which is asked right before each. */
  pruneImages(keep: (digest: string) => boolean): Promise<void>;
  ensureNetwork(app: string): Promise<AppNetwork>;
  removeNetwork(app: string): Promise<void>;
  removeNetworksExcept(apps: ReadonlySet<string>): Promise<void>;
  /** Creates a container without starting it, replacing one of the same name. Resolves to its id. */
  create(spec: ContainerSpec): Promise<string>;
  /** Starts a container, also one that was stopped: at the same address each time. */
  start(id: string): Promise<Running>;
  /** @param seconds how long it may take to end by itself */
  stop(id: string, seconds: number): Promise<void>;
  remove(id: string): Promise<void>;
  isRunning(id: string): Promise<boolean>;
  /** Of one that has ended; undefined while it runs, and when it is gone. */
  exitCode(id: string): Promise<number | undefined>;
  /**
   * Runs a command in a container. Resolves to its exit code; undefined when it has none in time, and may still run. While it does, no
   * other one is run in that container: undefined at once.
   */
  runIn(id: string, command: readonly string[], seconds: number): Promise<number | undefined>;
  /** The last lines that a container wrote, each cut to a few hundred characters. */
  logs(id: string, lines: number): Promise<string[]>;
}
