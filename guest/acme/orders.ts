/**
 * Orders a certificate when it is this node's moment (schedule.ts), and nobody else has brought a newer one by then. What is
 * about to be done is written down first, so that no end of the process makes it forget an order.
 */
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import type { AcmeStatus } from '../../lib/protocol/sockets.ts';
import type { SiteCertificate } from '../../lib/site/certificate-rule.ts';
import type { Account } from './authority.ts';
import type { Holder } from './holder.ts';
import { type Memory, namesHash, type Remembered } from './memory.ts';
import { type NextOrder, nextOrder, type Situation } from './schedule.ts';
import { AcmeProblem } from './transport.ts';

export interface OrdersOptions {
  names: readonly string[];
  memory: Memory;
  holder: Holder;
  /** Unix seconds, by the chain. */
  now(): Promise<number>;
  /** See `Situation` of schedule.ts; seconds. */
  firstWithin: number;
  /** Finds or makes the network's account, whose URL the owner puts into the DNS before the first order. */
  account(): Promise<Account>;
  /** The directory's URL. */
  directory: string;
  /** Throws why an order would be in vain, before one is made. */
  ready(account: Account): Promise<void>;
  /** Makes one order, calling `before` right before the authority is asked for it. */
  order(before: (account: Account) => Promise<void>): Promise<string>;
  /** Chains that the website shows by other nodes, PEM. Never rejects. */
  look(): Promise<readonly string[]>;
  /** When the authority proposes to renew (RFC 9773); undefined when it does not. Never rejects. */
  proposed(certificate: SiteCertificate): Promise<{ start: number; end: number } | undefined>;
  log: Log<'info' | 'warn'>;
}

type Progress = Pick<AcmeStatus, 'state' | 'code' | 'reason' | 'nextOrder'>;

/** More than what counts within a week. */
const ORDERS_KEPT = 50;

/** A certificate may start so much after now by the chain's clock (certificate-rule.ts). Seconds. */
const AHEAD = 3600;

export class Orders {
  readonly #options: OrdersOptions;
  readonly #set: Hex;
  /** Since when there has been no certificate. */
  #since: number | undefined;
  /** What the authority proposes for the one in use, and when we heard of it. */
  #proposal: Situation['proposed'];
  #problem: { code: string; reason: string } | undefined;
  /** Since the account was asked for last. */
  #hasFailed = false;
  /** While an order of ours is under way. */
  #open = false;
  status: Progress = { state: 'waiting' };

  constructor(options: OrdersOptions) {
    this.#options = options;
    this.#set = namesHash(options.names);
  }

