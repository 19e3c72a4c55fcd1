/**
 * The only port that the host may dial: it can ask for the node's status, for its request, for an onboarding, and for the public
 * key of an app's secrets. No route gives out any other key, and every body is hostile until it is checked (design: Trust, point 1).
 */
import type { Server } from 'node:http';
import { type Static, Type } from 'typebox';
import type { PlatformKind } from '../../lib/attestation/quote/platform-kind.ts';
import { bytesAsJson } from '../../lib/daemon/http-body.ts';
import { HttpRefusal, jsonServer, type Refusal } from '../../lib/daemon/json-server.ts';
import type { Log } from '../../lib/daemon/log.ts';
import { type SealingKeyMessage, SealingKeyRequestSchema } from '../../lib/protocol/app-secrets.ts';
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { type CollateralMessage, CollateralSchema } from '../../lib/protocol/collateral.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
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
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { APP_CALL_MAX_BYTES, APP_CALL_PATH, type AppCallReply } from '../../lib/protocol/sockets.ts';

/** What can be asked of the node from outside. */
export interface NodeService {
  status(): NodeStatus;
  /** The open request; a new one if there is none that can still be answered. */
  request(): Promise<RequestMessage>;
  /** Takes the secret sealed to this node's own request. */
  answer(message: SealedMessage): Promise<NodeStatus>;
  /** Answers another node's request, without the secret. */
  onboard(message: RequestMessage): Promise<AnswerMessage>;
  /** The secret, sealed to another node's request, once the contract shows its answer. */
  sealed(message: RequestMessage): Promise<SealedMessage>;
  bootstrapPackage(): Promise<BootstrapPackage>;
  /** What secrets of an app are sealed to. */
  sealingKey(app: string): Promise<SealingKeyMessage>;
  /** Which collateral the website's evidence is judged by. */
  platformKind(): Promise<PlatformKind>;
  takeCollateral(collateral: CollateralMessage): void;
}

/** What is asked again and again, and is no news. */
const UNSAID: ReadonlySet<string> = new Set([
  'NO_ROUTE',
  'SIGNER_AWAY',
  'APP_UNKNOWN',
  'APP_NOT_RUNNING',
  'APP_BUSY',
]);

/** Calls handled at once; further ones are told to come back. Each may cost a quote or a verification. */
const MAX_AT_ONCE = 4;

/** What other daemons of the node say of themselves. */
export interface NodeReports {
  /** How the node's apps stand, as kubernethes says it. */
  apps(): Promise<AppsStatus>;
  /** What an app answers. @throws AppRefusal where it refuses; kubernethes' codes where it is not asked */
  ask(app: string, path: string, body: unknown): Promise<AppCallReply>;
  /** How its signer stands. @throws SIGNER_AWAY where there is none */
  signer(): Promise<SignerStatus>;
}

/** The server, not yet listening. */
export function nodePort(service: NodeService, reports: NodeReports, log: Log<'warn'>): Server {
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
  const asRequest = (body: unknown) => check(RequestMessageSchema, body, 'MESSAGE_MALFORMED', 'the request');
  const asAnswer = (body: unknown) => check(SealedMessageSchema, body, 'MESSAGE_MALFORMED', 'the answer');
  const asApp = (body: unknown) =>
    check(SealingKeyRequestSchema, body, 'MESSAGE_MALFORMED', "the request for an app's sealing key").app;
  const asCollateral = (body: unknown) =>
    check(CollateralSchema, body, 'MESSAGE_MALFORMED', 'the collateral');

  const server = jsonServer({
    // Beside the calls above: an app may take its time, and no node waits for that to be onboarded.
    below: {
      key: `POST ${nodePaths.appRequest}`,
      route: (rest, body) => askApp(rest, body, reports),
    },
    routes: {
      [`GET ${nodePaths.status}`]: () => service.status(),
      [`GET ${nodePaths.apps}`]: () => bounded(() => reports.apps()),
      [`GET ${nodePaths.signer}`]: () => bounded(() => reports.signer()),
      [`GET ${nodePaths.bootstrap}`]: () => bounded(() => service.bootstrapPackage()),
      [`POST ${nodePaths.request}`]: () => bounded(() => service.request()),
      [`POST ${nodePaths.answer}`]: (body) => bounded(() => service.answer(asAnswer(body))),
      [`POST ${nodePaths.onboard}`]: (body) => bounded(() => service.onboard(asRequest(body))),
      [`POST ${nodePaths.sealed}`]: (body) => bounded(() => service.sealed(asRequest(body))),
      [`POST ${nodePaths.sealingKey}`]: (body) => bounded(() => service.sealingKey(asApp(body))),
      [`GET ${nodePaths.collateral}`]: () => bounded(() => service.platformKind()),
      [`POST ${nodePaths.collateral}`]: (body) => service.takeCollateral(asCollateral(body)),
    },
    maxBodyBytes: (route) => (route.endsWith(nodePaths.appRequest) ? APP_CALL_MAX_BYTES : MESSAGE_MAX_BYTES),
    // All callers are processes of the host, behind one address. This limits memory; the host can deny service anyway.
    limits: { connections: 64, perSource: 64 },
    refusalOf(error, request) {
      const refusal = refusalOf(error);
      if (!UNSAID.has(refusal.code) && !(error instanceof AppRefusal)) {
        const route = request.url?.slice(0, 100);
        log.warn(
          { code: refusal.code, route, err: (error as Error).message },
          'refused a call from the host',
        );
      }
      return refusal;
    },
  });
  server.setTimeout(60_000);
  server.keepAliveTimeout = 30_000;
  return server;
}

