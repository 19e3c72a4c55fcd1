/** An oracle: an owner that publishes what its node suspects, as commentary that readers may ask for. One record after the other. */
import type { Log } from '../../../lib/daemon/log.ts';
import { fromHex } from '../../../lib/protocol/encoding.ts';
import { hasCode } from '../../../lib/protocol/errors.ts';
import { encodeCommentary } from '../../../lib/protocol/records/statements.ts';
import type { OwnDraft, RecordsNode } from '../node.ts';

/** Suspects that wait to be written about. Who floods a node with more is suspected less loudly. */
const MOST_WAITING = 1_000;

export class Oracle {
  readonly #node: RecordsNode;
  readonly #make: (draft: OwnDraft) => Promise<string>;
  readonly #log: Log<'info' | 'warn'>;
  readonly #unsubscribe: () => void;
  readonly #waiting: string[] = [];
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #isStopped = false;

  /** @param make writes as the oracle */
  constructor(node: RecordsNode, make: (draft: OwnDraft) => Promise<string>, log: Log<'info' | 'warn'>) {
    this.#node = node;
    this.#make = make;
    this.#log = log;
    this.#unsubscribe = node.subscribe((items) => {
      for (const { id } of items) this.#judge(id);
    });
  }

  /** Once the record at hand is done or given up. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unsubscribe();
    await this.#writing;
  }

  #judge(id: string): void {
    if (this.#node.standingOf(id)?.isCollider !== true || this.#waiting.length >= MOST_WAITING) return;
    this.#waiting.push(id);
    if (!this.#isWriting) this.#writing = this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    for (let id = this.#waiting.shift(); id !== undefined && !this.#isStopped; id = this.#waiting.shift()) {
      try {
        const value = encodeCommentary({ subject: fromHex(id), opinion: 'suspect' });
        const commentary = await this.#make({ type: 'commentary', names: [], value });
        this.#log.info({ suspect: id, commentary }, 'a suspect record is named');
      } catch (error) {
        if (!hasCode(error, 'RECORD_WORK_CANCELLED'))
          this.#log.warn({ suspect: id, err: error }, 'a suspect record could not be named');
      }
    }
    this.#isWriting = false;
  }
}
