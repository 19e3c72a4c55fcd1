/**
 * What a page can find out about its own evidence (docs/site.md): that it is for this visit's nonce, that the network key which it
 * names signed it, that the quote in it is the one that was signed, and that the quote says the same words. Each step is one that
 * `npx dstack site verify` makes too; of those that it makes, a page cannot make the ones that count most (`beyond`).
 *
 * Written against docs/site.md, not against the node's own code: EIP-712, EIP-2098, and the layout of a TD quote (Intel TDX DCAP
 * Quote Generation Library, appendix A.3).
 */
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { bytesOf, hexOf, integer, joined, list, same, utf8 } from './bytes.ts';

/** As it came: nothing of it is believed before it is checked. */
export type Evidence = Readonly<Record<string, unknown>>;

export interface Step {
  readonly name: string;
  /** What it shows when it holds. */
  readonly shows: string;
  readonly holds: boolean;
  /** Why not. */
  readonly why?: string;
}

/** What stays open, whatever the steps say. */
export const beyond: readonly string[] = [
  'that this script is the one that the app’s author wrote: whoever answers in the node’s place writes the page too',
  'that your connection ends in the node: a page does not see the key of its own TLS',
  'that the contract allows this measurement, configuration and platform, and has this network key: a page has no chain of its own',
  'that Intel’s processor signed the quote',
];

const SITE_TYPE =
  'Site(bytes32 publicKeyHash,bytes32 nonce,bytes32 quoteHash,bytes32 measurement,bytes32 config,bytes32 platform,uint64 blockNumber,bytes32 blockHash,uint64 epoch,bool hostImpersonable)';
const DOMAIN_TYPE = 'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)';

/** Every step is made, so that a visitor sees all that is wrong. @param nonce of this visit, 64 hex digits */
export function check(evidence: Evidence, nonce: string): readonly Step[] {
  return [
    step('nonce', 'it was made for this visit', () => {
      if (evidence.nonce !== nonce) throw new Error('it is for another nonce: it was made before');
    }),
    step('signature', 'the network key that it names signed it', () => {
      const signer = signerOf(evidence);
      if (signer !== String(evidence.networkKey).toLowerCase())
        throw new Error(`it was signed by ${signer}, or was altered since`);
    }),
    step('quote', 'the quote is the one that was signed', () => {
      if (!same(sha256(signedPart(evidence)), bytesOf(evidence.quoteHash, 32)))
        throw new Error('the quote has another hash');
    }),
    step(
      'statement',
      'the machine that made the quote said the same: this network, this key of the site, this visit',
      () => {
        if (!same(bodyOf(evidence).subarray(520, 584), reportData(evidence)))
          throw new Error('the quote is over other words');
      },
    ),
    step('measurement', 'the quote is of the software that is named', () => {
      const body = bodyOf(evidence);
      // MRTD, then RTMR0 to RTMR2.
      const measured = sha256(joined(body.subarray(136, 184), body.subarray(328, 472)));
      if (!same(measured, bytesOf(evidence.measurement, 32)))
        throw new Error('the quote has another measurement');
    }),
  ];
}

function step(name: string, shows: string, run: () => void): Step {
  try {
    run();
    return { name, shows, holds: true };
  } catch (error) {
    return { name, shows, holds: false, why: (error as Error).message };
  }
}

/** The address whose key made the signature; 0x and lower-case hex. */
function signerOf(evidence: Evidence): string {
  const { r, vs } = evidence.signature as { r?: unknown; vs?: unknown };
  const second = bytesOf(vs, 32);
  const parity = second[0]! >> 7;
  second[0]! &= 0x7f;
  const signature = joined(Uint8Array.of(parity), bytesOf(r, 32), second);
  const recovered = secp256k1.recoverPublicKey(signature, digest(evidence), { prehash: false });
  const point = secp256k1.Point.fromBytes(recovered).toBytes(false);
  return `0x${hexOf(keccak_256(point.subarray(1)).subarray(12))}`;
}

/** EIP-712: what is signed is the hash of domain and struct. */
function digest(evidence: Evidence): Uint8Array {
  const word = (bytes: Uint8Array): Uint8Array => joined(new Uint8Array(32 - bytes.length), bytes);
  const domain = keccak_256(
    joined(
      keccak_256(utf8(DOMAIN_TYPE)),
      keccak_256(utf8('Dstack')),
      keccak_256(utf8('1')),
      word(integer(evidence.chainId, 8)),
      word(addressOf(evidence.contract)),
    ),
  );
  const site = keccak_256(
    joined(
      keccak_256(utf8(SITE_TYPE)),
      sha256(bytesOf(evidence.publicKey)),
      bytesOf(evidence.nonce, 32),
      bytesOf(evidence.quoteHash, 32),
      bytesOf(evidence.measurement, 32),
      bytesOf(evidence.config, 32),
      bytesOf(evidence.platform, 32),
      word(integer(evidence.blockNumber, 8)),
      bytesOf(evidence.blockHash, 32),
      word(integer(evidence.epoch, 8)),
      word(flag(evidence.hostImpersonable)),
    ),
  );
  return keccak_256(joined(Uint8Array.of(0x19, 0x01), domain, site));
}

/** What the quote has to carry. */
function reportData(evidence: Evidence): Uint8Array {
  const raw = evidence.rawQuotes;
  return sha512(
    list(
      utf8('dstack/v1/site'),
      integer(evidence.chainId, 8),
      addressOf(evidence.contract),
      addressOf(evidence.networkKey),
      bytesOf(evidence.publicKey),
      bytesOf(evidence.nonce, 32),
      bytesOf(evidence.config, 32),
      integer(evidence.epoch, 8),
      bytesOf(evidence.blockHash, 32),
      flag(evidence.hostImpersonable),
      ...(typeof raw === 'string' ? [utf8(raw)] : []),
    ),
  );
}

/** A version 4 quote is a header of 48 bytes and a body of 584; version 5 says the body's kind and size between the two. */
function signedPart(evidence: Evidence): Uint8Array {
  const quote = bytesOf(evidence.quote);
  const view = new DataView(quote.buffer);
  const version = quote.length < 54 ? 0 : view.getUint16(0, true);
  const size = version === 4 ? 48 + 584 : version === 5 ? 54 + view.getUint32(50, true) : 0;
  if (size < 48 + 584 || size > quote.length) throw new Error('it has no quote of a TD');
  return quote.subarray(0, size);
}

function bodyOf(evidence: Evidence): Uint8Array {
  const part = signedPart(evidence);
  return part.subarray(part[0] === 4 ? 48 : 54);
}

const addressOf = (value: unknown): Uint8Array => bytesOf(String(value).toLowerCase(), 20);
const flag = (value: unknown): Uint8Array => Uint8Array.of(value === true ? 1 : 0);
