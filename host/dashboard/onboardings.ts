/** Requests to join, by the contract's events, beside what this host does about each. */
import type { Seen } from './chain-history.ts';
import type { Onboarding } from './state.ts';
import { text } from './state.ts';

/** What is known of requests besides events. */
export interface Desk {
  /** Blocks for which a request may be answered. */
  readonly requestWindow: number;
  /** The newest block. */
  readonly head: number;
  /** What this host's own node waits for. */
  readonly waitingFor: string;
  /** What the relay works on, by the hash of the transaction that asked for it. */
  readonly work: readonly { readonly transaction: string; readonly reason: string }[];
  /** Whether a request (0x and 64 hex digits) is this host's own node's. */
  isOwn(request: string): boolean;
}

/** The newest first. */
export function onboardings(events: readonly Seen[], desk: Desk): readonly Onboarding[] {
  const reasons = new Map(desk.work.map(({ transaction, reason }) => [transaction, reason]));
  const answered = new Map<string, { block: number; transaction: string }>();
  for (const { event, block, transaction } of events)
    if (event.name === 'Onboarded') answered.set(event.requestHash, { block, transaction });
  return events
    .flatMap(({ event, block, transaction }): readonly Onboarding[] => {
      if (event.name !== 'Registered') return [];
      const { requestHash: request, node } = event;
      const answer = answered.get(request);
      const until = block + desk.requestWindow;
      const own = desk.isOwn(request);
      const state = answer !== undefined ? 'answered' : desk.head > until ? 'expired' : 'asked';
      const isOver = state === 'expired';
      const work = reasons.get(answer?.transaction ?? transaction) ?? reasons.get(transaction);
      const note = isOver ? 'nobody answered in time' : own ? desk.waitingFor : (work ?? '');
      return [
        {
          request,
          node,
          state,
          askedBlock: block,
          answeredBlock: answer?.block ?? null,
          until,
          own,
          note: text(note),
        },
      ];
    })
    .reverse();
}
