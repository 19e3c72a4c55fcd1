/** Which app is at the other end of a connection in a VM, and so whose namespace it is in. */
import type { Socket } from 'node:net';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Callers } from '../callers.ts';
import type { Caller } from './types.ts';

/** @throws STORE_NOT_GRANTED for an app whose manifest does not ask for the store, and what identifying it throws */
export async function callerOfApp(callers: Pick<Callers, 'identify'>, socket: Socket): Promise<Caller> {
  const { remoteAddress: remote, localAddress: local } = socket;
  const { app, container, api } = await callers.identify({ remote, local });
  if (!api.includes('store')) {
    throw new DstackError(
      'STORE_NOT_GRANTED',
      `container ${container} of ${app} has no "store" under api in its manifest`,
    );
  }
  return { prefix: utf8(`a/${app}/`), name: app, owner: false };
}
