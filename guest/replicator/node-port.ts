/**
 * The one port that the host may dial: it can ask how the node stands, for its request, and for an onboarding. Nothing
 * on it gives out a key, and every body is hostile until checked (design: Trust, point 1).
 */
import Fastify, { type FastifyInstance } from 'fastify';
import type { Log } from '../../lib/daemon/log.ts';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  MESSAGE_MAX_BYTES,
  type NodeStatus,
  nodePaths,
  type RequestMessage,
  RequestMessageSchema,
  type SealedMessage,
  SealedMessageSchema,
} from '../../lib/protocol/onboarding-messages.ts';
import { check } from '../../lib/protocol/schema.ts';

/** What the node can be asked from outside. */
export interface NodeService {
  status(): NodeStatus;
  /** The open request; a new one when there is none that can still be answered. */
  request(): Promise<RequestMessage>;
  /** Takes the secret that was sealed to this node's own request. */
  answer(message: SealedMessage): Promise<NodeStatus>;
  /** Answers another node's request, without the secret. */
  onboard(message: RequestMessage): Promise<AnswerMessage>;
  /** The secret, sealed to another node's request, once the contract shows its answer. */
  sealed(message: RequestMessage): Promise<SealedMessage>;
  bootstrapPackage(): Promise<BootstrapPackage>;
}

/** Calls in work at once; the rest are told to come back. Each may cost a quote or a verification. */
const MAX_AT_ONCE = 4;

export function nodePort(service: NodeService, log: Log<'warn'>): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit: MESSAGE_MAX_BYTES,
    http: HTTP_CHECKS,
    connectionTimeout: 60_000,
    keepAliveTimeout: 30_000,
  });
  // The host's processes, all behind one address: a bound on memory, since the host can deny anything anyway.
  limitConnections(app.server, { connections: 64, perSource: 64 });
  let atWork = 0;

  async function bounded<T>(work: () => Promise<T>): Promise<T> {
    if (atWork >= MAX_AT_ONCE)
      throw new DstackError('BUSY', 'the node has enough to do; try again in a second');
    atWork += 1;
    try {
      return await work();
    } finally {
      atWork -= 1;
    }
  }

  app.get(nodePaths.status, () => service.status());
  app.get(nodePaths.bootstrap, () => bounded(() => service.bootstrapPackage()));
  app.post(nodePaths.request, () => bounded(() => service.request()));
  app.post(nodePaths.answer, (req) =>
    bounded(() => service.answer(check(SealedMessageSchema, req.body, 'MESSAGE_MALFORMED', 'the answer'))),
  );
  app.post(nodePaths.onboard, (req) =>
    bounded(() => service.onboard(check(RequestMessageSchema, req.body, 'MESSAGE_MALFORMED', 'the request'))),
  );
  app.post(nodePaths.sealed, (req) =>
    bounded(() => service.sealed(check(RequestMessageSchema, req.body, 'MESSAGE_MALFORMED', 'the request'))),
  );

  app.setNotFoundHandler((_req, reply) =>
    reply.code(404).send({
      code: 'NO_ROUTE',
      message: 'the node port has status, request, answer, onboard, sealed, bootstrap',
    }),
  );
  app.setErrorHandler((error: Error & { statusCode?: number }, req, reply) => {
    const ours = error instanceof DstackError;
    const status = ours ? (error.code === 'BUSY' ? 503 : 422) : (error.statusCode ?? 500);
    const code = ours ? codeOf(error) : status < 500 ? 'MESSAGE_MALFORMED' : 'INTERNAL';
    log.warn({ code, route: req.url.slice(0, 100), err: error.message }, 'refused a call from the host');
    // An internal error's text may hold anything; it stays in the node's log.
    const message = code === 'INTERNAL' ? 'internal error; see the VM console' : error.message;
    return reply.code(status).send({ code, message });
  });
  return app;
}
