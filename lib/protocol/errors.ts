/**
 * The one base class of every error that may cross a module boundary.
 *
 * `code` is stable: programs, tests and operators match on it, never on the text. The message says what was wrong, with
 * which value, and what to do about it. It must never contain a secret: it reaches logs and the host.
 */
export class DstackError extends Error {
  readonly code: string;
  /** Lines that belong under the message, such as the end of a log. */
  readonly details: readonly string[];

  constructor(code: string, message: string, options: { cause?: unknown; details?: readonly string[] } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'DstackError';
    this.code = code;
    this.details = options.details ?? [];
  }
}

/** An error that may pass by itself: who gets it may try again, with growing pauses. */
export class Retryable extends DstackError {}

/** True for an error of ours with exactly this code. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof DstackError && error.code === code;
}

/** What any thrown value says, which need not be an error: `Promise.reject()` throws undefined. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  try {
    return String(error);
  } catch {
    return 'something without words was thrown';
  }
}

/** The stable code of any thrown value; `INTERNAL` for what is not ours. */
export function codeOf(error: unknown): string {
  return error instanceof DstackError ? error.code : 'INTERNAL';
}
