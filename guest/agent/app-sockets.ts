/**
 * The sockets of apps: a folder for each container of each manifest, mounted into it, with a socket that is the agent's. Who a caller is
 * follows from the socket alone.
 *
 * The folder is what is mounted, not the socket: a mounted file would stay the one of an agent that is gone. So folders stay for as long as
 * a container of theirs may run, and an agent that is started again puts its own sockets into those that are there.
 *
 * Nobody in the VM but the agent (and root) gets to them: the folder above is closed. In a container everybody may connect, whose ids are
 * another's than the agent's; the mount is read-only, so none can put another socket there.
 */
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { fromHex, lengthPrefixed, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import type { AppFolderRequest, ContainersReply } from '../../lib/protocol/sockets.ts';
import type { Door, Doors } from './door.ts';

/** In a container's folder. The second is what the older of the ecosystem's clients look for. */
export const SOCKET = 'dstack.sock';
export const OLDER = 'tappd.sock';
/** How long a folder stays that no container needs any more: kubernethes may be starting again, and know of none yet. Milliseconds. */
const KEPT = 600_000;

interface Opened {
  of: AppFolderRequest;
  readonly door: Door;
  neededAt: number;
}

export class AppSockets {
  readonly #root: string;
  readonly #server: HttpServer;
  readonly #doors: Doors;
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #opened = new Map<string, Promise<Opened>>();
  readonly #owners = new WeakMap<Socket, AppFolderRequest>();

  /** @param root the folder of all folders, made if it is not there @param server takes the connections */
  constructor(root: string, server: HttpServer, doors: Doors, now = () => performance.now()) {
    this.#root = root;
    this.#server = server;
    this.#doors = doors;
    this.#now = now;
    this.#startedAt = now();
    mkdirSync(root, { recursive: true });
    chmodSync(root, 0o700);
  }

  /** Whose socket a connection came by; undefined for one from a bridge. */
  ownerOf(socket: Socket): AppFolderRequest | undefined {
    return this.#owners.get(socket);
  }

  /** The folder of one container, with a socket that listens. @throws what listening throws */
  async open(of: AppFolderRequest): Promise<string> {
    const id = idOf(of);
    let opening = this.#opened.get(id);
    if (opening === undefined) {
      opening = this.#listen(id, of);
      this.#opened.set(id, opening);
      opening.catch(() => this.#opened.delete(id));
    }
    const opened = await opening;
    // It was removed meanwhile.
    if (this.#opened.get(id) !== opening) return this.open(of);
    opened.neededAt = this.#now();
    // The same manifest may come back on another bridge.
    opened.of = of;
    return join(this.#root, id);
  }

  /**
   * Opens what containers that run need, and removes what none has needed for a while. One that can't be opened holds up no other.
   * @throws what opening the first such one throws
   */
  async follow({ containers, manifests }: ContainersReply): Promise<void> {
    const problems: unknown[] = [];
    for (const { app, manifestHash, container, gateway, api } of containers)
      if (api.length > 0)
        await this.open({ app, manifestHash, container, gateway }).catch((error) => problems.push(error));
    if (this.#now() - this.#startedAt >= KEPT) this.#removeStrangers();
    const needed = new Set<string>(manifests);
    for (const [id, opening] of this.#opened) {
      const opened = await opening.catch(() => undefined);
      if (opened === undefined) continue;
      if (needed.has(opened.of.manifestHash)) opened.neededAt = this.#now();
      if (this.#now() - opened.neededAt < KEPT) continue;
      this.#opened.delete(id);
      opened.door.shut();
      rmSync(join(this.#root, id), { recursive: true, force: true });
    }
    if (problems.length > 0) throw problems[0];
  }

  /** Takes no more connections. Folders stay, for the agent that comes next. */
  async close(): Promise<void> {
    for (const opening of this.#opened.values()) (await opening).door.shut();
    this.#opened.clear();
  }

  /** Removes folders of an earlier agent that nobody has asked for. */
  #removeStrangers(): void {
    for (const name of readdirSync(this.#root))
      if (!this.#opened.has(name)) rmSync(join(this.#root, name), { recursive: true, force: true });
  }

  async #listen(id: string, of: AppFolderRequest): Promise<Opened> {
    const folder = join(this.#root, id);
    mkdirSync(folder, { recursive: true });
    // Not left to the umask: in the container everybody is another user.
    chmodSync(folder, 0o755);
    const door = await this.#doors.open({
      // Nobody comes before it listens, and then it is there.
      app: () => opened.of.gateway,
      listen: (listener) => listenIn(folder, listener),
      enter: (socket) => {
        this.#owners.set(socket, opened.of);
        this.#server.emit('connection', socket);
      },
      of: { app: of.app },
    });
    const opened: Opened = { of, door, neededAt: this.#now() };
    if (!existsSync(join(folder, OLDER))) {
      rmSync(join(folder, OLDER), { force: true });
      symlinkSync(SOCKET, join(folder, OLDER));
    }
    return opened;
  }
}

/** Made beside its place and then moved, so that there is never none, and never one that nobody may use. */
async function listenIn(folder: string, listener: Server): Promise<void> {
  const draft = join(folder, `${SOCKET}.new`);
  rmSync(draft, { force: true });
  listener.listen(draft);
  await once(listener, 'listening');
  chmodSync(draft, 0o666);
  renameSync(draft, join(folder, SOCKET));
}

/** Short, because a socket's path has 107 bytes at most; and of one form, whatever the names are. */
const idOf = ({ app, manifestHash, container }: AppFolderRequest): string =>
  toHex(sha256(lengthPrefixed([utf8(app), fromHex(manifestHash), utf8(container)]))).slice(0, 32);
