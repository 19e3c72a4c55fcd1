/**
 * The handshake XXpsk0 (Noise sections 5.3, 7.5 and 9): both sides prove that they know a secret before anything is computed for them, then
 * their static keys, which nobody on the way sees.
 *
 * Who has the secret alone can make up new static keys at will: the secret says what network this is, the static key only that it is the same
 * peer as before.
 */
import { bytesEqual } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { type CipherState, TAG_BYTES } from './cipher-state.ts';
import { SymmetricState } from './symmetric-state.ts';
import { agree, freshKeyPair, KEY_BYTES, type KeyPair } from './x25519.ts';

const PROTOCOL_NAME = 'Noise_XXpsk0_25519_ChaChaPoly_SHA256';
export const PSK_BYTES = 32;
const NOTHING = new Uint8Array();

type Token = 'psk' | 'e' | 's' | 'ee' | 'es' | 'se';

/** The initiator sends the first and the last. */
const MESSAGES: readonly (readonly Token[])[] = [
  ['psk', 'e'],
  ['e', 'ee', 's', 'es'],
  ['s', 'se'],
];

/** Of each message, in bytes: keys, those of static keys sealed, and the tag of the empty payload. */
export const HANDSHAKE_LENGTHS = [
  KEY_BYTES + TAG_BYTES,
  KEY_BYTES + (KEY_BYTES + TAG_BYTES) + TAG_BYTES,
  KEY_BYTES + TAG_BYTES + TAG_BYTES,
] as const;

export interface HandshakeOptions {
  readonly isInitiator: boolean;
  readonly staticKey: KeyPair;
  /** 32 bytes that both sides know. */
  readonly psk: Uint8Array;
  /** What both sides must agree on besides; is not sent. */
  readonly prologue: Uint8Array;
  /** For vectors; a fresh one without. */
  readonly ephemeralKey?: KeyPair;
}

export interface Session {
  readonly send: CipherState;
  readonly receive: CipherState;
  /** Whose key the other side has proved that it has. */
  readonly remoteStatic: Uint8Array;
  /** The same on both sides, and in no other session. */
  readonly hash: Uint8Array;
}

export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #ephemeral: KeyPair;
  readonly #state = new SymmetricState(PROTOCOL_NAME);
  #remoteEphemeral: Uint8Array | undefined;
  #remoteStatic: Uint8Array | undefined;
  #next = 0;

  /** @throws NOISE_KEY for a secret of another length */
  constructor(options: HandshakeOptions) {
    if (options.psk.length !== PSK_BYTES) {
      throw new DstackError(
        'NOISE_KEY',
        `the secret of both sides has ${PSK_BYTES} bytes, not ${options.psk.length}`,
      );
    }
    this.#options = options;
    this.#ephemeral = options.ephemeralKey ?? freshKeyPair();
    this.#state.mixHash(options.prologue);
  }

  get isOver(): boolean {
    return this.#next === MESSAGES.length;
  }

  /** Whether `write` is next. */
  get isOurTurn(): boolean {
    return !this.isOver && (this.#next % 2 === 0) === this.#options.isInitiator;
  }

  /** How many bytes the next message has; others need not be read. */
  get nextLength(): number {
    return HANDSHAKE_LENGTHS[this.#next] ?? 0;
  }

  /** Our next message. @throws NOISE_ORDER when it is not our turn */
  write(): Uint8Array {
    const tokens = this.#begin(true);
    const parts = tokens.map((token) => this.#writeToken(token));
    return new Uint8Array(Buffer.concat([...parts, this.#state.sealAndHash(NOTHING)]));
  }

  /**
   * The other side's next message. What threw is over.
   * @throws NOISE_ORDER when it is our turn; NOISE_LENGTH; NOISE_REFUSED for one of another network or secret, a changed or an old one;
   *   NOISE_KEY for a key of small order; NOISE_REFLECTED for one with our own key
   */
  read(message: Uint8Array): void {
    const length = this.nextLength;
    const tokens = this.#begin(false);
    if (message.length !== length) {
      throw new DstackError(
        'NOISE_LENGTH',
        `this message of a handshake has ${length} bytes, not ${message.length}`,
      );
    }
    let offset = 0;
    const take = (count: number): Uint8Array => {
      offset += count;
      return message.slice(offset - count, offset);
    };
    for (const token of tokens) this.#readToken(token, take);
    this.#state.openAndHash(take(TAG_BYTES));
  }

  /** What follows. @throws NOISE_ORDER before it is over */
  finish(): Session {
    if (!this.isOver || this.#remoteStatic === undefined) {
      throw new DstackError('NOISE_ORDER', 'the handshake is not over; exchange its messages first');
    }
    const [initiators, responders] = this.#state.split();
    const { isInitiator } = this.#options;
    return {
      send: isInitiator ? initiators : responders,
      receive: isInitiator ? responders : initiators,
      remoteStatic: this.#remoteStatic,
      hash: this.#state.hash,
    };
  }

  /** Counts first: a message that is refused is not tried again. */
  #begin(isOurs: boolean): readonly Token[] {
    if (this.isOver || this.isOurTurn !== isOurs) {
      throw new DstackError(
        'NOISE_ORDER',
        'it is the other side’s turn; a handshake has its messages in turns',
      );
    }
    const tokens = MESSAGES[this.#next]!;
    this.#next += 1;
    return tokens;
  }

  #writeToken(token: Token): Uint8Array {
    if (token === 'e') {
      this.#mixEphemeral(this.#ephemeral.publicKey);
      return this.#ephemeral.publicKey;
    }
    if (token === 's') return this.#state.sealAndHash(this.#options.staticKey.publicKey);
    this.#mixSecret(token);
    return NOTHING;
  }

  #readToken(token: Token, take: (count: number) => Uint8Array): void {
    if (token === 'e') {
      this.#remoteEphemeral = this.#notOurs(take(KEY_BYTES));
      this.#mixEphemeral(this.#remoteEphemeral);
    } else if (token === 's') {
      this.#remoteStatic = this.#notOurs(this.#state.openAndHash(take(KEY_BYTES + TAG_BYTES)));
    } else {
      this.#mixSecret(token);
    }
  }

  /** With a psk, ephemeral keys are mixed into the key as well: no two handshakes seal with the same (section 9.2). */
  #mixEphemeral(publicKey: Uint8Array): void {
    this.#state.mixHash(publicKey);
    this.#state.mixKey(publicKey);
  }

  #mixSecret(token: Exclude<Token, 'e' | 's'>): void {
    if (token === 'psk') this.#state.mixKeyAndHash(this.#options.psk);
    else this.#state.mixKey(this.#agreed(token));
  }

  #agreed(token: 'ee' | 'es' | 'se'): Uint8Array {
    if (token === 'ee') return agree(this.#ephemeral, this.#remoteEphemeral!);
    // The first letter is the initiator's key.
    const isOurStatic = (token === 'se') === this.#options.isInitiator;
    return isOurStatic
      ? agree(this.#options.staticKey, this.#remoteEphemeral!)
      : agree(this.#ephemeral, this.#remoteStatic!);
  }

  /** Who sends our own messages back to us has our keys in them. */
  #notOurs(key: Uint8Array): Uint8Array {
    const { publicKey } = this.#options.staticKey;
    if (!bytesEqual(key, publicKey) && !bytesEqual(key, this.#ephemeral.publicKey)) return key;
    throw new DstackError(
      'NOISE_REFLECTED',
      'the other side has our own key: this is our own node, or our messages come back',
    );
  }
}
