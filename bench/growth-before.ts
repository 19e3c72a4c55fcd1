/**
 * What the same figures were before the code was made to grow: measured once, on processes with a chain of anvil, on another machine; the
 * store's by the bench of today over the code of then, on the machine of the figures of now. Other times can be compared within a row; between
 * this and what is measured now, only how they grow.
 */
import type { Row } from './growth.ts';

const curve = (what: string, unit: string, figures: Readonly<Record<number, number>>): Row[] =>
  Object.entries(figures).map(([size, figure]) => ({ what, unit, size: Number(size), figure }));

/** By the names that `npm run bench -- scale` gives them. */
export const BEFORE: readonly Row[] = [
  ...curve('store: a list of one row behind others', 'µs', {
    ...{ 100: 10.4, 1000: 46.3, 10000: 418, 100000: 25_700 },
  }),
  ...curve('store: a write, and a count of all', 'µs', {
    ...{ 100: 22, 1000: 37.5, 10000: 253, 100000: 16_200 },
  }),
  ...curve('relay: processor for an answered request', 'ms of CPU', { 100: 24, 1000: 54 }),
  ...curve('gossip: a message in the whole mesh', 'MB', { 4: 0.45, 8: 2.2, 16: 9.8, 32: 41 }),
  ...curve('gossip, for each relay and message: bodies', 'bodies', { 8: 14.6, 16: 21.8 }),
  ...curve('gossip, for each relay and message: checks', 'checks', { 8: 13.4, 16: 17.1 }),
  ...curve('gossip, for each relay and message: bytes', 'kB', { 8: 241, 16: 385 }),
  ...curve('gossip, for each relay and message: processor', 'ms of CPU', { 8: 136, 16: 170 }),
  ...curve('hosts: nodes that answer a request', 'nodes', { 4: 4 }),
  ...curve('audit, the first: calls to the endpoint', 'calls', { 1000: 5_018 }),
  ...curve('relay: calls of an idle day', 'calls', { 0: 200_000 }),
  ...curve('8 hosts: calls of a relay for a lone join, beyond idling', 'calls', { 1: 24.4 }),
  ...curve('verifier: platforms still known, all in turn', '%', { 129: 0 }),
];
