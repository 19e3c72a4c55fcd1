/**
 * Open streams of server-sent events (HTML Living Standard, section 9.2). What is sent is made once, whoever many read it; the
 * number of streams is bounded, and a reader that does not keep up is cut off: it comes again, and begins with the whole state.
 */
import type { ServerResponse } from 'node:http';
import { DstackError } from '../../lib/protocol/errors.ts';

export interface StreamLimits {
  readonly streams: number;
  /** Bytes that a reader may be behind. */
  readonly behind: number;
  /** Milliseconds between signs of life; proxies and the relay's own listener cut off what is silent for a minute. */
  readonly heartbeat: number;
}

export const STREAM_LIMITS: StreamLimits = { streams: 64, behind: 4 * 1024 * 1024, heartbeat: 15_000 };

export class Streams {
  readonly #limits: StreamLimits;
  readonly #open = new Set<ServerResponse>();
  readonly #changed: (open: number) => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param changed is told how many streams are open, each time that changes */
  constructor(changed: (open: number) => void = () => {}, limits: StreamLimits = STREAM_LIMITS) {
    this.#changed = changed;
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** To be called before anything is done for a reader. @throws DASHBOARD_FULL */
  requireRoom(): void {
    const { streams } = this.#limits;
    if (this.#open.size < streams) return;
    throw new DstackError(
      'DASHBOARD_FULL',
      `${streams} dashboards are open already, as many as this relay serves: close one, or read GET /dashboard/state`,
    );
  }

  /** The response is the stream's from here on. @param first what it begins with. @throws DASHBOARD_FULL */
  open(response: ServerResponse, headers: Readonly<Record<string, string>>, first: Buffer): void {
    this.requireRoom();
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream; charset=utf-8' });
    this.#open.add(response);
    response.once('close', () => this.#leave(response));
    // What is written to a reader that is gone has no other way to say so.
    response.on('error', () => this.#leave(response));
    // An event and no comment, which a page is not told of: a relay that hangs is told from one with nothing new by it alone.
    const beat = frameOf('beat', String(this.#limits.heartbeat));
    this.#timer ??= setInterval(() => this.send(beat), this.#limits.heartbeat);
    this.#changed(this.#open.size);
    response.write(Buffer.concat([first, beat]));
  }

  /** The same bytes to all. */
  send(frame: Buffer): void {
    for (const response of this.#open) {
      if (response.writableLength > this.#limits.behind) {
        response.destroy();
        this.#leave(response);
      } else response.write(frame);
    }
  }

  close(): void {
    for (const response of this.#open) {
      response.destroy();
      this.#leave(response);
    }
  }

  #leave(response: ServerResponse): void {
    if (!this.#open.delete(response)) return;
    if (this.#open.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    this.#changed(this.#open.size);
  }
}

/** One event. JSON has no line break, so one `data` line is enough. */
export function frameOf(event: string, json: string): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${json}\n\n`);
}
