/**
 * dockerode with the bounds that it lacks. It reads replies of any size, and waits for ever when a reply breaks off. So each
 * call gets a client and a connection of its own, and the connection is bounded in bytes and in time.
 */
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { inspect } from 'node:util';
import Docker from 'dockerode';
import type { Static, TSchema } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';

export interface Bounds {
  /** The most bytes of one reply, headers included. */
  bytes: number;
  /** From connecting to the end of the reply. */
  milliseconds: number;
}

export interface BoundedDocker {
  /**
   * Makes one call of the engine's API and checks its reply. `what` finishes the sentence "podman refused to …".
   * @throws EngineRefusal, ENGINE_UNREACHABLE (no whole reply within the bounds), ENGINE_REPLY (not of the schema), and
   * any DstackError that `use` throws
   */
  call<T extends TSchema>(
    what: string,
    reply: T,
    use: (docker: Docker) => Promise<unknown>,
  ): Promise<Static<T>>;
}

/** The engine answered with a status that means refusal. */
export class EngineRefusal extends DstackError {
  readonly status: number;

  constructor(status: number, message: string) {
    super('ENGINE_REFUSED', message);
    this.status = status;
  }
}

/** Returns undefined for these statuses, where other calls would be refused. */
export async function unless<T>(statuses: readonly number[], call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof EngineRefusal && statuses.includes(error.status)) return undefined;
    throw error;
  }
}

/** @param socketPath the engine's API socket */
export function boundedDocker(socketPath: string, bounds: Bounds): BoundedDocker {
  return {
    async call(what, reply, use) {
      const connection = new OneConnection(socketPath, bounds);
      // The connection goes to the socket, whatever DOCKER_HOST says.
      const options: Docker.DockerOptions & { agent: Agent } = {
        socketPath,
        protocol: 'http',
        agent: connection,
      };
      const docker = new Docker(options);
      let value: unknown;
      try {
        value = await Promise.race([use(docker), connection.over]);
      } catch (error) {
        throw explained(error, what, socketPath, connection.problem);
      } finally {
        connection.destroy();
      }
      return check(reply, value, 'ENGINE_REPLY', `podman's reply when asked to ${what}`);
    },
  };
}

function explained(
  error: unknown,
  what: string,
  socketPath: string,
  problem: Error | undefined,
): DstackError {
  if (error instanceof DstackError) return error;
  if (hasStatus(error)) {
    return new EngineRefusal(
      error.statusCode,
      `podman refused to ${what}: ${error.message.slice(0, 300).trim()}`,
    );
  }
  const cause = problem ?? (error as Error);
  const message = `podman does not answer on ${socketPath}: ${cause.message}`;
  return new DstackError('ENGINE_UNREACHABLE', message, { cause });
}

function hasStatus(error: unknown): error is Error & { statusCode: number } {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number';
}

/** Opens the connection of one call, and ends it when it exceeds a bound. */
class OneConnection extends Agent {
  readonly #socketPath: string;
  readonly #bounds: Bounds;
  readonly #over = Promise.withResolvers<never>();
  /** Why the connection was ended, if it was. */
  problem: Error | undefined;

  constructor(socketPath: string, bounds: Bounds) {
    super({ keepAlive: false });
    this.#socketPath = socketPath;
    this.#bounds = bounds;
  }

  /** Rejects when the connection has closed, after whoever waits for the reply has seen its end. */
  get over(): Promise<never> {
    return this.#over.promise;
  }

  override createConnection(): Socket {
    const { bytes, milliseconds } = this.#bounds;
    const socket = connect(this.#socketPath);
    const end = (why: string) => {
      this.problem ??= new Error(why);
      socket.destroy(this.problem);
    };
    const timer = setTimeout(() => end(`no whole reply in ${milliseconds / 1000} s`), milliseconds);
    socket.on('data', () => {
      if (socket.bytesRead > bytes) end(`its reply has more than ${bytes} bytes`);
    });
    socket.on('close', () => {
      clearTimeout(timer);
      setImmediate(() =>
        this.#over.reject(this.problem ?? new Error('it hung up in the middle of its reply')),
      );
    });
    return socket;
  }

  /** dockerode's transport formats all its options before every request, for a debug log that is off. */
  [inspect.custom](): string {
    return 'OneConnection';
  }
}
