/**
 * What the messages of onboarding say and who signed it: from a message to the report data that its quote must hold, to the
 * digest behind its signature, to the signer. Whoever makes such a statement and whoever checks it use the same functions.
 */
import { fromHex } from './encoding.ts';
import { DstackError } from './errors.ts';
import { type Address, sameAddress } from './hex.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type RequestMessage,
  requestOf,
} from './onboarding-messages.ts';
import { bootstrapReportData, registerReportData } from './report-data.ts';
import { type CompactSignature, recover } from './secp256k1.ts';
import { bootstrapDigest, type Domain, onboardDigest, requestDigest } from './typed-data.ts';

/** What the quote of a request has to be made for. 64 bytes. */
export function requestStatement(domain: Domain, message: RequestMessage): Uint8Array {
  return registerReportData({
    ...domain,
    node: message.node,
    kemPublicKey: fromHex(message.kemPublicKey),
    config: fromHex(message.config, 32),
    epoch: message.epoch,
    blockHash: fromHex(message.blockHash, 32),
  });
}

/** What the quote of a bootstrap package has to be made for. 64 bytes. */
export function bootstrapStatement(domain: Domain, message: BootstrapPackage): Uint8Array {
  return bootstrapReportData({
    ...domain,
    networkKey: message.networkKey,
    config: fromHex(message.config, 32),
    epoch: message.epoch,
    blockHash: fromHex(message.blockHash, 32),
  });
}

/** The digest that a message's signature is over: of a request by its node, of the others by the network key. 32 bytes. */
export function signedDigest(
  domain: Domain,
  message: RequestMessage | AnswerMessage | BootstrapPackage,
): Uint8Array {
  switch (message.type) {
    case 'request':
      return requestDigest(domain, requestOf(message).hash);
    case 'answer':
      return onboardDigest(domain, {
        ...identityOf(message),
        node: message.node,
        requestHash: fromHex(message.requestHash, 32),
        answerHash: fromHex(message.answerHash, 32),
      });
    case 'bootstrap':
      return bootstrapDigest(domain, {
        ...identityOf(message),
        networkKey: message.networkKey,
        quoteHash: fromHex(message.quoteHash, 32),
        blockNumber: message.blockNumber,
        blockHash: fromHex(message.blockHash, 32),
        epoch: message.epoch,
      });
  }
}

/** @throws SIGNATURE_INVALID for a signature that no key can have made */
export function signerOf(digest: Uint8Array, { r, vs }: CompactSignature): Address {
  return recover(digest, fromHex(r, 32), fromHex(vs, 32));
}

/**
 * @param expected who must have signed; the zero address, which nothing recovers to, is never accepted
 * @param code of the refusal
 * @throws DstackError with that code
 */
export function requireSigner(
  domain: Domain,
  message: RequestMessage | AnswerMessage | BootstrapPackage,
  expected: Address,
  code: string,
): void {
  let signer: Address;
  try {
    signer = signerOf(signedDigest(domain, message), message.signature);
  } catch (cause) {
    throw new DstackError(code, `the ${message.type} has no valid signature`, { cause });
  }
  if (!sameAddress(signer, expected)) {
    throw new DstackError(code, `the ${message.type} is signed by ${signer}, not by ${expected}`);
  }
}

const identityOf = ({ measurement, config, platform }: AnswerMessage | BootstrapPackage) => ({
  measurement: fromHex(measurement, 32),
  config: fromHex(config, 32),
  platform: fromHex(platform, 32),
});
