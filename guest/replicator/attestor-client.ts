/** The attestor as the replicator sees it, over its socket. */

import { callUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import { AttestorStatusReply, FirmwareLogReply, QuoteReply } from '../../lib/protocol/sockets.ts';
import type { Attestor } from './attestor.ts';

export function attestorClient(path: string): Attestor {
  return {
    async quote(reportData) {
      const body = { reportData: toHex(reportData) };
      const reply = await callUnix({
        path,
        method: 'POST',
        route: '/v1/quote',
        body,
        reply: QuoteReply,
        connectWithin: 60_000,
        // On TDX a quote takes seconds, and while the host is busy the attestor keeps trying for a while.
        timeout: 90_000,
      });
      return fromHex(reply.quote);
    },
    async firmwareLog() {
      const { events } = await callUnix({
        path,
        method: 'GET',
        route: '/v1/firmware-log',
        reply: FirmwareLogReply,
        timeout: 90_000,
      });
      return events;
    },
    async joined() {
      await callUnix({
        path,
        method: 'POST',
        route: '/v1/joined',
        body: {},
        reply: Strict({}),
        timeout: 30_000,
      });
    },
  };
}

/** Waits until the attestor serves: from then on, RTMR3 holds this boot's configuration. @throws SOCKET_UNREACHABLE */
export async function attestorReady(path: string): Promise<void> {
  await callUnix({
    path,
    method: 'GET',
    route: '/v1/status',
    reply: AttestorStatusReply,
    connectWithin: 120_000,
  });
}
