/** The log itself, below /ledger/: the signed head and the tiles, as tools for C2SP tlog-tiles fetch them. Whoever has a connection may read it. */
import { RpcError } from '../../../lib/etcd/errors.ts';
import type { KvLedger } from '../ledger/ledger.ts';
import { type LogResource, logResource } from '../ledger/receipts.ts';
import { Shares, type Waiter } from '../namespace/shares.ts';
import type { Caller } from '../types.ts';
import { pathOf, type Request, type Response } from './gateway.ts';
import type { Unsent } from './unsent.ts';

const PREFIX = '/ledger/';
const FOR_EVER = 'public, max-age=31536000, immutable';
/** Read for one caller at a time: a bundle of entries may have 16 MiB, and is counted as not taken once it is read. */
const READS = 4;

export class LogAnswers {
  readonly #log: KvLedger;
  readonly #unsent: Unsent;
  readonly #reads = new Shares(READS);

  constructor(log: KvLedger, unsent: Unsent) {
    this.#log = log;
    this.#unsent = unsent;
  }

  has(request: Request): boolean {
    return pathOf(request).startsWith(PREFIX);
  }

  async answer(request: Request, response: Response, caller: Caller): Promise<void> {
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (!isRead) return refuse(response, 405, 'not in the log\n');
    try {
      const found = await this.#read(pathOf(request).slice(PREFIX.length), response, caller);
      if (response.destroyed) return;
      if (found === undefined) return refuse(response, 404, 'not in the log\n');
      response.statusCode = 200;
      response.setHeader('content-type', found.type);
      response.setHeader('cache-control', found.immutable ? FOR_EVER : 'no-cache');
      response.setHeader('content-length', found.bytes.length);
      response.end(request.method === 'HEAD' ? '' : Buffer.from(found.bytes));
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      refuse(response, 429, `${error.message}\n`);
    }
  }

  /** @throws RpcError where the caller has not taken what it asked for before */
  async #read(path: string, response: Response, caller: Caller): Promise<LogResource | undefined> {
    const id = Buffer.from(caller.prefix).toString('latin1');
    return this.#reads.run(
      id,
      1,
      async () => {
        const found = response.destroyed ? undefined : await logResource(this.#log, path);
        if (found !== undefined && !response.destroyed)
          this.#unsent.hold(caller, found.bytes.length, response);
        return found;
      },
      waiterOf(response),
    );
  }
}

/** Whose client has gone waits no longer. */
function waiterOf(response: Response): Waiter {
  return {
    get signal() {
      const gone = new AbortController();
      response.once('close', () => gone.abort());
      return gone.signal;
    },
  };
}

function refuse(response: Response, code: number, body: string): void {
  if (response.destroyed) return;
  response.statusCode = code;
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.setHeader('content-length', Buffer.byteLength(body));
  response.end(body);
}
