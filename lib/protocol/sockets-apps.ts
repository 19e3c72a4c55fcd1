/**
 * What kubernethes and the disk daemon answer over their unix sockets. See sockets.ts for the replicator's.
 */
import { type Static, Type } from 'typebox';
import { HexOf, Strict } from './schema.ts';
import { AppName } from './sockets.ts';

/** Paths below /run/dstack. */
export const appSockets = {
  kubernethesForAgent: 'kubernethes/agent.sock',
  kubernethesForTls: 'kubernethes/tls.sock',
  diskStatus: 'disk/status.sock',
} as const;

const IPv4 = Type.String({ pattern: '^(\\d{1,3}\\.){3}\\d{1,3}$', maxLength: 15 });

/** agent.sock: GET /v1/containers: who calls from which address, and on which address of ours it must arrive. */
export const ContainersReply = Strict({
  containers: Type.Array(Strict({ app: AppName, manifestHash: HexOf(32), address: IPv4, gateway: IPv4 }), {
    maxItems: 4096,
  }),
});
export type ContainersReply = Static<typeof ContainersReply>;

/** tls.sock: GET /v1/upstream: where requests from outside go. `NOT_READY` while there is none; the message says why. */
export const UpstreamReply = Strict({
  app: AppName,
  host: IPv4,
  port: Type.Integer({ minimum: 1, maximum: 65535 }),
});
export type UpstreamReply = Static<typeof UpstreamReply>;

/** disk/status.sock: GET /v1/status. `seconds` that opening or formatting took; `done` of the format, 0 to 1. */
export const DiskStatusReply = Strict({
  state: Type.Union([
    Type.Literal('absent'),
    Type.Literal('opening'),
    Type.Literal('formatting'),
    Type.Literal('ready'),
    Type.Literal('failed'),
  ]),
  diskId: Type.Optional(HexOf(16)),
  code: Type.Optional(Type.String({ maxLength: 64 })),
  message: Type.Optional(Type.String({ maxLength: 500 })),
  seconds: Type.Optional(Type.Number({ minimum: 0 })),
  done: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
});
export type DiskStatusReply = Static<typeof DiskStatusReply>;
