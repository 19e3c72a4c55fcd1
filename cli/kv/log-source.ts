/** Where a log is read from: a store's URL, or a folder that it was copied to. Both are untrusted, and bounded. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { dirname, join } from 'node:path';
import type { Fetch } from '../../lib/ledger/audit.ts';
import { CHECKPOINT_PATH, parseTilePath } from '../../lib/ledger/tiles.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';

const TIMEOUT_MS = 10_000;

/** How a store is reached; etcdctl has the same. */
export const clientOptions: Record<string, Option> = {
  cacert: { value: 'FILE', help: "the authority of the store's certificate, PEM; default: the system's" },
  cert: { value: 'FILE', help: 'the certificate to show, PEM' },
  'key-file': { value: 'FILE', help: "that certificate's key, PEM" },
};

export interface HttpCall {
  readonly url: URL;
  /** A body makes it a POST of JSON. */
  readonly body?: string;
  readonly maxBytes: number;
}

/** A call of one store. @throws KV_UNREACHABLE, KV_REFUSED */
export function httpClient(args: Arguments): (call: HttpCall) => Promise<Buffer> {
  const file = (name: string) => {
    const path = args.optional(name);
    return path === undefined ? undefined : readFileSync(path);
  };
  const tls = { ca: file('cacert'), cert: file('cert'), key: file('key-file') };
  return ({ url, body, maxBytes }) =>
    new Promise((resolve, reject) => {
      const isSecure = url.protocol === 'https:';
      const options = {
        method: body === undefined ? 'GET' : 'POST',
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(isSecure ? tls : {}),
      };
      const fail = (cause: Error) =>
        reject(new DstackError('KV_UNREACHABLE', `no reply from ${url}: ${cause.message}`, { cause }));
      const request = (isSecure ? httpsRequest : httpRequest)(url, options, (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('error', fail);
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxBytes) request.destroy(new Error(`it answers with more than ${maxBytes} bytes`));
          else chunks.push(chunk);
        });
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          if (response.statusCode === 200) resolve(bytes);
          else
            reject(
              new DstackError(
                'KV_REFUSED',
                `${url} answers ${response.statusCode}: ${bytes.toString().slice(0, 200)}`,
              ),
            );
        });
      });
      request.on('error', fail);
      request.end(body);
    });
}

/** @throws USAGE */
export function urlOf(text: string): URL {
  const url = URL.parse(text);
  if (url !== null && /^https?:$/.test(url.protocol)) return url;
  throw new UsageError(`not an http or https URL: ${text}`);
}

/** The log at a URL (the store's, or where it is mirrored) or in a folder; with `copy`, what is fetched is put there as well. */
export function logSource(where: string, args: Arguments, copy?: string): Fetch {
  const fetch = /^https?:/.test(where)
    ? fromUrl(urlOf(where.endsWith('/') ? where : `${where}/`), args)
    : fromFolder(where);
  if (copy === undefined) return fetch;
  return async (path, maxBytes) => {
    const bytes = await fetch(path, maxBytes);
    const target = join(copy, requireLogPath(path));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, bytes);
    return bytes;
  };
}

/** A URL without a path is a store's, which has its log below /ledger/. */
function fromUrl(base: URL, args: Arguments): Fetch {
  const client = httpClient(args);
  const log = base.pathname === '/' ? new URL('ledger/', base) : base;
  return (path, maxBytes) => client({ url: new URL(path, log), maxBytes });
}

function fromFolder(folder: string): Fetch {
  return async (path, maxBytes) => {
    const file = join(folder, requireLogPath(path));
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) throw new DstackError('LOG_FILE_MISSING', `${folder} has no ${path}`);
    if (stat.size > maxBytes)
      throw new DstackError('LOG_FILE_SIZE', `${file} has more than ${maxBytes} bytes`);
    return readFileSync(file);
  };
}

function requireLogPath(path: string): string {
  if (path === CHECKPOINT_PATH || parseTilePath(path) !== undefined) return path;
  throw new DstackError('LOG_PATH', `not a path of a log: ${JSON.stringify(path)}`);
}
