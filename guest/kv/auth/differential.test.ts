/**
 * The same requests of the Auth service, and the same reads and writes by its users, to this store and to a bare etcd with its own users
 * and roles: the answers are the same. What etcd lets pass that it should not is left out here, and tried in namespace-auth.test.ts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toolCommand } from '../../../lib/daemon/tool-root.ts';
import { RpcError, statusOf } from '../../../lib/etcd/errors.ts';
import { Auth } from '../../../lib/etcd/gen/auth_pb.js';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { bytesOf } from '../../../test/support/etcd.ts';
import { freePort } from '../../../test/support/free-port.ts';
import { authMethods } from '../api/auth.ts';
import { kvMethods } from '../api/kv.ts';
import { DEFAULT_QUOTA, etcdArguments } from '../engine/arguments.ts';
import { callOf, startStore } from '../namespace/store.fixture.ts';

type Method = DescMethodUnary<DescMessage, DescMessage>;
/** One call by the bearer of a token. */
type Ask = (method: Method, request: object, token: string | undefined) => Promise<object>;

let world: Awaited<ReturnType<typeof startStore>>;
let bare: { ask: Ask; stop: () => Promise<void> };

beforeAll(async () => {
  [world, bare] = await Promise.all([startStore(), startBare()]);
});

afterAll(async () => {
  await Promise.all([world.stop(), bare.stop()]);
});

