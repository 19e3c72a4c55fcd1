/**
 * etcd's JSON gateway: each method is a POST of its request in JSON, by proto3's mapping with the fields' own names. A stream takes one
 * object after the other and answers each in a line, `{"result": …}` or, as the last, `{"error": …}`.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import {
  create,
  type DescMessage,
  fromJson,
  type JsonValue,
  type MessageInitShape,
  type MessageShape,
  toJson,
} from '@bufbuild/protobuf';
import { RpcError, type Status, status } from '../../../lib/etcd/errors.ts';
import type { Caller, ServedMethod } from '../types.ts';
import type { Budget } from './budget.ts';
import { ClientCall, timeoutOf } from './call.ts';
import { MAX_MESSAGE } from './framing.ts';
import { refusalOf, type Serving } from './grpc-server.ts';
import { inTime } from './in-time.ts';
import { JsonObjects, parseJson } from './json.ts';

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

/** Paths below /v3 by method. A second one is the name that LSKV gave it, or an older one of etcd's. */
const paths: Readonly<Record<string, readonly string[]>> = {
  'etcdserverpb.KV/Range': ['/kv/range'],
  'etcdserverpb.KV/Put': ['/kv/put'],
  'etcdserverpb.KV/DeleteRange': ['/kv/deleterange', '/kv/delete_range'],
  'etcdserverpb.KV/Txn': ['/kv/txn'],
  'etcdserverpb.KV/Compact': ['/kv/compaction', '/kv/compact'],
  'etcdserverpb.Watch/Watch': ['/watch'],
  'etcdserverpb.Lease/LeaseGrant': ['/lease/grant'],
  'etcdserverpb.Lease/LeaseRevoke': ['/lease/revoke', '/kv/lease/revoke'],
  'etcdserverpb.Lease/LeaseKeepAlive': ['/lease/keepalive'],
  'etcdserverpb.Lease/LeaseTimeToLive': ['/lease/timetolive', '/kv/lease/timetolive'],
  'etcdserverpb.Lease/LeaseLeases': ['/lease/leases', '/kv/lease/leases'],
  'etcdserverpb.Cluster/MemberList': ['/cluster/member/list'],
  'etcdserverpb.Maintenance/Alarm': ['/maintenance/alarm'],
  'etcdserverpb.Maintenance/Status': ['/maintenance/status'],
  'etcdserverpb.Maintenance/Defragment': ['/maintenance/defragment'],
  'etcdserverpb.Maintenance/Hash': ['/maintenance/hash'],
  'etcdserverpb.Maintenance/HashKV': ['/maintenance/hashkv'],
  'etcdserverpb.Maintenance/Snapshot': ['/maintenance/snapshot'],
  'etcdserverpb.Auth/AuthEnable': ['/auth/enable'],
  'etcdserverpb.Auth/AuthDisable': ['/auth/disable'],
  'etcdserverpb.Auth/AuthStatus': ['/auth/status'],
  'etcdserverpb.Auth/Authenticate': ['/auth/authenticate'],
  'etcdserverpb.Auth/UserAdd': ['/auth/user/add'],
  'etcdserverpb.Auth/UserGet': ['/auth/user/get'],
  'etcdserverpb.Auth/UserList': ['/auth/user/list'],
  'etcdserverpb.Auth/UserDelete': ['/auth/user/delete'],
  'etcdserverpb.Auth/UserChangePassword': ['/auth/user/changepw'],
  'etcdserverpb.Auth/UserGrantRole': ['/auth/user/grant'],
  'etcdserverpb.Auth/UserRevokeRole': ['/auth/user/revoke'],
  'etcdserverpb.Auth/RoleAdd': ['/auth/role/add'],
  'etcdserverpb.Auth/RoleGet': ['/auth/role/get'],
  'etcdserverpb.Auth/RoleList': ['/auth/role/list'],
  'etcdserverpb.Auth/RoleDelete': ['/auth/role/delete'],
  'etcdserverpb.Auth/RoleGrantPermission': ['/auth/role/grant'],
  'etcdserverpb.Auth/RoleRevokePermission': ['/auth/role/revoke'],
  'v3lockpb.Lock/Lock': ['/lock/lock'],
  'v3lockpb.Lock/Unlock': ['/lock/unlock'],
  'v3electionpb.Election/Campaign': ['/election/campaign'],
  'v3electionpb.Election/Proclaim': ['/election/proclaim'],
  'v3electionpb.Election/Leader': ['/election/leader'],
  'v3electionpb.Election/Observe': ['/election/observe'],
  'v3electionpb.Election/Resign': ['/election/resign'],
  'lskvserverpb.Receipt/GetReceipt': ['/receipt/get_receipt'],
  'lskvserverpb.Maintenance/TxStatus': ['/maintenance/tx_status'],
};

