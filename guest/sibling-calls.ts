/** How a daemon of the guest calls the others: JSON over their sockets, each answer checked by its schema. */
import { join } from 'node:path';
import type { Static, TSchema } from 'typebox';
import { callUnix } from '../lib/daemon/unix-http.ts';

const WITHIN = 20_000;

/** A GET without a body, a POST with one. @param timeout milliseconds. @throws as `callUnix` */
export type SiblingCall = <T extends TSchema>(
  socket: string,
  route: string,
  reply: T,
  body?: unknown,
  timeout?: number,
) => Promise<Static<T>>;

/**
 * @param root prefix of every path
 * @param connectWithin how long a daemon that does not listen yet is waited for, milliseconds
 */
export const siblingCalls =
  (root: string, connectWithin = 0): SiblingCall =>
  (socket, route, reply, body, timeout = WITHIN) =>
    callUnix({
      path: join(root, 'run/dstack', socket),
      method: body === undefined ? 'GET' : 'POST',
      ...{ route, reply, timeout, connectWithin },
      ...(body === undefined ? {} : { body }),
    });
