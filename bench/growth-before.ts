/**
 * What the same figures were before the code was made to grow: measured once, on processes with a chain of anvil, on another machine. Times
 * can be compared within a row; between this and what is measured now, only how they grow.
 */
import type { Row } from './growth.ts';

const curve = (what: string, unit: string, figures: Readonly<Record<number, number>>): Row[] =>
  Object.entries(figures).map(([size, figure]) => ({ what, unit, size: Number(size), figure }));

/** By the names that `npm run bench -- scale` gives them. */
export const BEFORE: readonly Row[] = [
  ...curve('store: a list of one row behind others', 'µs', { 100: 480, 1000: 3_700, 10000: 45_700 }),
  ...curve('relay: processor for an answered request', 'ms of CPU', { 100: 24, 1000: 54 }),
  ...curve('gossip: a message in the whole mesh', 'MB', { 4: 0.45, 8: 2.2, 16: 9.8, 32: 41 }),
  ...curve('hosts: nodes that answer a request', 'nodes', { 4: 4 }),
  ...curve('audit, the first: calls to the endpoint', 'calls', { 1000: 5_018 }),
  ...curve('relay: calls of an idle day', 'calls', { 0: 200_000 }),
  ...curve('8 hosts: calls of a relay for a lone join, beyond idling', 'calls', { 1: 24.4 }),
  ...curve('verifier: platforms still known, all in turn', '%', { 129: 0 }),
];
