/** What the owner has set in motion and is not in force yet: told again when its time has come, unless it was taken back. */
import type { NetworkEvent } from '../../lib/protocol/network-contract.ts';
import type { SeenEvent } from './follow.ts';

/** What an event is about: a later one about the same takes its place. */
function subjectOf(event: NetworkEvent): string {
  switch (event.name) {
    case 'MeasurementAllowed':
    case 'MeasurementRevoked':
      return `measurement ${event.measurement}`;
    case 'ConfigAllowed':
    case 'ConfigRevoked':
      return `config ${event.config}`;
    case 'PlatformAllowed':
    case 'PlatformRevoked':
      return `platform ${event.platform}`;
    case 'PlatformsOpened':
    case 'PlatformsClosed':
      return 'platforms';
    case 'FmspcAllowed':
    case 'FmspcDenied':
      return `FMSPC ${event.fmspc}`;
    case 'RolledOut':
    case 'RolledBack':
    case 'Withdrawn':
      return `app ${event.app}`;
    default:
      return event.name;
  }
}

export class PendingEvents {
  readonly #bySubject = new Map<string, SeenEvent>();

  /** @param time of the newest block, Unix seconds */
  take(seen: SeenEvent, time: number): void {
    const subject = subjectOf(seen.event);
    this.#bySubject.delete(subject);
    if (fromOf(seen.event) > time) this.#bySubject.set(subject, seen);
  }

  /** A re-organisation took it back. */
  drop(seen: SeenEvent): void {
    const subject = subjectOf(seen.event);
    if (this.#bySubject.get(subject) === seen) this.#bySubject.delete(subject);
  }

  /** Those whose time has come, each once. */
  due(time: number): SeenEvent[] {
    const due = [...this.#bySubject].filter(([, { event }]) => fromOf(event) <= time);
    for (const [subject] of due) this.#bySubject.delete(subject);
    return due.map(([, seen]) => seen);
  }
}

/** Unix seconds; 0 for what is in force at once. */
export const fromOf = (event: NetworkEvent): number => ('from' in event ? Number(event.from) : 0);
