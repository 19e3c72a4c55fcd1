/**
 * Refusals as etcd 3.5 words them (its package rpctypes): clients compare these strings, so they are exact.
 */
import { DstackError } from '../protocol/errors.ts';

/** gRPC's status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html). */
export const status = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

export type Status = (typeof status)[keyof typeof status];

/** A call's end that is not a success. The message goes to the client as it is. */
export class RpcError extends DstackError {
  readonly status: Status;

  constructor(code: Status, message: string, cause?: unknown) {
    super('RPC_REFUSED', message, cause === undefined ? {} : { cause });
    this.name = 'RpcError';
    this.status = code;
  }
}

/** A status as a number from elsewhere; what gRPC does not define counts as `unknown`. */
export function statusOf(code: number): Status {
  return (Object.values(status) as number[]).includes(code) ? (code as Status) : status.unknown;
}

const errors = {
  emptyKey: [status.invalidArgument, 'key is not provided'],
  keyNotFound: [status.invalidArgument, 'key not found'],
  valueProvided: [status.invalidArgument, 'value is provided'],
  leaseProvided: [status.invalidArgument, 'lease is provided'],
  tooManyOps: [status.invalidArgument, 'too many operations in txn request'],
  duplicateKey: [status.invalidArgument, 'duplicate key given in txn request'],
  invalidSortOption: [status.invalidArgument, 'invalid sort option'],
  compacted: [status.outOfRange, 'mvcc: required revision has been compacted'],
  futureRevision: [status.outOfRange, 'mvcc: required revision is a future revision'],
  noSpace: [status.resourceExhausted, 'mvcc: database space exceeded'],

  leaseNotFound: [status.notFound, 'requested lease not found'],
  leaseExists: [status.failedPrecondition, 'lease already exists'],
  leaseTtlTooLarge: [status.outOfRange, 'too large lease TTL'],

  memberNotFound: [status.notFound, 'member not found'],
  requestTooLarge: [status.invalidArgument, 'request is too large'],
  // Not etcd's: it has no bound there.
  readTooLarge: [
    status.resourceExhausted,
    'request reads too much: more than 64 MiB of keys and values; ask for less, in several requests',
  ],
  tooManyRequests: [status.resourceExhausted, 'too many requests'],

  rootUserNotExist: [status.failedPrecondition, 'root user does not exist'],
  rootRoleNotExist: [status.failedPrecondition, 'root user does not have root role'],
  userExists: [status.failedPrecondition, 'user name already exists'],
  userEmpty: [status.invalidArgument, 'user name is empty'],
  userNotFound: [status.failedPrecondition, 'user name not found'],
  roleExists: [status.failedPrecondition, 'role name already exists'],
  roleNotFound: [status.failedPrecondition, 'role name not found'],
  roleEmpty: [status.invalidArgument, 'role name is empty'],
  authFailed: [status.invalidArgument, 'authentication failed, invalid user ID or password'],
  permissionNotGiven: [status.invalidArgument, 'permission not given'],
  permissionDenied: [status.permissionDenied, 'permission denied'],
  roleNotGranted: [status.failedPrecondition, 'role is not granted to the user'],
  permissionNotGranted: [status.failedPrecondition, 'permission is not granted to the role'],
  authNotEnabled: [status.failedPrecondition, 'authentication is not enabled'],
  invalidAuthToken: [status.unauthenticated, 'invalid auth token'],
  invalidAuthManagement: [status.invalidArgument, 'invalid auth management'],
  authOldRevision: [status.invalidArgument, 'revision of auth store is old'],

  noLeader: [status.unavailable, 'no leader'],
  notCapable: [status.unavailable, 'not capable'],
  stopped: [status.unavailable, 'server stopped'],
  timeout: [status.unavailable, 'request timed out'],
  connectionLost: [status.unavailable, 'request timed out, possibly due to connection lost'],
  unhealthy: [status.unavailable, 'unhealthy cluster'],
  corrupt: [status.dataLoss, 'corrupt cluster'],
} as const satisfies Record<string, readonly [Status, string]>;

export type EtcdErrorName = keyof typeof errors;

/** The refusal of that name, as etcd itself would send it. */
export function etcdError(name: EtcdErrorName, cause?: unknown): RpcError {
  const [code, text] = errors[name];
  return new RpcError(code, `etcdserver: ${text}`, cause);
}

/** The end of a call whose client waits no longer. */
export function cancelled(): RpcError {
  return new RpcError(status.cancelled, 'context canceled');
}
