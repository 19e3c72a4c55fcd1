/** The outcome of a call, in the form in which model and chain are compared. */

/** An event or an error: its name and its fields. Uints of more than 48 bits are bigints, as the bindings have them. */
export type Named = { readonly name: string } & Readonly<Record<string, unknown>>;
/** `bare` is a revert without data: what the compiler's own checks of calldata and value do. */
export type Outcome = { readonly accepted: readonly Named[] } | { readonly refused: Named | 'bare' };

/** Thrown inside the model and turned into an `Outcome`. */
export class Refusal extends Error {
  readonly refused: Named | 'bare';

  constructor(refused: Named | 'bare') {
    super(typeof refused === 'string' ? refused : refused.name);
    this.refused = refused;
  }
}

export function refuse(name: string, fields: Readonly<Record<string, unknown>> = {}): never {
  throw new Refusal({ name, ...fields });
}
