/** A node in figures, in Prometheus' text format (version 0.0.4). */
import type { StatusReply } from './messages.ts';

const FIGURES: readonly (readonly [string, string, (status: StatusReply) => number | boolean])[] = [
  ['dstack_records_members', 'Records that are members here.', ({ records }) => records],
  ['dstack_records_waiting', 'Records that wait for what they stand on.', ({ waiting }) => waiting],
  [
    'dstack_records_lacking',
    'Records that a peer offers and that are not here yet.',
    ({ lacking }) => lacking,
  ],
  ['dstack_records_peers', 'Connections to other nodes.', ({ peers }) => peers],
  [
    'dstack_records_synchronised',
    '1 while this node has all that a peer has.',
    ({ isSynchronised }) => isSynchronised,
  ],
  [
    'dstack_records_stopped',
    '1 once nothing is taken any more: the disk is full or fails.',
    ({ stopped }) => stopped !== null,
  ],
];

/** @param refusals requests that were refused since the start, by their code */
export function metricsText(status: StatusReply, refusals: ReadonlyMap<string, number>): string {
  const figures = FIGURES.flatMap(([name, help, of]) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} gauge`,
    `${name} ${Number(of(status))}`,
  ]);
  const counter = 'dstack_records_requests_refused_total';
  const counts = [...refusals].map(([code, count]) => `${counter}{code="${code}"} ${count}`);
  const refused = [`# HELP ${counter} Requests that were refused.`, `# TYPE ${counter} counter`, ...counts];
  return `${[...figures, ...refused].join('\n')}\n`;
}