/** etcd as people start it, with passwords that cost nothing. */
async function startBare() {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bare-'));
  const socket = join(folder, 'bare.sock');
  const args = etcdArguments({ data: folder, socket, peerPort: await freePort(), quota: DEFAULT_QUOTA });
  const tool = toolCommand('etcd', [...args, '--bcrypt-cost=4']);
  const child: ChildProcess = spawn(tool.command, tool.args, { stdio: 'ignore' });
  const session = await connected(socket, child);
  return {
    ask: ((method, request, token) => askBare(session, method, request, token)) as Ask,
    async stop() {
      session.destroy();
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function connected(socket: string, child: ChildProcess): Promise<ClientHttp2Session> {
  for (;;) {
    if (child.exitCode !== null) throw new Error('etcd ended');
    const session = connectHttp2('http://etcd', { createConnection: () => connect(socket) });
    try {
      await once(session, 'connect');
      session.on('error', () => {});
      return session;
    } catch {
      session.destroy();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }
}

async function askBare(
  session: ClientHttp2Session,
  method: Method,
  request: object,
  token?: string,
): Promise<object> {
  const body = toBinary(method.input, create(method.input, request as MessageInitShape<DescMessage>));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${method.parent.typeName}/${method.name}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(token !== undefined && { token }),
  });
  let ended: Record<string, unknown> = {};
  const seen = (headers: object) => {
    ended = { ...ended, ...headers };
  };
  stream.on('response', seen).on('trailers', seen);
  stream.end(Buffer.concat([head, body]));
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  if (ended['grpc-status'] !== '0')
    throw new RpcError(
      statusOf(Number(ended['grpc-status'])),
      decodeURIComponent(String(ended['grpc-message'])),
    );
  return fromBinary(method.output, Buffer.concat(chunks).subarray(5));
}

let served: ReturnType<typeof authMethods>;

const askStore =
  (prefix: string): Ask =>
  async (method, request, token) => {
    served ??= [...authMethods(world.store), ...kvMethods(world.store)];
    const found = served.find((one) => one.method === method);
    if (found?.kind !== 'unary') throw new Error(`${method.name} is not served`);
    const input = create(method.input, request as MessageInitShape<DescMessage>);
    return found.handle(input, callOf(prefix, { token }));
  };

/** An answer without what is of one store only: its revisions, its tokens. */
async function answerOf(ask: Ask, method: Method, request: object, token: string | undefined) {
  try {
    const answer = create(
      method.output,
      (await ask(method, request, token)) as MessageInitShape<DescMessage>,
    );
    const own = /^(header|createRevision|modRevision)$/;
    const plain = JSON.parse(
      JSON.stringify(toJson(method.output, answer), (key, value) => (own.test(key) ? undefined : value)),
    );
    return { ...plain, ...(plain.token !== undefined && { token: 'one' }) };
  } catch (error) {
    if (error instanceof RpcError) return `${error.status} ${error.message}`;
    throw error;
  }
}

const users = ['root', 'alice', 'bob', ''] as const;
const roles = ['root', 'r', 's', ''] as const;
const keys = ['a', 'b', 'c', '\0', ''] as const;
const user = fc.constantFrom(...users);
const role = fc.constantFrom(...roles);
const key = fc.constantFrom(...keys).map(bytesOf);
const password = fc.constantFrom('x', 'y');
const flag = fc.boolean();
const range = { key, rangeEnd: key };
const real = fc.constantFrom('a', 'b', 'c').map(bytesOf);

interface Step {
  readonly method: Method;
  readonly request: object;
  /** Whose token it is by; undefined for nobody. */
  readonly by: string | undefined;
}

const by = fc.option(fc.constantFrom('root', 'root', 'root', 'alice', 'bob'), { nil: undefined, freq: 9 });
const step = (method: DescMethodUnary, request: Record<string, fc.Arbitrary<unknown>>) =>
  fc
    .record({ request: fc.record(request), by })
    .map((fields): Step => ({ method: method as Method, ...fields }));

const put = fc.record({ key: real, prevKv: fc.constant(false) });
const operation = fc.oneof(
  put.map((value) => ({ request: { case: 'requestPut', value } })),
  fc
    .record(range)
    .filter(({ key }) => key.length > 0)
    .map((value) => ({ request: { case: 'requestRange', value } })),
);

const { method } = Auth;
const anyStep = fc.oneof(
  { weight: 4, arbitrary: step(method.userAdd, { name: user, password }) },
  { weight: 1, arbitrary: step(method.userDelete, { name: user }) },
  { weight: 1, arbitrary: step(method.userChangePassword, { name: user, password }) },
  { weight: 5, arbitrary: step(method.userGrantRole, { user, role }) },
  { weight: 1, arbitrary: step(method.userRevokeRole, { name: user, role }) },
  // For etcd, nobody is the user without a name.
  { weight: 1, arbitrary: step(method.userGet, { name: user.filter((name) => name !== '') }) },
  { weight: 1, arbitrary: step(method.userList, {}) },
  { weight: 3, arbitrary: step(method.roleAdd, { name: role }) },
  { weight: 1, arbitrary: step(method.roleDelete, { role }) },
  { weight: 1, arbitrary: step(method.roleGet, { role }) },
  { weight: 1, arbitrary: step(method.roleList, {}) },
  {
    weight: 6,
    arbitrary: step(method.roleGrantPermission, {
      name: role,
      perm: fc.record({ ...range, permType: fc.constantFrom(0, 1, 2) }),
    }),
  },
  { weight: 2, arbitrary: step(method.roleRevokePermission, { role, ...range }) },
  { weight: 3, arbitrary: step(method.authEnable, {}) },
  { weight: 1, arbitrary: step(method.authDisable, {}) },
  { weight: 1, arbitrary: step(method.authStatus, {}) },
  { weight: 5, arbitrary: step(method.authenticate, { name: user, password }) },
  { weight: 5, arbitrary: step(KV.method.put, { key: real, prevKv: flag }) },
  { weight: 5, arbitrary: step(KV.method.range, { ...range, countOnly: flag }) },
  { weight: 2, arbitrary: step(KV.method.deleteRange, { ...range, prevKv: flag }) },
  {
    weight: 3,
    arbitrary: step(KV.method.txn, {
      compare: fc.array(fc.record({ key: real }), { maxLength: 1 }),
      // Of a key given twice in a transaction etcd tells before it asks who calls.
      success: fc.uniqueArray(operation, {
        minLength: 1,
        maxLength: 2,
        selector: ({ request }) => String(request.value.key),
      }),
      failure: fc.array(operation, { maxLength: 1 }),
    }),
  },
);

/** A beginning that most sequences need to come to anything. */
const beginning: Step[] = [
  { method: method.userAdd as Method, request: { name: 'root', password: 'x' }, by: undefined },
  { method: method.userGrantRole as Method, request: { user: 'root', role: 'root' }, by: undefined },
  { method: method.userAdd as Method, request: { name: 'alice', password: 'x' }, by: undefined },
  { method: method.roleAdd as Method, request: { name: 'r' }, by: undefined },
  { method: method.userGrantRole as Method, request: { user: 'alice', role: 'r' }, by: undefined },
  { method: method.authEnable as Method, request: {}, by: undefined },
  { method: method.authenticate as Method, request: { name: 'root', password: 'x' }, by: undefined },
  { method: method.authenticate as Method, request: { name: 'alice', password: 'x' }, by: undefined },
];

/** Puts both into the state that a new store has. */
async function clear(ask: Ask): Promise<void> {
  let token: string | undefined;
  const quietly = (of: DescMethodUnary, request: object) =>
    ask(of as Method, request, token).catch(() => ({}));
  for (const password of ['x', 'y'])
    token ??= ((await quietly(method.authenticate, { name: 'root', password })) as { token?: string }).token;
  await quietly(method.authDisable, {});
  const { users: all = [] } = (await quietly(method.userList, {})) as { users?: string[] };
  const { roles: every = [] } = (await quietly(method.roleList, {})) as { roles?: string[] };
  for (const name of all) await quietly(method.userDelete, { name });
  for (const name of every) await quietly(method.roleDelete, { role: name });
  await quietly(KV.method.deleteRange, { key: bytesOf('\0'), rangeEnd: bytesOf('\0') });
}

/** More of them by hand: `KV_RUNS=1000`; the same ones again: `KV_SEED`. */
const RUNS = Number(process.env.KV_RUNS ?? 40);

describe('answers are those of etcd', () => {
  let answered = 0;
  test(
    'to random requests',
    async () => {
      await fc.assert(
        fc.asyncProperty(flag, fc.array(anyStep, { minLength: 10, maxLength: 60 }), async (begun, random) => {
          const sides = [
            { ask: bare.ask, tokens: new Map<string, string>() },
            { ask: askStore('a/one/'), tokens: new Map<string, string>() },
          ] as const;
          try {
            for (const { method: of, request, by: who } of begun ? [...beginning, ...random] : random) {
              const answers = [];
              for (const { ask, tokens } of sides) {
                const noting: Ask = async (...args) => {
                  const answer = await ask(...args);
                  if (of === (method.authenticate as Method))
                    tokens.set((request as { name: string }).name, (answer as { token: string }).token);
                  return answer;
                };
                answers.push(
                  await answerOf(noting, of, request, who === undefined ? undefined : tokens.get(who)),
                );
              }
              expect([of.name, request, who, answers[1]]).toEqual([of.name, request, who, answers[0]]);
              answered += 1;
            }
          } finally {
            for (const { ask } of sides) await clear(ask);
          }
        }),
        {
          numRuns: RUNS,
          endOnFailure: true,
          interruptAfterTimeLimit: 30_000 * (RUNS / 40),
          ...(process.env.KV_SEED !== undefined && { seed: Number(process.env.KV_SEED) }),
        },
      );
      expect(answered).toBeGreaterThan(100);
    },
    120_000 * (RUNS / 40),
  );
});
