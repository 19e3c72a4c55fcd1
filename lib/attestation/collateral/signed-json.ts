/**
 * The JSON that Intel signs, read strictly.
 *
 * One text has one meaning here: it must be exactly what serialising its value gives. So white space, a key that appears
 * twice (the later one wins in JavaScript, the earlier elsewhere), 1.0 for 1, -0, numbers that lose digits and odd
 * escapes are all refused, and Intel's documents have none of them. After that a field is read by name, type and range;
 * what is missing, null, negative, fractional or too large is refused, so no later comparison meets NaN or undefined.
 */
import { AttestationError, type DocumentName } from '../errors.ts';

/** Several times the largest document that Intel publishes. */
export const MAX_DOCUMENT_CHARACTERS = 262_144;

/** @throws AttestationError `${document}_JSON` */
export function parseSignedJson(text: string, document: DocumentName): JsonObject {
  let value: unknown;
  let again: string | undefined;
  try {
    value = text.length <= MAX_DOCUMENT_CHARACTERS ? JSON.parse(text) : undefined;
    again = JSON.stringify(value);
  } catch (cause) {
    throw new AttestationError(`${document}_JSON`, `${document} is not JSON`, { cause });
  }
  if (again !== text) {
    throw new AttestationError(
      `${document}_JSON`,
      `${document} is not in the one form of its value: a repeated key, white space or an odd number`,
    );
  }
  return new JsonObject(value, document, () => document);
}

/** Reads the fields of one JSON object. */
export class JsonObject {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #document: DocumentName;
  /** Where it is in the document: made only for a message. */
  readonly #path: () => string;

  constructor(value: unknown, document: DocumentName, path: () => string) {
    this.#document = document;
    this.#path = path;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.#refused('', 'an object', value);
    }
    this.#fields = value as Record<string, unknown>;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#fields, name);
  }

  text(name: string, maxLength = 64): string {
    const value = this.#field(name);
    if (typeof value !== 'string' || value.length === 0 || value.length > maxLength) {
      throw this.#refused(name, `a text of at most ${maxLength} characters`, value);
    }
    return value;
  }

  /** A whole number from 0 to `max`. */
  integer(name: string, max: number): number {
    const value = this.#field(name);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) {
      throw this.#refused(name, `a whole number from 0 to ${max}`, value);
    }
    return value;
  }

  /** Hex of exactly `bytes` bytes, of either case: Intel uses both. */
  hex(name: string, bytes: number): Uint8Array {
    const value = this.#field(name);
    if (typeof value !== 'string' || value.length !== 2 * bytes || !/^[0-9a-fA-F]+$/.test(value)) {
      throw this.#refused(name, `${bytes} bytes of hex`, value);
    }
    return new Uint8Array(Buffer.from(value, 'hex'));
  }

  /** A date as Intel writes it, to the second in UTC, as milliseconds since 1970. */
  date(name: string): number {
    const value = this.#field(name);
    const time = typeof value === 'string' ? parseDate(value) : Number.NaN;
    if (!Number.isFinite(time)) throw this.#refused(name, 'a date such as 2026-01-31T23:59:59Z', value);
    return time;
  }

  one<Choice extends string>(name: string, choices: readonly Choice[]): Choice {
    const value = this.#field(name);
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined) throw this.#refused(name, `one of ${choices.join(', ')}`, value);
    return choice;
  }

  object(name: string): JsonObject {
    return new JsonObject(this.#field(name), this.#document, () => `${this.#path()}.${name}`);
  }

  /** A list of `min` to `max` objects. */
  objects(name: string, min: number, max: number): JsonObject[] {
    return this.#list(name, min, max).map(
      (item, index) => new JsonObject(item, this.#document, () => `${this.#path()}.${name}[${index}]`),
    );
  }

  /** The whole number that each of a list of exactly `count` objects has in `field`, from 0 to 255. */
  bytesOf(name: string, field: string, count: number): Uint8Array {
    const list = this.#list(name, count, count);
    const bytes = new Uint8Array(count);
    // A document has dozens of these lists, and `from` would cost as much as all the rest of its reading.
    for (let index = 0; index < count; index++) {
      const item = list[index];
      const known = typeof item === 'object' && item !== null && Object.hasOwn(item, field);
      const value: unknown = known ? (item as Record<string, unknown>)[field] : undefined;
      if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 255) {
        throw this.#refused(name, `a list whose every ${field} is a whole number from 0 to 255`, item);
      }
      bytes[index] = value;
    }
    return bytes;
  }

  /** A list of texts; none when the field is missing. */
  texts(name: string, max: number): string[] {
    if (!this.has(name)) return [];
    return this.#list(name, 0, max).map((item) => {
      if (typeof item !== 'string' || !/^[\x21-\x7e]{1,64}$/.test(item)) {
        throw this.#refused(name, 'a list of short texts', item);
      }
      return item;
    });
  }

  #list(name: string, min: number, max: number): unknown[] {
    const value = this.#field(name);
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw this.#refused(name, `a list of ${min} to ${max}`, value);
    }
    return value;
  }

  #field(name: string): unknown {
    return Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined;
  }

  #refused(name: string, expected: string, value: unknown): AttestationError {
    const shown = value === undefined ? 'missing' : (JSON.stringify(value) ?? 'nothing').slice(0, 80);
    return new AttestationError(
      `${this.#document}_JSON`,
      `${this.#path()}${name && `.${name}`} must be ${expected}; it is ${shown}`,
    );
  }
}

/** Milliseconds since 1970, or NaN. */
function parseDate(text: string): number {
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) ? Date.parse(text) : Number.NaN;
  // Date.parse takes the 30th of February for the 1st of March; it refuses a wrong month or hour by itself.
  return new Date(time).getUTCDate() === Number(text.slice(8, 10)) ? time : Number.NaN;
}

/** What both documents say of their age: milliseconds since 1970, both ends inside. */
export interface Currency {
  readonly issueDate: number;
  readonly nextUpdate: number;
}

/** @throws AttestationError `${document}_NOT_YET` or `${document}_EXPIRED` */
export function requireCurrent(document: DocumentName, dates: Currency, now: number, skewMs: number): void {
  const iso = (time: number) => new Date(time).toISOString();
  if (now + skewMs < dates.issueDate) {
    throw new AttestationError(
      `${document}_NOT_YET`,
      `${document} is of ${iso(dates.issueDate)}, after ${iso(now)}`,
    );
  }
  if (now - skewMs > dates.nextUpdate) {
    throw new AttestationError(
      `${document}_EXPIRED`,
      `${document} was to be renewed by ${iso(dates.nextUpdate)}, before ${iso(now)}`,
    );
  }
}
