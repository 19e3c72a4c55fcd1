/**
 * Where an app connects to its agent: a listener that closes for a moment when there are more connections than could be answered.
 *
 * Node takes each connection that the kernel has for it, and taking one and dropping it is work too: an app that connects in a loop has
 * ten thousand a second taken, while other apps wait. Where nobody listens the kernel refuses them, in the app's own time. Connections
 * that are there stay.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Log } from '../../lib/daemon/log.ts';

/** Connections that may come at once, and how many are added to that each second. An app that waits for its answers has dozens a second. */
const AT_ONCE = 128;
const EACH_SECOND = 256;
/** How long nobody listens, milliseconds: for some ten connections, beside which making a listener is little. */
const CLOSED_FOR = 40;
/** After how long it is tried again where none can be made, as without file descriptors. */
const AGAIN_AFTER = 1_000;

export interface DoorOptions {
  /** Has a listener listen, each time in the same place. */
  readonly listen: (listener: Server) => Promise<void>;
  readonly enter: (socket: Socket) => void;
  readonly log: Log<'warn'>;
  /** Whose it is, for the log. */
  readonly of: object;
}

export class Door {
  readonly #options: DoorOptions;
  #listener: Server | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isShut = false;
  #left = AT_ONCE;
  #countedAt = performance.now();

  private constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** Resolves when it listens. @throws what listening throws */
  static async open(options: DoorOptions): Promise<Door> {
    const door = new Door(options);
    await door.#open();
    return door;
  }

  /** Takes no more connections. */
  shut(): void {
    this.#isShut = true;
    clearTimeout(this.#timer);
    this.#listener?.close();
  }

  async #open(): Promise<void> {
    const { listen, enter, log, of } = this.#options;
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#count();
      enter(socket);
    });
    try {
      await listen(listener);
    } catch (error) {
      listener.close();
      throw error;
    }
    this.#listener = listener;
    listener.on('error', (error) => log.warn(of, `socket lost: ${error.message}`));
    // Meanwhile.
    if (this.#isShut) listener.close();
  }

  #count(): void {
    const now = performance.now();
    this.#left = Math.min(AT_ONCE, this.#left + ((now - this.#countedAt) * EACH_SECOND) / 1_000) - 1;
    this.#countedAt = now;
    if (this.#left >= 1 || this.#isShut) return;
    this.#listener?.close();
    this.#openIn(CLOSED_FOR);
  }

  #openIn(milliseconds: number): void {
    this.#timer = setTimeout(() => {
      this.#open().catch((error: Error) => {
        if (this.#isShut) return;
        this.#options.log.warn(this.#options.of, `socket not opened again yet: ${error.message}`);
        this.#openIn(AGAIN_AFTER);
      });
    }, milliseconds);
  }
}

export interface Gateways {
  /** The one that was asked for, or if that is 0 a free one. */
  readonly port: number;
  shut(): void;
}

/**
 * Has an HTTP server answer at gateways, through a door at each.
 * @throws what listening throws, for any of them
 */
export async function openGateways(
  server: Server,
  gateways: readonly string[],
  port: number,
  log: Log<'warn'>,
): Promise<Gateways> {
  let at = port;
  const doors: Door[] = [];
  for (const gateway of gateways)
    doors.push(
      await Door.open({
        async listen(listener) {
          listener.listen(at, gateway);
          await once(listener, 'listening');
          at = (listener.address() as AddressInfo).port;
        },
        enter: (socket) => server.emit('connection', socket),
        ...{ log, of: { gateway } },
      }),
    );
  // It listens nowhere itself, and watches over time-outs from then on.
  server.emit('listening');
  return {
    port: at,
    shut() {
      for (const door of doors) door.shut();
    },
  };
}
