/**
 * The archive: what an audit reads, kept for ever. Requests that were answered, answers, bootstrap packages, and the
 * network.json behind a config hash. Requests that nobody answered are not here: anyone can register one, and the chain's
 * events name it. One JSON file each, so that they can be copied, served and verified without this program.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { dropDrafts, writeDurably } from '../../lib/daemon/durable-file.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { addressKey } from '../../lib/protocol/hex.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type RequestMessage,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { messageId } from '../gossip/message-kind.ts';

type Archived = RequestMessage | AnswerMessage | BootstrapPackage;

/** The only names there are: what is served can't leave the folder. */
export const ARCHIVED_NAME =
  /^(request|answer)-[0-9a-f]{64}-[0-9a-f]{16}\.json$|^bootstrap-0x[0-9a-f]{40}(-[0-9a-f]{16})?\.json$|^config-[0-9a-f]{64}\.json$/;

/**
 * The archive in a relay's state directory. Earlier releases called the folder `records`: it is renamed.
 */
export function archiveIn(stateDir: string): Archive {
  const [directory, former] = [join(stateDir, 'archive'), join(stateDir, 'records')];
  if (existsSync(former) && !existsSync(directory)) renameSync(former, directory);
  return new Archive(directory);
}

export class Archive {
  readonly directory: string;
  /** The names in order, and when the folder had last changed. Anyone may list it, and reading a large folder takes long. */
  #listed: { names: readonly string[]; changed: bigint } | undefined;

  /** @param directory created if missing */
  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true });
    dropDrafts(directory);
  }

  /** Durable when it returns. Returns the file's path. */
  keep(message: Archived): string {
    const path = join(this.directory, nameOf(message));
    if (!existsSync(path)) this.#write(path, message);
    return path;
  }

  /**
   * Keeps a bootstrap package, and makes it `bootstrap-<network key>.json`, the newest: a node makes a new one as blocks pass,
   * and the owner should post a recent one. Returns the path of that file.
   */
  keepBootstrap(message: BootstrapPackage): string {
    const newest = join(this.directory, `bootstrap-${addressKey(message.networkKey)}.json`);
    if (!existsSync(join(this.directory, nameOf(message))) || !existsSync(newest)) {
      this.#write(newest, message);
      this.keep(message);
    }
    return newest;
  }

  /**
   * Keeps a network.json under its config hash, byte for byte: whoever wants to join needs exactly those bytes, and an audit
   * needs what the hash on chain stands for. Returns the file's path.
   */
  keepConfig(bytes: Uint8Array): string {
    const path = join(this.directory, archivedConfig(toHex(configHash(bytes))));
    if (!existsSync(path)) this.#writeBytes(path, bytes);
    return path;
  }

  #write(path: string, message: Archived): void {
    this.#writeBytes(path, utf8(`${JSON.stringify(message, null, 2)}\n`));
  }

  #writeBytes(path: string, bytes: Uint8Array): void {
    writeDurably(path, bytes);
    // A file system's clock may be too coarse to tell this change from the one before.
    this.#listed = undefined;
  }

  /** Whether a version of this request is kept. @param requestHash 64 hex digits */
  hasRequest(requestHash: string): boolean {
    const name = `request-${requestHash}-`;
    return this.list(name, 1)[0]?.startsWith(name) ?? false;
  }

  /** Names in order, after `after`, at most `limit`. */
  list(after = '', limit = 1000): string[] {
    const names = this.#names();
    const from = firstAfter(names, after);
    return names.slice(from, from + limit);
  }

  #names(): readonly string[] {
    // Before the folder is read: a change in between makes the next call read it again.
    const changed = statSync(this.directory, { bigint: true }).mtimeNs;
    if (this.#listed?.changed !== changed) {
      const names = readdirSync(this.directory).filter((name) => ARCHIVED_NAME.test(name));
      this.#listed = { names: names.sort(), changed };
    }
    return this.#listed.names;
  }

  /** Whether a file of this name is kept. */
  has(name: string): boolean {
    return ARCHIVED_NAME.test(name) && existsSync(join(this.directory, name));
  }

  /** Up to so many bytes of a file from one on, and how many it has; undefined for a name that is not in the archive. */
  part(name: string, at: number, most: number): { length: number; bytes: Uint8Array } | undefined {
    const path = join(this.directory, name);
    if (!ARCHIVED_NAME.test(name) || !existsSync(path)) return undefined;
    const file = openSync(path, 'r');
    try {
      const length = fstatSync(file).size;
      const bytes = new Uint8Array(Math.max(0, Math.min(most, length - at)));
      const read = readSync(file, bytes, 0, bytes.length, at);
      return { length, bytes: bytes.subarray(0, read) };
    } finally {
      closeSync(file);
    }
  }

  /** The file's text; undefined for a name that is not in the archive. */
  read(name: string): string | undefined {
    const path = join(this.directory, name);
    return ARCHIVED_NAME.test(name) && existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  }
}

/** The name of the file with the network.json of this hash. @param config 64 hex digits */
export const archivedConfig = (config: string): string => `config-${config}.json`;

/** The index of the first name in a sorted list that comes after `name`. */
function firstAfter(names: readonly string[], name: string): number {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle]! > name) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The name says what the message is about and, since there can be several versions, which one it is (by its own hash). */
export function nameOf(message: Archived): string {
  const version = messageId(message).slice(0, 16);
  switch (message.type) {
    case 'bootstrap':
      return `bootstrap-${addressKey(message.networkKey)}-${version}.json`;
    case 'request':
      return `request-${toHex(requestOf(message).hash)}-${version}.json`;
    case 'answer':
      return `answer-${message.requestHash}-${version}.json`;
  }
}
