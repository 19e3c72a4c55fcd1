/**
 * A copy of a log, kept while it is audited. What has a path in a log, but for the head and whose key signs it, is the same for ever: where the copy has
 * something else, the copy stays as it is, being evidence. The head comes last, when all is well, so that a copy with a head is one that was found sound.
 */
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import type { Fetch } from '../../lib/ledger/audit.ts';
import { CHECKPOINT_PATH } from '../../lib/ledger/tiles.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { LEDGER_EVIDENCE_PATH } from '../../lib/protocol/ledger-evidence.ts';
import { requireLogPath } from './log-source.ts';

export const MAX_HEAD_BYTES = 64 * 1024;

export class LogCopy {
  readonly #folder: string;
  #differs: string | undefined;

  /** @throws FOLDER, and the file system's own errors */
  constructor(folder: string) {
    makeFolder(folder);
    this.#folder = folder;
  }

  /** The head of an earlier audit, which the log has to continue. */
  get head(): string | undefined {
    const file = join(this.#folder, CHECKPOINT_PATH);
    if (statSync(file, { throwIfNoEntry: false }) === undefined) return undefined;
    return readBounded(file, { maxBytes: MAX_HEAD_BYTES }).toString();
  }

  /** As `fetch`, and keeps what it gets. */
  keeping(fetch: Fetch): Fetch {
    return async (path, maxBytes) => {
      const bytes = await fetch(path, maxBytes);
      if (path !== CHECKPOINT_PATH) this.#keep(path, bytes);
      return bytes;
    };
  }

  #keep(path: string, bytes: Uint8Array): void {
    const file = join(this.#folder, requireLogPath(path));
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) {
      makeFolder(dirname(file));
      writeDurably(file, bytes);
    } else if (
      stat.size !== bytes.length ||
      !bytesEqual(readBounded(file, { maxBytes: bytes.length }), bytes)
    ) {
      this.#differs ??= file;
    }
  }

  /**
   * The copy's head, after an audit that found all well.
   * @param evidence of the log's key, if it was judged
   * @throws LOG_COPY
   */
  finish(head: string, evidence?: string): void {
    if (this.#differs !== undefined)
      throw new DstackError(
        'LOG_COPY',
        `${this.#differs} is not what the log has there: the copy is of another log, or was changed; keep it, and choose another folder`,
      );
    if (evidence !== undefined) writeDurably(join(this.#folder, LEDGER_EVIDENCE_PATH), evidence);
    writeDurably(join(this.#folder, CHECKPOINT_PATH), head);
  }
}
