/**
 * A node's HTTP API. Reading and posting are for everybody who reaches it, and need no trust in the node: who asks gets whole records, and judges them;
 * who posts has made its record itself, so that no key and no name gets here. What is for the node's operator alone needs the token.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Log } from '../../../lib/daemon/log.ts';
import { HTTP_CHECKS, limitConnections } from '../../../lib/daemon/server-limits.ts';
import { fromHex, toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { decodeRecord, MAX_RECORD_BYTES } from '../../../lib/protocol/records/codec.ts';
import { nameKeys } from '../../../lib/protocol/records/names.ts';
import { decodeCertificate } from '../../../lib/protocol/records/statements.ts';
import { check } from '../../../lib/protocol/schema.ts';
import type { RecordQuery } from '../query.ts';
import { hasToken, requireOwnName, requireThisMachine, requireToken, Sources, Untaken } from './guards.ts';
import {
  ConnectRequest,
  MakeRequest,
  type OwnerReply,
  PostRequest,
  PulseRequest,
  paths,
  QueryRequest,
} from './messages.ts';
import { metricsText } from './metrics.ts';
import type { RecordsService } from './service.ts';

const CONNECTIONS = { connections: 256, perSource: 64 };
const BASE64_RECORD = Math.ceil(MAX_RECORD_BYTES / 3) * 4;
const BODY_BYTES = 4_096;
/** A name may have hundreds of ranges. */
const QUERY_BYTES = 1 << 20;
/** Records that are being made, each of which keeps all processors busy. */
const MOST_MADE = 8;
const MOST_CHILDREN = 100;
const ID = /^[\da-f]{64}$/;

export interface ApiOptions {
  readonly token: string;
  readonly names: readonly string[];
  readonly log: Log<'warn'>;
}

type Served = Pick<RecordsService, 'node' | 'status' | 'connect' | 'make' | 'secret'>;

/** The server, not yet listening. */
export function apiServer(service: Served, { token, names, log }: ApiOptions): FastifyInstance {
  const refusals = new Map<string, number>();
  const app = bareServer(log, (code) => refusals.set(code, (refusals.get(code) ?? 0) + 1));
  const sources = new Sources();
  app.addHook('onRequest', async (request) => {
    requireOwnName(request, names);
    sources.spend(request);
  });
  reading(app, service, { token, sources });
  app.get('/metrics', async (_request, reply) =>
    reply.type('text/plain; version=0.0.4').send(metricsText(service.status(false), refusals)),
  );
  writing(app, service, sources);
  pulsing(app, service, sources);
  operating(app, service, token);
  return app;
}

function reading(
  app: FastifyInstance,
  service: Served,
  { token, sources }: { token: string; sources: Sources },
): void {
  const { node } = service;
  app.get(paths.status, async (request) => service.status(hasToken(request, token)));
  const untaken = new Untaken();
  app.post(paths.query, { bodyLimit: QUERY_BYTES }, async (request, reply) =>
    sources.charged(request, () => {
      untaken.requireRoom(request);
      const query = queryOf(check(QueryRequest, request.body, 'RECORDS_QUERY', 'the question'));
      const { sets, isCut } = node.query(query);
      const replied = sets.map((set) =>
        set.map(({ id, bytes, trust, isCollider, isRevoked, suspectedBy, weight, since }) => ({
          record: base64(bytes),
          trust,
          isCollider,
          isRevoked,
          suspectedBy,
          ...(weight !== undefined && { weight }),
          ...(since !== undefined && { since }),
          ...pulseOf(service, id),
        })),
      );
      const length = replied.flat().reduce((sum, { record }) => sum + record.length, 0);
      untaken.hold(request, reply, length);
      return { sets: replied, isCut };
    }),
  );
  app.get(paths.links, async () => {
    const time = Date.now();
    return { time, links: node.linksFor(time) };
  });
  app.get(`${paths.rawRecord}/:id`, async (request, reply) =>
    reply.type('application/octet-stream').send(Buffer.from(member(service, idOf(request)))),
  );
  app.get(`${paths.record}/:id`, async (request) => {
    const id = idOf(request);
    const bytes = member(service, id);
    const { type, owner, timestamp, links, selectors, permit, mask, value } = decodeRecord(bytes);
    return {
      id,
      type,
      owner: toHex(owner),
      timestamp,
      links: links.map(toHex),
      children: node.childrenOf(id, MOST_CHILDREN),
      selectors: selectors.map(({ claimKey, ordinalTag }) => ({
        claimKey: toHex(claimKey),
        ordinalTag: toHex(ordinalTag),
      })),
      permit: permit.kind,
      isMasked: mask !== 'none',
      value: value.kind === 'whole' ? base64(value.bytes) : null,
      ...node.standingOf(id),
      pulse: node.pulses.of(id)?.minute ?? null,
      bytes: bytes.length,
    };
  });
  app.get(`${paths.owner}/:id`, async (request) => ownerOf(service, idOf(request)));
}

