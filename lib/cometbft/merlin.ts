/**
 * Merlin transcripts (merlin.cool) over STROBE-128 (strobe.sourceforge.io, version 1.0.2), as far as a handshake needs them: messages go
 * in, challenges come out.
 */
import { keccakP } from '@noble/hashes/sha3.js';
import { utf8 } from '../protocol/encoding.ts';

const RATE = 166;
const FLAG_I = 1;
const FLAG_A = 2;
const FLAG_C = 4;
const FLAG_M = 16;

class Strobe {
  readonly #words = new Uint32Array(50);
  /** The same memory. Keccak's lanes are little-endian, and so is every machine that this runs on. */
  readonly #state = new Uint8Array(this.#words.buffer);
  #position = 0;
  #begin = 0;

  constructor(protocol: string) {
    this.#state.set([1, RATE + 2, 1, 0, 1, 96]);
    this.#state.set(utf8('STROBEv1.0.2'), 6);
    keccakP(this.#words);
    this.metaAd(utf8(protocol), false);
  }

  metaAd(data: Uint8Array, more: boolean): void {
    this.#operation(FLAG_M | FLAG_A, more);
    this.#absorb(data);
  }

  ad(data: Uint8Array): void {
    this.#operation(FLAG_A, false);
    this.#absorb(data);
  }

  prf(length: number): Uint8Array {
    this.#operation(FLAG_I | FLAG_A | FLAG_C, false);
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += 1) {
      out[at] = this.#state[this.#position]!;
      this.#state[this.#position] = 0;
      this.#advance();
    }
    return out;
  }

  #operation(flags: number, more: boolean): void {
    // Continued operations are all of one kind here.
    if (more) return;
    const before = this.#begin;
    this.#begin = this.#position + 1;
    this.#absorb(Uint8Array.of(before, flags));
    if ((flags & FLAG_C) !== 0 && this.#position !== 0) this.#permute();
  }

  #absorb(data: Uint8Array): void {
    for (const byte of data) {
      this.#state[this.#position]! ^= byte;
      this.#advance();
    }
  }

  #advance(): void {
    this.#position += 1;
    if (this.#position === RATE) this.#permute();
  }

  #permute(): void {
    this.#state[this.#position]! ^= this.#begin;
    this.#state[this.#position + 1]! ^= 0x04;
    this.#state[RATE + 1]! ^= 0x80;
    keccakP(this.#words);
    this.#position = 0;
    this.#begin = 0;
  }
}

export class Transcript {
  readonly #strobe = new Strobe('Merlin v1.0');

  constructor(label: string) {
    this.append('dom-sep', utf8(label));
  }

  append(label: string, message: Uint8Array): void {
    this.#strobe.metaAd(utf8(label), false);
    this.#strobe.metaAd(uint32(message.length), true);
    this.#strobe.ad(message);
  }

  challenge(label: string, length: number): Uint8Array {
    this.#strobe.metaAd(utf8(label), false);
    this.#strobe.metaAd(uint32(length), true);
    return this.#strobe.prf(length);
  }
}

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
