/**
 * What this relay says to others that ask by records (host/records/wire/asking.ts): parts of its apps' files, from where they lie on its volume, and the
 * files of its archive. Both are public. Nothing is offered or announced: who asks knows from the contract what it needs.
 */
import {
  decodeQuestion,
  encodeArchived,
  encodeNames,
  encodePart,
  MAX_NAMES,
} from '../../lib/protocol/relay-questions.ts';
import { PART_BYTES } from '../../lib/protocol/sha256-parts.ts';
import type { Desk } from '../gossip/carriers.ts';
import type { AppFiles } from './app-files.ts';
import type { Archive } from './archive.ts';
import { Pieces } from './pieces.ts';

export interface RelayDeskOptions {
  archive: Pick<Archive, 'list' | 'part'>;
  /** Absent: this relay gives none. */
  files: AppFiles | undefined;
}

export class RelayDesk implements Desk {
  readonly #archive: RelayDeskOptions['archive'];
  readonly #pieces: Pieces | undefined;

  constructor({ archive, files }: RelayDeskOptions) {
    this.#archive = archive;
    this.#pieces = files === undefined ? undefined : new Pieces(files);
  }

  /** @throws RELAY_QUESTION, and what a file of the operator's is refused with: nothing is said then */
  async answer(what: Uint8Array): Promise<Uint8Array | undefined> {
    const question = decodeQuestion(what);
    switch (question.kind) {
      case 'part': {
        const part = await this.#pieces?.part(question);
        return part === undefined ? undefined : encodePart(part);
      }
      case 'names':
        return encodeNames(this.#archive.list(question.after, MAX_NAMES));
      case 'archived': {
        const found = this.#archive.part(question.name, question.at, PART_BYTES);
        return found === undefined ? undefined : encodeArchived(found);
      }
    }
  }
}
