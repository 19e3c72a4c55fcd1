/** Splits a byte stream into lines of bounded length, whoever sends it. Pure: the caller owns the stream. */

/** A line without its newline, or the fact that one was longer than allowed (its bytes are gone). */
export type Line = { readonly text: string } | { readonly tooLong: true };

export class LineSplitter {
  readonly #maxBytes: number;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #skipping = false;

  /** `maxBytes` counts the bytes before the newline; never more than that is kept. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that `chunk` completes. Bytes that are not UTF-8 become U+FFFD, which no schema of ours accepts. */
  push(chunk: Uint8Array): Line[] {
    const lines: Line[] = [];
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a)) {
      this.#append(rest.subarray(0, end));
      lines.push(this.#finish());
      rest = rest.subarray(end + 1);
    }
    this.#append(rest);
    return lines;
  }

  #append(bytes: Uint8Array): void {
    if (this.#pendingBytes + bytes.length > this.#maxBytes) this.#skipping = true;
    if (this.#skipping) {
      this.#pending = [];
      this.#pendingBytes = 0;
      return;
    }
    // A copy, as the caller may reuse its read buffer; slice() of a Buffer is none.
    this.#pending.push(Uint8Array.from(bytes));
    this.#pendingBytes += bytes.length;
  }

  #finish(): Line {
    const line: Line = this.#skipping
      ? { tooLong: true }
      : { text: Buffer.concat(this.#pending).toString('utf8') };
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#skipping = false;
    return line;
  }
}
