/** The history as it is replayed, event by event: by the contract's rules, by its storage, and in words. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Findings } from './findings.ts';
import type { Entry } from './history.ts';
import { Replay } from './replay.ts';
import type { AuditReport } from './report.ts';
import { StorageReplay } from './storage.ts';
import { describe } from './words.ts';

export class Past {
  readonly replay = new Replay();
  readonly storage = new StorageReplay();
  readonly timeline: AuditReport['timeline'][number][] = [];
  readonly #findings: Findings;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** Takes the next event. */
  take(entry: Entry): void {
    const { block, time, event } = entry;
    try {
      this.replay.take(entry);
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      this.#findings.add('failure', error.code, `block ${block}`, error.message);
    }
    this.storage.take(entry);
    this.timeline.push({ block, time, text: describe(event) });
  }
}
