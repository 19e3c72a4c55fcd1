/** Which app is at the other end of a connection in a VM, and so whose namespace it is in; and whether that is still so. */
import type { Socket } from 'node:net';
import type { Log } from '../../lib/daemon/log.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { REMEMBERED } from '../bridges.ts';
import type { Callers } from '../callers.ts';
import type { Caller } from './types.ts';

/** Between two lines about one app. Milliseconds. */
const TOLD_EVERY = 3_600_000;
/** What is known of an app, and not that nothing is known now. */
const REFUSED = /^(STORE_NOT_GRANTED|APP_[A-Z_]+)$/;

export class Apps {
  readonly #callers: Pick<Callers, 'identify'>;
  readonly #log: Log<'warn'>;
  readonly #owner: string | undefined;
  /** When it was last said of an app that it may not call. */
  readonly #told = new Map<string, number>();
  /** When it was last seen whose a connection is. */
  readonly #seen = new WeakMap<Socket, number>();

  /** @param owner the app that network.json has maintain the store, if it has one */
  constructor(callers: Pick<Callers, 'identify'>, log: Log<'warn'>, owner?: string) {
    this.#callers = callers;
    this.#log = log;
    this.#owner = owner;
  }

  /** @throws STORE_NOT_GRANTED for an app whose manifest does not ask for the store, and what identifying it throws */
  async callerOf(socket: Socket): Promise<Caller> {
    return this.#identify(socket);
  }

  /**
   * Whether a connection is still the caller's: its app may have been superseded, or have come to do without the store. While nobody can
   * say, it is for as long as anything is believed that kubernethes has said.
   */
  async isStill(socket: Socket, caller: Caller): Promise<boolean> {
    const lasts = (this.#seen.get(socket) ?? Number.NEGATIVE_INFINITY) + REMEMBERED - performance.now();
    if (lasts <= 0) return this.#isOf(socket, caller, false);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    // Who is asked may not answer for minutes.
    const timer = setTimeout(() => resolve(false), lasts);
    this.#isOf(socket, caller, true).then(resolve);
    return promise.finally(() => clearTimeout(timer));
  }

  /** @param unknown what is said where nobody can say */
  async #isOf(socket: Socket, { name }: Caller, unknown: boolean): Promise<boolean> {
    try {
      return (await this.#identify(socket, 0)).name === name;
    } catch (error) {
      return unknown && !REFUSED.test(codeOf(error));
    }
  }

  async #identify(socket: Socket, within?: number): Promise<Caller> {
    const { remoteAddress: remote, localAddress: local } = socket;
    const { app, container, api } = await this.#callers.identify({ remote, local }, within);
    if (!api.includes('store')) {
      const why = `container ${container} of ${app} has no "store" under api in its manifest`;
      this.#tell(app, container, why);
      throw new DstackError('STORE_NOT_GRANTED', why);
    }
    this.#seen.set(socket, performance.now());
    return { prefix: utf8(`a/${app}/`), name: app, owner: app === this.#owner };
  }

  #tell(app: string, container: string, why: string): void {
    const now = performance.now();
    if (now - (this.#told.get(app) ?? Number.NEGATIVE_INFINITY) < TOLD_EVERY) return;
    this.#told.set(app, now);
    this.#log.warn({ app, container, code: 'STORE_NOT_GRANTED' }, `a connection was closed: ${why}`);
  }
}
