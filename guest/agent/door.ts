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
import { RateLimit } from '../../lib/daemon/rate-limit.ts';

/** Connections that an app may make at once, and how many are added to that each second. One that waits for its answers makes dozens a second. */
const CONNECTIONS = { burst: 128, perSecond: 256 };
/** How long nobody listens, milliseconds: for some ten connections, beside which making a listener is little. */
const CLOSED_FOR = 40;
/** After how long it is tried again where none can be made, as without file descriptors. */
const AGAIN_AFTER = 1_000;

interface DoorOptions {
  /** What all doors of an app have in common: the gateway of its bridge, which may become another. */
  readonly app: () => string;
  /** Has a listener listen, each time in the same place. */
  readonly listen: (listener: Server) => Promise<void>;
  readonly enter: (socket: Socket) => void;
  /** For the log. */
  readonly of: object;
}

/** The doors of all apps. */
export class Doors {
  readonly #log: Log<'warn'>;
  /** What an app has left of its connections, at all of its doors: it chooses how many containers it has. */
  readonly #limit = new RateLimit({ ...CONNECTIONS, now: () => performance.now() });

  constructor(log: Log<'warn'>) {
    this.#log = log;
  }

  /** Resolves when it listens. @throws what listening throws */
  async open(options: DoorOptions): Promise<Door> {
    // The bridge that an app had may be another's by now, who must not pay for it.
    const door = new Door(options, () => this.mayEnter(options.app()), this.#log);
    await door.open();
    return door;
  }

  /** Counts a connection of an app. @returns whether there may be another now */
  mayEnter(app: string): boolean {
    this.#limit.take(app);
    return this.#limit.has(app, 1);
  }
}

export class Door {
  readonly #options: DoorOptions;
  readonly #mayEnter: () => boolean;
  readonly #log: Log<'warn'>;
  #listener: Server | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isShut = false;

  constructor(options: DoorOptions, mayEnter: () => boolean, log: Log<'warn'>) {
    this.#options = options;
    this.#mayEnter = mayEnter;
    this.#log = log;
  }

  /** Takes no more connections. */
  shut(): void {
    this.#isShut = true;
    clearTimeout(this.#timer);
    this.#listener?.close();
  }

  /** @throws what listening throws */
  async open(): Promise<void> {
    const { listen, enter, of } = this.#options;
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
    listener.on('error', (error) => this.#log.warn(of, `socket lost: ${error.message}`));
    // Meanwhile.
    if (this.#isShut) listener.close();
  }

  #count(): void {
    if (this.#mayEnter() || this.#isShut) return;
    this.#listener?.close();
    this.#openIn(CLOSED_FOR);
  }

  #openIn(milliseconds: number): void {
    this.#timer = setTimeout(() => {
      this.open().catch((error: Error) => {
        if (this.#isShut) return;
        this.#log.warn(this.#options.of, `socket not opened again yet: ${error.message}`);
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
  opener: Doors,
  gateways: readonly string[],
  port: number,
): Promise<Gateways> {
  let at = port;
  const doors: Door[] = [];
  for (const gateway of gateways)
    doors.push(
      await opener.open({
        app: () => gateway,
        async listen(listener) {
          listener.listen(at, gateway);
          await once(listener, 'listening');
          at = (listener.address() as AddressInfo).port;
        },
        enter: (socket) => server.emit('connection', socket),
        of: { gateway },
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
