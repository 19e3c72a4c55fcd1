/** What a fuzz run did, for its report: how many calls of each kind were accepted, and how often each refusal occurred. */
import type { Outcome } from './refusal.ts';

export interface FuzzFigures {
  readonly sequences: number;
  readonly calls: number;
  /** Views that were compared with the model. */
  readonly views: number;
  readonly accepted: Readonly<Record<string, number>>;
  readonly refused: Readonly<Record<string, number>>;
  readonly attestations: { readonly good: number; readonly bad: number };
  /** The most gas that an accepted call of each kind used. */
  readonly mostGas: Readonly<Record<string, number>>;
}

export class FuzzStatistics {
  #sequences = 0;
  #views = 0;
  readonly #accepted = new Map<string, number>();
  readonly #refused = new Map<string, number>();
  readonly #mostGas = new Map<string, number>();
  readonly #attestations = { good: 0, bad: 0 };

  sequenceEnded(): void {
    this.#sequences += 1;
  }

  call(name: string, outcome: Outcome, gasUsed: number): void {
    if ('accepted' in outcome) {
      count(this.#accepted, name);
      this.#mostGas.set(name, Math.max(gasUsed, this.#mostGas.get(name) ?? 0));
    } else {
      count(this.#refused, outcome.refused === 'bare' ? 'without data' : outcome.refused.name);
    }
  }

  compared(views: number): void {
    this.#views += views;
  }

  attestation(good: boolean): void {
    this.#attestations[good ? 'good' : 'bad'] += 1;
  }

  figures(): FuzzFigures {
    const sum = (of: ReadonlyMap<string, number>): number => [...of.values()].reduce((a, b) => a + b, 0);
    return {
      sequences: this.#sequences,
      calls: sum(this.#accepted) + sum(this.#refused),
      views: this.#views,
      accepted: sorted(this.#accepted),
      refused: sorted(this.#refused),
      attestations: { ...this.#attestations },
      mostGas: sorted(this.#mostGas),
    };
  }
}

function count(of: Map<string, number>, name: string): void {
  of.set(name, (of.get(name) ?? 0) + 1);
}

function sorted(of: ReadonlyMap<string, number>): Readonly<Record<string, number>> {
  return Object.fromEntries([...of].sort(([a], [b]) => (a < b ? -1 : 1)));
}
