/** The byte stream to the quoting service: a virtio-serial port in a VM, a unix socket without one. */
import { constants } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DstackError } from '../../lib/protocol/errors.ts';
import { QUOTING_PORT } from '../../lib/protocol/quoting-messages.ts';

export interface Channel {
  /** All of `bytes`. `deadline` in milliseconds of performance.now(). @throws QUOTING_TIMEOUT, QUOTING_UNREACHABLE */
  write(bytes: Uint8Array, deadline: number): Promise<void>;
  /** Whatever has arrived, at least one byte. @throws as write */
  read(deadline: number): Promise<Uint8Array>;
}

const POLL_MS = 5;
const READ_BYTES = 16_384;
/** The driver announces ports a little after it is loaded, and this daemon starts early. */
const PORT_WITHIN_MS = 15_000;
const PORT_POLL_MS = 50;

/**
 * The port named `dstack.quote`.
 *
 * It is opened non-blocking and polled while an answer is awaited: a blocked read would hold a thread of the runtime for
 * as long as the host likes, and could not time out.
 * @param portWithin milliseconds to wait for the port to appear
 * @throws PORT_MISSING
 */
export async function openPort(
  portsDirectory: string,
  devDirectory: string,
  portWithin: number = PORT_WITHIN_MS,
): Promise<Channel> {
  const name = await findPort(portsDirectory, performance.now() + portWithin);
  const handle = await open(join(devDirectory, name), constants.O_RDWR | constants.O_NONBLOCK);
  const buffer = new Uint8Array(READ_BYTES);

  /** Repeats `attempt` until it moved at least one byte. The driver says 0 while the host is not connected. */
  async function poll(attempt: () => Promise<number>, deadline: number): Promise<number> {
    for (;;) {
      const moved = await attempt().catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 0;
        throw new DstackError('QUOTING_UNREACHABLE', `the port ${QUOTING_PORT} failed`, { cause: error });
      });
      if (moved > 0) return moved;
      if (performance.now() > deadline) throw timeout();
      await sleep(POLL_MS);
    }
  }

  return {
    async write(bytes, deadline) {
      let rest = bytes;
      while (rest.length > 0) {
        const part = rest;
        const written = await poll(async () => (await handle.write(part)).bytesWritten, deadline);
        rest = rest.subarray(written);
      }
    },
    async read(deadline) {
      const length = await poll(
        async () => (await handle.read(buffer, 0, READ_BYTES, null)).bytesRead,
        deadline,
      );
      return buffer.slice(0, length);
    },
  };
}

/** Name of the device node: the ports are numbered as the host likes, the name is what we agreed on. */
async function findPort(portsDirectory: string, deadline: number): Promise<string> {
  for (;;) {
    for (const port of await readdir(portsDirectory).catch(() => [])) {
      const name = await readFile(join(portsDirectory, port, 'name'), 'utf8').catch(() => '');
      if (name.trim() === QUOTING_PORT) return port;
    }
    if (performance.now() > deadline) {
      throw new DstackError(
        'PORT_MISSING',
        `no virtio-serial port is named ${QUOTING_PORT}; QEMU was started without it`,
      );
    }
    await sleep(PORT_POLL_MS);
  }
}

/** The quoting service itself, by its socket. @throws QUOTING_UNREACHABLE */
export async function openSocket(path: string): Promise<Channel> {
  const socket = connect(path);
  const unreachable = (cause?: unknown) =>
    new DstackError('QUOTING_UNREACHABLE', `the quoting service at ${path} is not there`, { cause });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) => reject(unreachable(cause)));
  });
  const chunks = (socket as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  // A read that timed out is still under way; the next one must wait for the same.
  let pending: Promise<IteratorResult<Uint8Array>> | undefined;

  return {
    write: (bytes, deadline) =>
      within(
        deadline,
        new Promise<void>((resolve, reject) => {
          socket.write(bytes, (cause) => (cause ? reject(unreachable(cause)) : resolve()));
        }),
      ),
    async read(deadline) {
      pending ??= chunks.next();
      const chunk = await within(
        deadline,
        pending.catch((cause: unknown) => {
          throw unreachable(cause);
        }),
      );
      pending = undefined;
      if (chunk.done === true) throw unreachable();
      return chunk.value;
    },
  };
}

/** `work`, or QUOTING_TIMEOUT when it is not done by `deadline`. */
async function within<T>(deadline: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(Math.max(0, deadline - performance.now()), undefined, { signal: timer.signal }).then(
    () => {
      throw timeout();
    },
  );
  // The loser of the race is rejected by abort(); nobody waits for it any more.
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

function timeout(): DstackError {
  return new DstackError('QUOTING_TIMEOUT', 'the quoting service did not answer in time');
}
