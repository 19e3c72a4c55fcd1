/**
 * What a relay gives to others of its apps' files: `GET /v1/manifests/<hash>`, `GET /v1/archives/<image digest>` and
 * `GET /v1/secrets/<envelope's hash>`, also from a byte on (RFC 9110, sections 13.1.5 and 14), so that a reader who was cut off goes on
 * where it was. HEAD says how long one is.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { APP_FILE_KINDS, type AppFiles, type OpenAppFile } from './app-files.ts';
import { Sending, type SendingLimits } from './sending.ts';

export type AppRouteLimits = SendingLimits;

const LIMITS: AppRouteLimits = { sending: 32, perSource: 2, within: 900_000 };

export function appRoutes(app: FastifyInstance, files: AppFiles, limits = LIMITS): void {
  const sending = new Sending(limits);
  for (const kind of APP_FILE_KINDS) {
    const find = async (request: FastifyRequest): Promise<OpenAppFile> => {
      const { hash } = request.params as { hash: string };
      const found = /^[0-9a-f]{64}$/.test(hash) ? await files.open(kind, hash) : undefined;
      if (found === undefined)
        throw new DstackError('NO_RECORD', `this relay has no ${kind}/${hash.slice(0, 64)}`);
      return found;
    };
    const describe = (reply: FastifyReply, tag: string, length: number) =>
      reply.header('etag', `"${tag}"`).header('content-length', length).type('application/octet-stream');

    // Before the other: the one that fastify makes from it reads the whole file, and throws it away.
    app.head(`/v1/${kind}/:hash`, async (request, reply) => {
      const { file, size, tag } = await find(request);
      await file.close();
      return describe(reply, tag, size).send();
    });

    app.get(`/v1/${kind}/:hash`, async (request, reply) => {
      const over = sending.begin(sourceOf(request.ip), request.raw.socket);
      try {
        const { file, size, tag } = await find(request);
        const from = startOf(request.headers, `"${tag}"`);
        if (from !== undefined && from >= size) {
          await file.close();
          over();
          return reply.status(416).header('content-range', `bytes */${size}`).send();
        }
        const stream = file.createReadStream({ start: from ?? 0, end: Math.max(0, size - 1) });
        stream.once('close', over);
        describe(reply.status(from === undefined ? 200 : 206), tag, size - (from ?? 0));
        if (from !== undefined) reply.header('content-range', `bytes ${from}-${size - 1}/${size}`);
        return reply.send(stream);
      } catch (error) {
        over();
        throw error;
      }
    });
  }
}

/** From which byte on; undefined for all of it: another file than the reader has the beginning of, or another range than this. */
function startOf(headers: Readonly<Record<string, unknown>>, etag: string): number | undefined {
  const digits = /^bytes=(\d{1,15})-$/.exec(String(headers.range ?? ''))?.[1];
  const isSame = headers['if-range'] === undefined || headers['if-range'] === etag;
  return digits === undefined || !isSame ? undefined : Number(digits);
}
