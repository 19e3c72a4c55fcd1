/**
 * The interface through which all code gets its log: an object with a function for each level, which takes the fields first
 * and then a fixed message. A pino logger fits as it is, and so does an object literal in a test.
 *
 * Code asks only for the levels it uses: `Log<'warn'>` where it only warns.
 */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** @param message the same for every line of its kind: what varies goes into the fields. Neither ever contains a secret. */
export type LogLine = (fields: object, message: string) => void;

/** One line for each change, never one for each poll. */
export type Log<Level extends LogLevel = 'info' | 'warn'> = Readonly<Record<Level, LogLine>>;
