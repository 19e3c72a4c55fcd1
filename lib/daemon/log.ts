/**
 * The one shape in which code of ours is given a log: an object with a function for each level, which gets the fields
 * first and a fixed message after them. A pino logger is one as it stands, and so is an object literal in a test.
 *
 * A function asks for no more levels than it uses: `Log<'warn'>` for who only complains.
 */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** @param message the same for every line of its kind; whatever varies is a field. Neither ever holds a secret. */
export type LogLine = (fields: object, message: string) => void;

/** One line per change, never per poll. */
export type Log<Level extends LogLevel = 'info' | 'warn'> = Readonly<Record<Level, LogLine>>;
