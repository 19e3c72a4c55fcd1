/**
 * The one base class of every error that may cross a module boundary.
 *
 * `code` is stable: programs, tests and operators match on it, never on the text. The message says what was wrong, with
 * which value, and what to do about it. It must never contain a secret: it reaches logs and the host.
 */
export class DstackError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'DstackError';
    this.code = code;
  }
}

/** True for an error of ours with exactly this code. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof DstackError && error.code === code;
}

/** The stable code of any thrown value; `INTERNAL` for what is not ours. */
export function codeOf(error: unknown): string {
  return error instanceof DstackError ? error.code : 'INTERNAL';
}
