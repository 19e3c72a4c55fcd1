/**
 * Who signs the store's ledger: a node's word, under the network key, that an Ed25519 key is the network's, and a quote over the same
 * if the node has one. The contract has the network key; from there to a signed head is one signature more.
 */
import { type Static, Type } from 'typebox';
import { fromHex, sha256 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { type Address, sameAddress } from './hex.ts';
import { ledgerReportData } from './report-data.ts';
import { Address0x, Compact, Count, HexOf, HexUpTo, parseJson, Strict } from './schema.ts';
import { compact, type Signature } from './secp256k1.ts';
import { signerOf } from './signed-messages.ts';
import { type Domain, ledgerDigest } from './typed-data.ts';

const QUOTE_MAX_BYTES = 16 * 1024;
export const LEDGER_EVIDENCE_MAX_BYTES = 64 * 1024;
/** Where a node serves its own, beside its log's head. */
export const LEDGER_EVIDENCE_PATH = 'evidence.json';
const NO_QUOTE = new Uint8Array(32);

/** Binary fields are lower-case hex without 0x. */
export const LedgerEvidenceSchema = Strict({
  type: Type.Literal('ledger'),
  version: Type.Literal(1),
  chainId: Count,
  contract: Address0x,
  networkKey: Address0x,
  epoch: Count,
  /** The id of the log, by which its origin ends: of the disk that it lies on. */
  log: HexOf(16),
  /** Ed25519 (RFC 8032). */
  publicKey: HexOf(32),
  /** What a quote over the key adds; absent where there is no hardware to take one. */
  quoted: Type.Optional(Strict({ config: HexOf(32), blockHash: HexOf(32), quote: HexUpTo(QUOTE_MAX_BYTES) })),
  /** By the network key, over the EIP-712 digest of `Ledger`. */
  signature: Compact,
});
export type LedgerEvidence = Static<typeof LedgerEvidenceSchema>;

/** What is said, before it is signed. */
export type LedgerStatement = Omit<LedgerEvidence, 'signature' | 'type' | 'version'>;

/** @param signedByNetwork a signature by the network key, over a digest */
export function signLedgerEvidence(
  said: LedgerStatement,
  signedByNetwork: (digest: Uint8Array) => Signature,
): LedgerEvidence {
  const signature = compact(signedByNetwork(digestOf(said)));
  return { type: 'ledger', version: 1, ...said, signature };
}

/** @throws LEDGER_EVIDENCE */
export function parseLedgerEvidence(text: string): LedgerEvidence {
  const what = "the evidence of the ledger's key";
  return parseJson(LedgerEvidenceSchema, text, 'LEDGER_EVIDENCE', what, LEDGER_EVIDENCE_MAX_BYTES);
}

/**
 * The ledger's key, 32 bytes, if the network key said that it is.
 * @param networkKey as the contract has it
 * @throws LEDGER_OTHER_NETWORK, LEDGER_KEY_UNSIGNED
 */
export function ledgerKeyOf(evidence: LedgerEvidence, network: Domain, networkKey: Address): Uint8Array {
  if (evidence.chainId !== network.chainId || !sameAddress(evidence.contract, network.contract)) {
    throw new DstackError(
      'LEDGER_OTHER_NETWORK',
      `the key is of chain ${evidence.chainId}, contract ${evidence.contract}`,
    );
  }
  const signer = signerOf(digestOf(evidence), evidence.signature);
  if (!sameAddress(signer, networkKey) || !sameAddress(evidence.networkKey, networkKey)) {
    throw new DstackError(
      'LEDGER_KEY_UNSIGNED',
      `the ledger's key is vouched for by ${signer}, not by ${networkKey}`,
    );
  }
  return fromHex(evidence.publicKey, 32);
}

/** The 64 bytes that the quote must carry. */
export function reportDataOfLedger(
  said: LedgerStatement,
  config: Uint8Array,
  blockHash: Uint8Array,
): Uint8Array {
  const { chainId, contract, networkKey, epoch, log } = said;
  return ledgerReportData({
    chainId,
    contract,
    networkKey,
    log: fromHex(log, 16),
    publicKey: fromHex(said.publicKey, 32),
    config,
    epoch,
    blockHash,
  });
}

function digestOf({ chainId, contract, log, publicKey, quoted, epoch }: LedgerStatement): Uint8Array {
  const quoteHash = quoted === undefined ? NO_QUOTE : sha256(fromHex(quoted.quote));
  return ledgerDigest(
    { chainId, contract },
    { log: fromHex(log, 16), publicKey: fromHex(publicKey, 32), quoteHash, epoch },
  );
}