/** Milliseconds. */
const DRAIN_WITHIN = 5000;

/** grpc-gateway's reading of gRPC's codes: a failed precondition is not one of HTTP's headers, which 412 means. */
const httpStatuses: Readonly<Record<Status, number>> = {
  0: 200,
  1: 408,
  2: 500,
  3: 400,
  4: 504,
  5: 404,
  6: 409,
  7: 403,
  8: 429,
  9: 400,
  10: 409,
  11: 400,
  12: 501,
  13: 500,
  14: 503,
  15: 500,
  16: 401,
};

export class Gateway {
  readonly #methods = new Map<string, ServedMethod>();
  readonly #serving: Serving;

  constructor(methods: readonly ServedMethod[], serving: Serving) {
    this.#serving = serving;
    for (const served of methods)
      for (const path of paths[`${served.method.parent.typeName}/${served.method.name}`] ?? [])
        this.#methods.set(`/v3${path}`, served);
  }

  /** Whether the path is one of the gateway's. */
  has(path: string): boolean {
    return this.#methods.has(path);
  }

  async serve(request: Request, response: Response, caller: Caller, budget: Budget): Promise<void> {
    const path = pathOf(request);
    const served = this.#methods.get(path)!;
    const name = `/${served.method.parent.typeName}/${served.method.name}`;
    const { metrics, log, unsent, messageWithin } = this.#serving;
    response.on('error', () => {});
    const output = new Output(response);
    let call: ClientCall | undefined;
    try {
      if (request.method !== 'POST') throw new RpcError(status.unimplemented, 'Method Not Allowed');
      requireNoPage(request);
      call = callOf(request, caller, (error) => output.refuse(error));
      response.on('close', () => call?.abort());
      if (served.kind === 'unary') {
        const [message] = await bodyOf(request, served.method.input, budget, messageWithin);
        const answer = await served.handle(message ?? create(served.method.input), call);
        const text = JSON.stringify(jsonOf(served.method.output, answer));
        if (!response.destroyed) unsent.hold(caller, text.length, response);
        output.unary(text);
      } else {
        const send = (answer: MessageInitShape<DescMessage>) => {
          const line = `${JSON.stringify({ result: jsonOf(served.method.output, answer) })}\n`;
          return unsent.during(caller, line.length, () => output.line(line));
        };
        await served.handle(streamOf(request, served.method.input, budget, messageWithin), send, call);
        output.end();
      }
      metrics.handled(name, status.ok);
    } catch (error) {
      const refusal = refusalOf(error, log, name);
      metrics.handled(name, refusal.status);
      output.refuse(refusal);
      drain(request);
    } finally {
      call?.abort();
    }
  }
}

/** A header `grpc-timeout` bounds a request here as it does in gRPC. @throws RpcError */
function callOf({ headers }: Request, caller: Caller, onDeadline: (error: RpcError) => void): ClientCall {
  const timeout = headers['grpc-timeout'];
  try {
    return new ClientCall(caller, headers.authorization, timeoutOf(timeout), onDeadline);
  } catch {
    throw new RpcError(status.invalidArgument, `invalid grpc-timeout: ${String(timeout).slice(0, 40)}`);
  }
}

/**
 * A browser says from whose page a POST comes. No page is the store's; and one of a stranger's that asks for it at an address of the loopback, or
 * at a name that it has pointed there, would be the owner where there is no TLS (CVE-2018-1098, CVE-2018-1099 of etcd).
 */