function writing(app: FastifyInstance, { node }: Served, sources: Sources): void {
  let posts = 0;
  app.post(paths.post, { bodyLimit: BASE64_RECORD + BODY_BYTES }, async (request) => {
    const { record } = check(PostRequest, request.body, 'RECORDS_POST', 'the record');
    // Whoever posts knows what to link to: nothing of this waits, or takes anybody's room.
    const from = `post ${++posts}`;
    const bytes = new Uint8Array(Buffer.from(record, 'base64'));
    const verdict = await sources.charged(request, () => node.add(bytes, from));
    switch (verdict.kind) {
      case 'refused':
        throw new DstackError(verdict.code, verdict.message);
      case 'waiting':
        node.forget(from);
        throw new DstackError(
          'RECORDS_WAITING',
          `it stands on records that are not here: ${verdict.missing.slice(0, 4).join(', ')}; post those first`,
        );
      case 'early':
        throw new DstackError(
          'RECORDS_EARLY',
          `its time is ahead of this node's clock; post it again at ${new Date(verdict.until).toISOString()}`,
        );
      case 'members':
        return { id: verdict.ids[0], isNew: true };
      default:
        return { id: verdict.id, isNew: verdict.kind === 'restored' };
    }
  });
}

function pulsing(app: FastifyInstance, { node }: Served, sources: Sources): void {
  app.post(paths.pulse, { bodyLimit: BODY_BYTES }, async (request) => {
    const { id, minute, signature } = check(PulseRequest, request.body, 'RECORDS_PULSE', 'the pulse');
    const pulse = { id, minute, signature: fromHex(signature) };
    const verdict = await sources.charged(request, async () => node.pulses.addPulse(pulse));
    if (verdict === 'unknown') throw noRecord(id);
    if (verdict === 'early')
      throw new DstackError('RECORDS_EARLY', "its minute is ahead of this node's clock; set the clock right");
    return { isNew: verdict === 'new' };
  });
}

function pulseOf({ node }: Served, id: string) {
  const pulse = node.pulses.of(id);
  return pulse && { pulse: { minute: pulse.minute, signature: toHex(pulse.signature) } };
}

function operating(app: FastifyInstance, service: Served, token: string): void {
  const { node, secret } = service;
  let making = 0;
  app.post(
    paths.connect,
    { bodyLimit: BODY_BYTES, onRequest: async (request) => requireToken(request, token) },
    async ({ body }) => {
      service.connect(check(ConnectRequest, body, 'RECORDS_PEERS', 'the peer'));
      return {};
    },
  );
  const forOperator = async (request: FastifyRequest) => {
    requireThisMachine(request);
    requireToken(request, token);
  };
  app.post(
    paths.makeRecord,
    { bodyLimit: BASE64_RECORD + 16 * MAX_NAME_JSON, onRequest: forOperator },
    async ({ body }, reply) => {
      const asked = check(MakeRequest, body, 'RECORDS_MAKE', 'the record');
      if (making >= MOST_MADE)
        throw new DstackError('RECORDS_BUSY', `${making} records are being made; wait for one`);
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      making += 1;
      try {
        const space = { network: node.genesis.id, ...(secret && { secret }) };
        const named = asked.names.map(({ name, ordinal = '0' }) => ({
          keys: nameKeys(utf8(name), space),
          ordinal: BigInt(ordinal),
        }));
        const [first] = named;
        const draft = {
          type: 'datum' as const,
          names: named,
          value: new Uint8Array(Buffer.from(asked.value, 'base64')),
          ...(first && !asked.public && { mask: { name: first.keys } }),
        };
        const { noWork = false } = asked;
        return { id: await service.make(draft, fromHex(asked.ownerSeed), { noWork, signal: gone.signal }) };
      } finally {
        making -= 1;
      }
    },
  );
}

