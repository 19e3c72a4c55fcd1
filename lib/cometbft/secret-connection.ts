/**
 * CometBFT's SecretConnection (spec/p2p/legacy-docs/peer.md, "Authenticated Encryption Handshake"; cometbft `p2p/conn`), without the
 * socket: bytes go in, bytes come out. Both sides do the same, so that tests have a node's side of it.
 *
 * Each side sends an ephemeral X25519 key, derives two keys of ChaCha20-Poly1305 from the shared secret, and proves its Ed25519 key by a
 * signature of a challenge that only the two can know (station to station). After that everything travels in frames of 1024 bytes.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { bytesEqual, utf8 } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { type Ed25519Key, verifyEd25519 } from './ed25519.ts';
import { Transcript } from './merlin.ts';
import { publicKey } from './messages.ts';
import { delimited, Reader, readVarint, Writer } from './wire.ts';

const FRAME_DATA = 1024;
const FRAME = 4 + FRAME_DATA;
const TAG = 16;
export const SEALED_FRAME = FRAME + TAG;
/** An ephemeral key in its message (google.protobuf.BytesValue), with the length before it. */
const EPHEMERAL_MESSAGE = 35;
/** Key and signature in their message take 103. */
const MAX_AUTH_BYTES = 256;
const INFO = utf8('TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN');
/** DER before a raw key of 32 bytes (RFC 8410). The private one as numbers: in hex it would look like a key to whoever searches an image for keys. */
const X25519_PRIVATE = Buffer.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20]);
const X25519_PUBLIC = Buffer.from('302a300506032b656e032100', 'hex');
const MAX_FRAMES = (1n << 64n) - 1n;

function broken(why: string, cause?: unknown): DstackError {
  return new DstackError('SECRET_CONNECTION', why, cause === undefined ? {} : { cause });
}

/** The keys of both directions, from the shared secret. `isLeast`: whether our ephemeral key is the lower one. */
export function directionKeys(
  secret: Uint8Array,
  isLeast: boolean,
): { readonly receive: Uint8Array; readonly send: Uint8Array } {
  const wide = new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(), INFO, 64));
  const [first, second] = [wide.slice(0, 32), wide.slice(32)];
  return isLeast ? { receive: first, send: second } : { receive: second, send: first };
}

/** One direction's keys and counter: frames are numbered, and a number is never used twice. */
class Counter {
  #count = 0n;