  /** One look at the clock, and an order if it is time. Handles the authority's failures. */
  async step(): Promise<void> {
    const now = await this.#options.now();
    this.#correctTimes(now);
    await this.#findAccount(now);
    if (await this.#isDue(now)) {
      for (const chain of await this.#options.look()) this.#tryTake(chain, now);
      if (await this.#isDue(now)) await this.#order();
    }
    this.#report(await this.#plan(await this.#options.now()));
  }

  /** The network's account with this authority, once it is known. */
  get account(): Account | undefined {
    const { account } = this.#options.memory.value;
    return account?.directory === this.#options.directory ? account : undefined;
  }

  /** What a clock that was far ahead wrote down would be just now for as long as it takes to get there. */
  #correctTimes(now: number): void {
    const { memory } = this.#options;
    const { orders, failures } = memory.value;
    const isAhead = ({ at }: { at: number }) => at > now + AHEAD;
    if (!orders.some(isAhead) && (failures === undefined || !isAhead(failures))) return;
    const { failures: _, ...rest } = memory.value;
    this.#save({
      ...rest,
      orders: orders.map((order) => (isAhead(order) ? { ...order, at: now } : order)),
      ...(failures !== undefined && { failures: isAhead(failures) ? { ...failures, at: now } : failures }),
    });
  }

  async #findAccount(now: number): Promise<void> {
    // An authority may have lost it, or given it another URL.
    if (this.account !== undefined && !(this.#hasFailed && (await this.#isDue(now)))) return;
    // Pauses after failures are kept, and nothing else is waited for.
    if ((await this.#plan(now, { since: 0, present: undefined })).at > now) return;
    try {
      this.#remember(await this.#options.account());
      this.#hasFailed = false;
    } catch (error) {
      await this.#failed(error);
    }
  }

  #remember(account: Account): void {
    const { directory, memory } = this.#options;
    this.#save({ ...memory.value, account: { directory, ...account } });
  }

  async #isDue(now: number): Promise<boolean> {
    return (await this.#plan(now)).at <= now;
  }

  /** Of whatever way it came: it counts as an order, and ends the row of failures. */
  taken(certificate: SiteCertificate): void {
    const { memory, log } = this.#options;
    const { fingerprint, chain, notBefore, serial, notAfter } = certificate;
    const { orders } = memory.value;
    const known = orders.find((order) => order.certificate === fingerprint);
    const mine = this.#open ? orders.findLast((order) => order.certificate === undefined) : undefined;
    const counted = known ?? mine;
    const order = { names: this.#set, at: counted?.at ?? notBefore, certificate: fingerprint };
    const { failures: _, ...rest } = memory.value;
    this.#problem = undefined;
    try {
      this.#save({ ...rest, chain, orders: [...orders.filter((each) => each !== counted), order] });
    } catch (error) {
      // It is in use all the same.
      log.warn({ code: codeOf(error), err: (error as Error).message }, 'a certificate cannot be remembered');
    }
    log.info(
      { serial, notAfter, ordered: known === undefined && mine !== undefined },
      'a certificate was taken into use',
    );
  }

  async #plan(now: number, over: Partial<Situation> = {}): Promise<NextOrder> {
    const { holder, names, firstWithin, memory, proposed } = this.#options;
    const present = holder.present(now);
    this.#since = present === undefined ? (this.#since ?? now) : undefined;
    const { node, orders, failures } = memory.value;
    return nextOrder({
      now,
      node,
      names,
      present,
      since: this.#since ?? now,
      firstWithin,
      proposed: present === undefined ? undefined : this.#learned(now, await proposed(present)),
      orders: orders.filter((order) => order.names === this.#set).map(({ at }) => at),
      failures: failures?.names === this.#set ? failures : undefined,
      ...over,
    });
  }

  #learned(now: number, proposed: { start: number; end: number } | undefined): Situation['proposed'] {
    const known = this.#proposal;
    if (proposed === undefined || known?.start !== proposed.start || known.end !== proposed.end)
      this.#proposal = proposed && { ...proposed, learned: now };
    return this.#proposal;
  }

  async #order(): Promise<void> {
    const { order, holder, now, log, ready } = this.#options;
    this.status = { state: 'ordering' };
    this.#open = false;
    try {
      if (this.account !== undefined) await ready(this.account);
      const chain = await order(async (account) => {
        if (account.url !== this.account?.url) {
          // The authority has forgotten the one that it had: what the DNS says for that one is worth nothing now.
          this.#remember(account);
          await ready(account);
        }
        // The account may have taken its time, and another node may have been quicker.
        const at = await now();
        if (!(await this.#isDue(at))) throw new DstackError('ACME_NOT_NEEDED', 'another node was quicker');
        const { orders } = this.#options.memory.value;
        this.#save({ ...this.#options.memory.value, orders: [...orders, { names: this.#set, at }] });
        this.#open = true;
        log.info({ orders: orders.length + 1 }, 'orders a certificate');
      });
      holder.take(chain, await now());
    } catch (error) {
      // Another one has come in the meantime, newer than ours.
      if (codeOf(error) === 'CERT_OLDER' || codeOf(error) === 'ACME_NOT_NEEDED') return;
      await this.#failed(error);
    } finally {
      this.#open = false;
    }
  }

  async #failed(error: unknown): Promise<void> {
    const { memory, now, log } = this.#options;
    const reason = (error as Error).message;
    const code = codeOf(error);
    this.#problem = { code, reason: reason.slice(0, 500) };
    this.#hasFailed = true;
    log.warn({ code, err: reason }, 'no certificate was issued');
    const at = await now();
    const before = memory.value.failures?.names === this.#set ? memory.value.failures : undefined;
    const asked = error instanceof AcmeProblem ? error.retryAfter : undefined;
    this.#save({
      ...memory.value,
      failures: {
        names: this.#set,
        orders: (before?.orders ?? 0) + (this.#open ? 1 : 0),
        tries: (before?.tries ?? 0) + (this.#open ? 0 : 1),
        at,
        ...(asked !== undefined && { until: at + asked }),
      },
    });
  }

  #report(plan: NextOrder): void {
    const state = { none: 'waiting', due: 'current', failed: 'failed', held: 'held' } as const;
    this.status = { state: state[plan.because], ...this.#problem, nextOrder: Math.ceil(plan.at) };
  }

  #tryTake(chain: string, now: number): void {
    try {
      this.#options.holder.take(chain, now);
    } catch (error) {
      // What a website shows may be anything, and most often it is what we have.
      if (!codeOf(error).startsWith('CERT_')) throw error;
    }
  }

  #save(value: Remembered): void {
    this.#options.memory.save({ ...value, orders: value.orders.slice(-ORDERS_KEPT) });
  }
}