/** In JSON a byte may be six characters. */
const MAX_NAME_JSON = 6 * 4_096 + 100;

function queryOf({ names, owners, from, to, limit, oracles }: QueryRequest): RecordQuery {
  return {
    ...(names && {
      names: names.map(({ claimKey, tags }) => ({
        claimKey: fromHex(claimKey),
        tags: tags.map((tag) => ({ from: fromHex(tag.from), to: fromHex(tag.to) })),
      })),
    }),
    ...(owners && { owners }),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    ...(limit !== undefined && { limit }),
    ...(oracles && { oracles: oracles.map((key) => fromHex(key)) }),
  };
}

function ownerOf({ node }: Served, key: string): OwnerReply {
  const owner = fromHex(key);
  const certificates = node.certificatesFor(owner, Date.now()).map((id) => {
    const record = decodeRecord(node.get(id)!);
    const { serial, notBefore, notAfter } = decodeCertificate(
      record.value.kind === 'whole' ? record.value.bytes : new Uint8Array(),
    );
    return { id, authority: toHex(record.owner), serial: `${serial}`, notBefore, notAfter };
  });
  return {
    owner: toHex(owner),
    isFounder: key === toHex(node.genesis.owner),
    isAuthority: node.genesis.rules.authorities.some((authority) => authority === key),
    certificates: certificates as OwnerReply['certificates'],
  };
}

/** @throws RECORDS_ID */
function idOf({ params }: FastifyRequest): string {
  const { id } = params as { id: string };
  if (ID.test(id)) return id;
  throw new DstackError('RECORDS_ID', 'a record or an owner is named by 64 lower-case hex digits');
}

/** @throws RECORDS_NO_RECORD */
function member({ node }: Served, id: string): Uint8Array {
  const bytes = node.get(id);
  if (bytes !== undefined) return bytes;
  throw noRecord(id);
}

const noRecord = (id: string): DstackError =>
  new DstackError('RECORDS_NO_RECORD', `record ${id} is not here`);

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

function bareServer(log: Log<'warn'>, onRefusal: (code: string) => void): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES,
    http: HTTP_CHECKS,
    connectionTimeout: 60_000,
    keepAliveTimeout: 10_000,
    forceCloseConnections: true,
    // What is refused before there is a request, such as a path that is none.
    frameworkErrors: (error, _request, reply) => {
      onRefusal('HTTP_REQUEST');
      void (reply as FastifyReply)
        .status(400)
        .send({ code: 'HTTP_REQUEST', message: error.message.slice(0, 500) });
    },
  });
  // JSON alone: web pages can send text without permission.
  app.removeContentTypeParser('text/plain');
  limitConnections(app.server, CONNECTIONS);
  app.setNotFoundHandler(async ({ method, url }, reply) =>
    reply
      .status(404)
      .send({ code: 'NO_ROUTE', message: `nothing here answers ${method} ${url.slice(0, 100)}` }),
  );
  app.setErrorHandler(async (error, { url }, reply) => {
    const { status, code, message } = refusalOf(error);
    onRefusal(code);
    if (status === 500) log.warn({ url: url.slice(0, 100), err: error }, 'a request failed inside');
    if (status === 429) reply.header('retry-after', '1');
    return reply.status(status).send({ code, message });
  });
  return app;
}

/** Of refusals with another status than 400. */
const STATUSES: Readonly<Record<string, number>> = {
  RECORDS_RATE: 429,
  RECORDS_BUSY: 503,
  RECORDS_STOPPED: 507,
  RECORDS_LOG_DAMAGED: 500,
  RECORDS_NO_RECORD: 404,
  RECORDS_WAITING: 409,
  RECORDS_EARLY: 409,
  TOKEN_REFUSED: 401,
  HOST_REFUSED: 403,
  ORIGIN_REFUSED: 403,
};

/** Our own refusals say why; fastify's (too large, not JSON) keep their status; anything else is our fault and says nothing. */
function refusalOf(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof DstackError) {
    return { status: STATUSES[error.code] ?? 400, code: codeOf(error), message: error.message.slice(0, 500) };
  }
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return { status: statusCode, code: 'HTTP_REQUEST', message: String(message).slice(0, 500) };
  }
  return { status: 500, code: 'INTERNAL', message: "internal error; see the node's log" };
}