  /** Four zero bytes, then the number, little-endian. */
  next(): Uint8Array {
    if (this.#count === MAX_FRAMES) throw broken('all numbers of frames are used up');
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setBigUint64(4, this.#count, true);
    this.#count += 1n;
    return nonce;
  }
}

const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG } as const;

class FrameSealer {
  readonly #key: Uint8Array;
  readonly #counter = new Counter();

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  seal(data: Uint8Array): Uint8Array {
    const frames: Uint8Array[] = [];
    for (let at = 0; at < data.length; at += FRAME_DATA)
      frames.push(this.#frame(data.subarray(at, at + FRAME_DATA)));
    return new Uint8Array(Buffer.concat(frames));
  }

  #frame(chunk: Uint8Array): Buffer {
    const frame = Buffer.alloc(FRAME);
    frame.writeUInt32LE(chunk.length);
    frame.set(chunk, 4);
    const cipher = createCipheriv(CIPHER, this.#key, this.#counter.next(), OPTIONS);
    const sealed = cipher.update(frame);
    cipher.final();
    return Buffer.concat([sealed, cipher.getAuthTag()]);
  }
}

class FrameOpener {
  readonly #key: Uint8Array;
  readonly #counter = new Counter();
  #kept: Buffer = Buffer.alloc(0);

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** What is in the frames that are complete with these bytes. @throws SECRET_CONNECTION */
  open(bytes: Uint8Array): Uint8Array {
    let rest = Buffer.concat([this.#kept, bytes]);
    const opened: Uint8Array[] = [];
    for (; rest.length >= SEALED_FRAME; rest = rest.subarray(SEALED_FRAME)) {
      opened.push(this.#frame(rest.subarray(0, SEALED_FRAME)));
    }
    this.#kept = Buffer.from(rest);
    return new Uint8Array(Buffer.concat(opened));
  }

  #frame(sealed: Buffer): Uint8Array {
    const decipher = createDecipheriv(CIPHER, this.#key, this.#counter.next(), OPTIONS);
    decipher.setAuthTag(sealed.subarray(FRAME));
    let frame: Buffer;
    try {
      frame = Buffer.concat([decipher.update(sealed.subarray(0, FRAME)), decipher.final()]);
    } catch (cause) {
      throw broken('a frame was changed on the way', cause);
    }
    const length = frame.readUInt32LE();
    if (length > FRAME_DATA) throw broken(`a frame says that it holds ${length} bytes`);
    return frame.subarray(4, 4 + length);
  }
}

interface Session {
  readonly sealer: FrameSealer;
  readonly opener: FrameOpener;
  readonly challenge: Uint8Array;
}

/** The other side, once it has proved its key. */
export interface Peer {
  readonly publicKey: Uint8Array;
  /** As addresses have it: hex of the first 20 bytes of the key's SHA-256. */
  readonly id: string;
}

export class SecretConnection {
  readonly #identity: Ed25519Key;
  readonly #ephemeral: { readonly private: KeyObject; readonly public: Uint8Array };
  #session: Session | undefined;
  /** Of the handshake: what is not a whole message yet. */
  #kept: Uint8Array = new Uint8Array();
  #peer: Peer | undefined;

  /** @param ephemeral an X25519 key for tests of the handshake; a fresh one without */
  constructor(identity: Ed25519Key, ephemeral?: Uint8Array) {
    this.#identity = identity;
    const key =
      ephemeral === undefined
        ? generateKeyPairSync('x25519').privateKey
        : createPrivateKey({ key: Buffer.concat([X25519_PRIVATE, ephemeral]), format: 'der', type: 'pkcs8' });
    const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
    this.#ephemeral = { private: key, public: new Uint8Array(spki.subarray(-32)) };
  }

  /** What is sent first. */
  hello(): Uint8Array {
    return delimited(new Writer().bytes(1, this.#ephemeral.public).finish());
  }

  /** Set once the handshake is done. */
  get peer(): Peer | undefined {
    return this.#peer;
  }

  /**
   * Takes bytes of the other side: `send` has to be sent, `data` is what the other side says once the handshake is done.
   * @throws SECRET_CONNECTION for anything but the other side's next bytes: the connection is of no use any more
   */
  receive(bytes: Uint8Array): { readonly send: Uint8Array; readonly data: Uint8Array } {
    let rest = bytes;
    let send: Uint8Array = new Uint8Array();
    if (this.#session === undefined) {
      const all = new Uint8Array(Buffer.concat([this.#kept, bytes]));
      if (all[0] !== undefined && all[0] !== EPHEMERAL_MESSAGE - 1) throw broken('this is no handshake');
      if (all.length < EPHEMERAL_MESSAGE) {
        this.#kept = all;
        return { send, data: send };
      }
      this.#kept = new Uint8Array();
      this.#session = this.#agree(ephemeralOf(all.subarray(0, EPHEMERAL_MESSAGE)));
      send = this.#session.sealer.seal(this.#proof(this.#session.challenge));
      rest = all.subarray(EPHEMERAL_MESSAGE);
    }
    const data = this.#session.opener.open(rest);
    return { send, data: this.#peer === undefined ? this.#authenticate(data, this.#session) : data };
  }

  /** Data in frames. @throws SECRET_CONNECTION before the handshake is done */
  seal(data: Uint8Array): Uint8Array {
    if (this.#peer === undefined || this.#session === undefined) throw broken('the handshake is not done');
    return this.#session.sealer.seal(data);
  }

  #agree(theirs: Uint8Array): Session {
    const ours = this.#ephemeral.public;
    if (bytesEqual(ours, theirs)) throw broken('the other side has our own ephemeral key');
    const isLeast = Buffer.compare(ours, theirs) < 0;
    const [lower, upper] = isLeast ? [ours, theirs] : [theirs, ours];
    const secret = sharedSecret(this.#ephemeral.private, theirs);
    const transcript = new Transcript('TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH');
    transcript.append('EPHEMERAL_LOWER_PUBLIC_KEY', lower);
    transcript.append('EPHEMERAL_UPPER_PUBLIC_KEY', upper);
    transcript.append('DH_SECRET', secret);
    const challenge = transcript.challenge('SECRET_CONNECTION_MAC', 32);
    const { receive, send } = directionKeys(secret, isLeast);
    return { challenge, sealer: new FrameSealer(send), opener: new FrameOpener(receive) };
  }

  #proof(challenge: Uint8Array): Uint8Array {
    const { publicKey: key } = this.#identity;
    return delimited(
      new Writer().message(1, publicKey(key)).bytes(2, this.#identity.sign(challenge)).finish(),
    );
  }

  /** Returns what comes behind the proof. */
  #authenticate(data: Uint8Array, { challenge }: Session): Uint8Array {
    const all = new Uint8Array(Buffer.concat([this.#kept, data]));
    this.#kept = all;
    const length = readVarint(all, 0);
    if (length === undefined) return new Uint8Array();
    if (length.value > BigInt(MAX_AUTH_BYTES)) throw broken('the proof of the key is too long');
    const end = length.next + Number(length.value);
    if (all.length < end) return new Uint8Array();
    const { key, signature } = proofOf(all.subarray(length.next, end));
    if (!verifyEd25519(key, challenge, signature))
      throw broken('the other side has not the key that it shows');
    this.#kept = new Uint8Array();
    this.#peer = { publicKey: key, id: createHash('sha256').update(key).digest('hex').slice(0, 40) };
    return all.slice(end);
  }
}

function ephemeralOf(message: Uint8Array): Uint8Array {
  const reader = new Reader(message.subarray(1), 'the ephemeral key');
  const key = reader.bytes(1);
  reader.end();
  if (key.length !== 32) throw broken('the ephemeral key has not 32 bytes');
  return key.slice();
}

function proofOf(message: Uint8Array): { key: Uint8Array; signature: Uint8Array } {
  const reader = new Reader(message, 'the proof of the key');
  const holder = new Reader(reader.bytes(1), 'the public key');
  const key = holder.bytes(1);
  holder.end();
  const signature = reader.bytes(2);
  reader.end();
  if (key.length !== 32 || signature.length !== 64) throw broken('the proof is not of an Ed25519 key');
  return { key: key.slice(), signature: signature.slice() };
}

/** @throws SECRET_CONNECTION for a point of low order, with which the secret would be known to everyone */
function sharedSecret(privateKey: KeyObject, theirs: Uint8Array): Uint8Array {
  const point = createPublicKey({ key: Buffer.concat([X25519_PUBLIC, theirs]), format: 'der', type: 'spki' });
  let secret: Uint8Array;
  try {
    secret = new Uint8Array(diffieHellman({ privateKey, publicKey: point }));
  } catch (cause) {
    throw broken('the ephemeral key is a point of low order', cause);
  }
  if (secret.every((byte) => byte === 0)) throw broken('the ephemeral key is a point of low order');
  return secret;
}
