/** A client's call: who, how long, and whether it still waits. */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import type { Call, Caller } from '../types.ts';

const MILLISECONDS = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 } as const;
/** Node's timers end here; a client that waits longer than three weeks waits for ever. */
const LONGEST = 2 ** 31 - 1;

/** gRPC's `grpc-timeout`, in milliseconds; undefined where there is none. @throws RpcError for what is not one */
export function timeoutOf(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(String(header));
  if (match === null) throw new RpcError(status.internal, 'grpc: malformed grpc-timeout');
  return Number(match[1]) * MILLISECONDS[match[2] as keyof typeof MILLISECONDS];
}

/** Whoever begins one ends it: with `end`, or with `abort` when its client has gone. */
export class ClientCall implements Call {
  readonly caller: Caller;
  readonly token: string | undefined;
  readonly deadline: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  #controller: AbortController | undefined;
  #ended = false;

  /** @param onDeadline told when the client's patience has ended */
  constructor(
    caller: Caller,
    token: string | undefined,
    timeout: number | undefined,
    onDeadline: (error: RpcError) => void,
  ) {
    this.caller = caller;
    this.token = token;
    if (timeout === undefined || timeout > LONGEST) return;
    this.deadline = performance.now() + timeout;
    this.#timer = setTimeout(() => {
      const error = new RpcError(status.deadlineExceeded, 'context deadline exceeded');
      onDeadline(error);
      this.abort();
    }, timeout);
  }

  /** Most calls are over before anyone asks for it, so it is made when it is asked for. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#ended) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.end();
    this.#controller?.abort();
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }
}