function requireNoPage({ headers }: Request): void {
  if (headers.origin !== undefined || headers['sec-fetch-site'] !== undefined)
    throw new RpcError(
      status.permissionDenied,
      'web pages are not served: the request has the header Origin',
    );
}

/** Lets a client whose request was refused hear so while it still sends, for a while. */
function drain(request: Request): void {
  if (request.readableEnded || request.destroyed) return;
  request.on('error', () => {}).resume();
  const timer = setTimeout(() => request.destroy(), DRAIN_WITHIN);
  request.once('close', () => clearTimeout(timer)).once('end', () => clearTimeout(timer));
}

export function pathOf({ url }: Request): string {
  return (url ?? '').split('?')[0]!;
}

class Output {
  readonly #response: Response;
  #begun = false;

  constructor(response: Response) {
    this.#response = response;
  }

  unary(text: string): void {
    if (this.#response.writableEnded) return;
    this.#head(200);
    this.#response.end(text);
  }

  async line(text: string): Promise<void> {
    if (this.#response.destroyed || this.#response.writableEnded)
      throw new RpcError(status.cancelled, 'context canceled');
    if (!this.#begun) this.#head(200);
    if ((this.#response as ServerResponse).write(text)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#response.off('drain', done).off('close', done);
        resolve();
      };
      this.#response.once('drain', done).once('close', done);
    });
  }

  end(): void {
    if (!this.#begun) this.#head(200);
    this.#response.end();
  }

  refuse({ status: code, message }: RpcError): void {
    // The client's patience may have ended before what it asked for did.
    if (this.#response.writableEnded) return;
    const httpCode = httpStatuses[code];
    if (this.#begun) {
      const error = { grpc_code: code, http_code: httpCode, message, http_status: String(httpCode) };
      this.#response.end(`${JSON.stringify({ error })}\n`);
      return;
    }
    this.#head(httpCode);
    this.#response.end(JSON.stringify({ error: message, code, message }));
  }

  #head(code: number): void {
    this.#begun = true;
    if (!this.#response.headersSent && !this.#response.destroyed)
      (this.#response as ServerResponse).writeHead(code, { 'content-type': 'application/json' });
  }
}

/** Names and defaults as etcd's gateway writes them. */
function jsonOf<O extends DescMessage>(schema: O, message: MessageInitShape<O>): JsonValue {
  return toJson(schema, create(schema, message), { useProtoFieldName: true });
}

function messageOf<I extends DescMessage>(schema: I, json: string): MessageShape<I> {
  try {
    return fromJson(schema, parseJson(json) as JsonValue);
  } catch (cause) {
    throw new RpcError(status.invalidArgument, `not a ${schema.typeName}: ${reasonOf(cause)}`, cause);
  }
}

/** One line, of bounded length, whatever the client sent. */
function reasonOf(cause: unknown): string {
  return String((cause as Error).message)
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 200);
}

/** One object, and the end of the request within the time that it has. */
async function bodyOf(
  request: Request,
  schema: DescMessage,
  budget: Budget,
  within: number,
): Promise<MessageShape<DescMessage>[]> {
  const found: MessageShape<DescMessage>[] = [];
  for await (const message of streamOf(request, schema, budget, within, performance.now())) {
    found.push(message);
    if (found.length > 1) throw new RpcError(status.invalidArgument, 'one object is one request');
  }
  return found;
}

/** @param begun since when all of it has been coming; left out, each object has its own time */
async function* streamOf(
  request: Request,
  schema: DescMessage,
  budget: Budget,
  within: number,
  begun?: number,
): AsyncGenerator<MessageShape<DescMessage>> {
  // In JSON bytes take a third more.
  const objects = new JsonObjects(MAX_MESSAGE * 2);
  let held = 0;
  try {
    for await (const chunk of inTime(request, () => begun ?? objects.since, within)) {
      budget.take(chunk.length);
      held += chunk.length;
      for (const text of objects.push(chunk)) yield messageOf(schema, text);
      budget.give(held - objects.length);
      held = objects.length;
    }
    if (objects.length > 0) throw new RpcError(status.invalidArgument, 'the JSON is cut off');
  } finally {
    budget.give(held);
  }
}
