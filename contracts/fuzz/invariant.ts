/** What is thrown when the chain shows what must never be. */
export class InvariantBroken extends Error {
  readonly invariant: string;

  constructor(invariant: string, detail: string) {
    super(`invariant broken: ${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

export function check(holds: boolean, invariant: string, detail: () => string): asserts holds {
  if (!holds) throw new InvariantBroken(invariant, detail());
}
