/**
 * When this node may order: pure. All nodes could at once, and one is enough, so each waits for a moment of its own and looks
 * whether another has done it. Times are Unix seconds by the chain's clock.
 */
import { lengthPrefixed, sha256, utf8 } from '../../lib/protocol/encoding.ts';
import type { SiteCertificate } from '../../lib/site/certificate-rule.ts';

const WEEK = 7 * 24 * 3600;
/** Authorities issue the same names so many times a week (Let's Encrypt: duplicate certificates), and so do we. */
export const ORDERS_A_WEEK = 5;
/** The share of its lifetime after which a certificate is renewed, and the share that is left to the nodes to differ in. */
const RENEW_AFTER = 2 / 3;
const RENEW_WITHIN = 1 / 20;
/**
 * A moment that has passed when it is proposed means at once (RFC 9773, section 4.2, step 3), to a client. The nodes are one, so they
 * spread as for a first certificate, for one to be quicker than the others. Seconds, and no more than the share above.
 */
const AT_ONCE_WITHIN = 600;
/** However late the authority proposes it: this share of the lifetime is left for trying. */
const RENEW_BEFORE = 9 / 10;
/** After that many orders in a row without a certificate. Five of them span a week. */
const BACK_OFF = [10 * 60, 2 * 3600, 12 * 3600, 48 * 3600];
/** After the first try that got no order, doubled with each; and at most. */
const TRY_AGAIN = 30;
const TRY_AGAIN_AT_MOST = 3600;
/** Nodes that failed together must not try again together. */
const SPREAD = 1 / 4;

export interface Failures {
  /** In a row: orders that brought no certificate, and tries that got no order. */
  orders: number;
  tries: number;
  at: number;
  /** Until when the authority asked to be left alone. */
  until?: number | undefined;
}

export interface Situation {
  now: number;
  /** Hex, of this node alone. */
  node: string;
  names: readonly string[];
  /** The certificate in use; undefined when there is none that fits. */
  present: Pick<SiteCertificate, 'serial' | 'notBefore' | 'notAfter'> | undefined;
  /** Since when there is none. */
  since: number;
  /** Within so many seconds of that, the first nodes order. */
  firstWithin: number;
  /** What the authority proposes for the one in use (RFC 9773), and when this node heard of it. */
  proposed?: { start: number; end: number; learned: number } | undefined;
  /** When the last orders for these names were made, by us or (as their certificates tell) by others. */
  orders: readonly number[];
  failures?: Failures | undefined;
}

export interface NextOrder {
  at: number;
  /** What decides about it. */
  because: 'none' | 'due' | 'failed' | 'held';
}

export function nextOrder(situation: Situation): NextOrder {
  const { now, failures } = situation;
  const wanted: NextOrder = {
    at: moment(situation),
    because: situation.present === undefined ? 'none' : 'due',
  };
  const later: NextOrder[] = [wanted];
  if (failures !== undefined) later.push({ at: afterFailure(failures, situation), because: 'failed' });
  const week = situation.orders.map((at) => Math.min(at, now)).filter((at) => at > now - WEEK);
  if (week.length >= ORDERS_A_WEEK) {
    const oldest = week.sort((a, b) => b - a)[ORDERS_A_WEEK - 1]!;
    later.push({ at: oldest + WEEK, because: 'held' });
  }
  return later.reduce((last, next) => (next.at > last.at ? next : last));
}

/** The authority may ask for more patience, but not for more than we have after many failures. */
function afterFailure({ orders, tries, at, until = 0 }: Failures, { now, node, names }: Situation): number {
  const ofOrders = orders === 0 ? 0 : BACK_OFF[Math.min(orders, BACK_OFF.length) - 1]!;
  const ofTries = tries === 0 ? 0 : Math.min(TRY_AGAIN * 2 ** (tries - 1), TRY_AGAIN_AT_MOST);
  const pause = Math.max(ofOrders, ofTries) * (1 + jitter(node, names, `${orders}.${tries}`) * SPREAD);
  // A clock that was ahead then says nothing about today.
  const failedAt = Math.min(at, now);
  return Math.max(failedAt + pause, Math.min(until, failedAt + BACK_OFF.at(-1)!));
}

/** The node's own moment within the time in which the nodes renew. */
function moment({ present, node, names, since, firstWithin, proposed }: Situation): number {
  if (present === undefined) return since + jitter(node, names, '') * firstWithin;
  const { notBefore, notAfter, serial } = present;
  const lifetime = notAfter - notBefore;
  const latest = notBefore + lifetime * RENEW_BEFORE;
  const start = Math.min(proposed?.start ?? notBefore + lifetime * RENEW_AFTER, latest);
  const end = Math.min(proposed?.end ?? start + lifetime * RENEW_WITHIN, latest);
  const own = jitter(node, names, serial);
  const chosen = start + own * Math.max(0, end - start);
  if (proposed === undefined || chosen > proposed.learned) return chosen;
  return Math.min(proposed.learned + own * Math.min(AT_ONCE_WITHIN, lifetime * RENEW_WITHIN), latest);
}

/** From 0 to 1: the same for one node, names and certificate, so that no restart draws again. */
export function jitter(node: string, names: readonly string[], serial: string): number {
  const hash = sha256(lengthPrefixed([node, ...names, serial].map(utf8)));
  return Buffer.from(hash).readUInt32BE() / 0x1_0000_0000;
}
