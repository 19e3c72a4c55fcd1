/**
 * What a relay gives of its archive: `GET /v1/records?after=<name>` lists it, `GET /v1/records/<name>` gives one file, and
 * `GET /v1/records?bundle=<name>` as many files after that name as a megabyte holds, as a tar archive: an audit of a large network
 * would ask for each by itself. Whoever was cut off goes on after the last file that arrived; an empty one is the end.
 */
import type { FastifyInstance } from 'fastify';
import { pack } from 'tar-stream';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Archive } from './archive.ts';
import { Sending, type SendingLimits } from './sending.ts';

type Readable = Pick<Archive, 'list' | 'read'>;

/** The files of one bundle: bytes, of which the first may have more; and how many. */
const BUNDLE = { bytes: 1024 * 1024, records: 500 };
/** A bundle is in memory until it was taken. */
const LIMITS: SendingLimits = { sending: 32, perSource: 2, within: 60_000 };

export function archiveRoutes(app: FastifyInstance, archive: Readable, limits = LIMITS): void {
  const sending = new Sending(limits);
  app.get('/v1/records', async (request, reply) => {
    const { after, bundle } = request.query as { after?: unknown; bundle?: unknown };
    if (typeof bundle !== 'string') return { records: archive.list(typeof after === 'string' ? after : '') };
    const over = sending.begin(sourceOf(request.ip), request.raw.socket);
    reply.raw.once('close', over);
    try {
      const bytes = await bundleOf(archive, bundle);
      return reply.type('application/x-tar').send(bytes);
    } catch (error) {
      over();
      throw error;
    }
  });
  app.get('/v1/records/:name', async (request, reply) => {
    const { name } = request.params as { name: string };
    const text = archive.read(name);
    if (text === undefined) throw new DstackError('NO_RECORD', `the archive has no ${name.slice(0, 100)}`);
    return reply.type('application/json').send(text);
  });
}

async function bundleOf(archive: Readable, after: string): Promise<Buffer> {
  const tar = pack();
  let size = 0;
  for (const name of archive.list(after, BUNDLE.records)) {
    const text = archive.read(name);
    // It was removed since it was listed.
    if (text === undefined) continue;
    const bytes = Buffer.from(utf8(text));
    if (size > 0 && size + bytes.length > BUNDLE.bytes) break;
    size += bytes.length;
    tar.entry({ name, mtime: new Date(0) }, bytes);
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