/** An app has refused: its own status and words, if they have the form of a refusal. */
class AppRefusal extends DstackError {
  readonly status: number;

  constructor(status: number, { code, message }: Static<typeof RefusalSchema>) {
    super(code, message);
    this.status = status;
  }
}

/** What an app's own code may look like: those that begin with APP_ are the node's, and say that it was not the app. */
const RefusalSchema = Type.Object({
  code: Type.String({ pattern: '^(?!APP_)[!-~]+$', maxLength: 64 }),
  message: Type.String({ maxLength: 4096 }),
});

/** @param rest `APP/request/PATH`. @throws NO_ROUTE, APP_REPLY, AppRefusal, the codes of `reports.ask` */
async function askApp(rest: string, body: unknown, reports: NodeReports): Promise<unknown> {
  const { app, path } = /^(?<app>[a-z0-9-]{1,31})\/request(?<path>\/.{1,127})$/.exec(rest)?.groups ?? {};
  if (app === undefined || path === undefined || !new RegExp(APP_CALL_PATH).test(path))
    throw new HttpRefusal(404, 'NO_ROUTE', 'an app is asked at /v1/app/APP/request/PATH, of plain segments');
  // Numbers may become longer on the way, and what is no UTF-8 does: the next daemon reads no more than this.
  if (bytesAsJson(body) > APP_CALL_MAX_BYTES)
    throw new HttpRefusal(
      413,
      'BODY_TOO_LARGE',
      `the body, once it is written out, has more than ${APP_CALL_MAX_BYTES} bytes`,
    );
  const { status, value } = await reports.ask(app, path, body);
  if (status === 200) return value;
  // Else its code would pass as one of the node's own, with a status of the node's.
  if (status < 400 || status > 599)
    throw new DstackError('APP_REPLY', `${app} answers ${path} with status ${status}, which is no refusal`);
  const what = `what ${app} answers ${path} with status ${status}`;
  throw new AppRefusal(status, check(RefusalSchema, value, 'APP_REPLY', what));
}

/** Statuses of what kubernethes says of an app. From 500 on it may pass. */
const APP_STATUS: ReadonlyMap<string, number> = new Map([
  ['APP_UNKNOWN', 404],
  ['APP_NO_REQUESTS', 404],
  ['APP_NOT_RUNNING', 503],
  ['APP_BUSY', 503],
  ['APP_UNREACHABLE', 503],
  ['APP_OVERDUE', 504],
  ['APP_REPLY', 502],
]);

function refusalOf(error: unknown): Refusal {
  if (error instanceof AppRefusal) return { status: error.status, code: error.code, message: error.message };
  if (error instanceof HttpRefusal) {
    const { status, code, message } = error;
    return code === 'NO_ROUTE'
      ? {
          status,
          code,
          message:
            'the node port has status, apps, app/APP/request/PATH, signer, request, answer, onboard, sealed, bootstrap, sealing-key, collateral',
        }
      : { status, code: 'MESSAGE_MALFORMED', message };
  }
  if (error instanceof DstackError)
    return {
      status: error.code === 'BUSY' ? 503 : (APP_STATUS.get(error.code) ?? 422),
      code: error.code,
      message: error.message,
    };
  // The text of an internal error may contain anything; it stays in the node's log.
  return { status: 500, code: 'INTERNAL', message: 'internal error; see the VM console' };
}
