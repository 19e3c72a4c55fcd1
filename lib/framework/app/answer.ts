/**
 * The bytes that an enclave, its hosts and a contract on contracts/EnclaveApp.sol agree on: a request's hash, what is attested of
 * its answer, and the call that settles it.
 */
import { type Static, Type } from 'typebox';
import { address, bytes, decodeStrictly, fixedBytes, smallUint, struct } from '../../protocol/abi.ts';
import { fromHex, to0x, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { type Address, addressKey, bareHex, type Hex, ZERO_WORD } from '../../protocol/hex.ts';
import { Address0x, Count, HexOf, Strict, Word0x } from '../../protocol/schema.ts';
import { keccak256 } from '../../protocol/secp256k1.ts';
import type { ContractLog } from '../handler.ts';

/** Of a request's data, as the contract bounds it. */
export const DATA_MAX_BYTES = 16 * 1024;
/** Of an answer: it is calldata of one transaction. */
export const RESPONSE_MAX_BYTES = 12 * 1024;
/** The attestations' tag, which an app uses for nothing else. */
export const ANSWER_TAG = 'dstack.v1.answer';

/** Topic 0 of `Requested(uint64,bytes32,address,bytes)`. */
export const REQUESTED: Hex = to0x(keccak256(utf8('Requested(uint64,bytes32,address,bytes)')));

const HexData = (maxBytes: number) =>
  Type.Unsafe<Hex>(Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 2 + 2 * maxBytes }));

/** The contract that an enclave answers. */
export interface AppDomain {
  chainId: number;
  contract: Address;
}

/** A request as the contract's event has it. `kind` is its name in ASCII, filled up with zeros. */
export const AppRequestSchema = Strict({
  sequence: Count,
  kind: Word0x,
  sender: Address0x,
  data: HexData(DATA_MAX_BYTES),
});
export type AppRequest = Static<typeof AppRequestSchema>;

/** An answer, and the network's word that the app's enclave gave it: see `Attested`. */
export const AttestedSchema = Strict({
  sequence: Count,
  kind: Word0x,
  sender: Address0x,
  dataHash: Word0x,
  blockNumber: Count,
  blockHash: Word0x,
  code: Type.String({ pattern: '^([A-Z][A-Z0-9_]{0,31})?$', maxLength: 32 }),
  response: HexData(RESPONSE_MAX_BYTES),
  signature: HexOf(65),
});

/**
 * A response to one request of one contract on one chain, which the enclave read at one block. `code` is empty, or why the request is
 * refused for good; `signature` is the network's, v ‖ r ‖ s. `T` is what `response` encodes.
 */
export type Attested<T = unknown> = Static<typeof AttestedSchema> & { readonly $response?: T };

/** What an enclave says before it is signed. */
export type Answer = Omit<Attested, 'signature' | '$response'>;

/** The contract's own count. */
export interface Progress {
  requested: number;
  settled: number;
  /** The hash of the request to be settled next; zeros when there is none. */
  next: Hex;
}

const NAME = /^[a-z][a-z0-9-]{0,31}$/;

/** A kind's word, as Solidity has `bytes32 constant PING = "ping"`. @throws KIND_NAME */
export function kindWord(name: string): Hex {
  if (!NAME.test(name))
    throw new DstackError(
      'KIND_NAME',
      `${JSON.stringify(name.slice(0, 64))} is no kind of request: up to 32 lower-case letters, digits and hyphens`,
    );
  return asciiWord(name);
}

/** The name in a word; undefined when it is none. */
export function kindName(word: Hex): string | undefined {
  const name = Buffer.from(fromHex(word, 32)).toString('latin1').replace(/\0+$/, '');
  return NAME.test(name) ? name : undefined;
}

const word32 = fixedBytes(32);
const uint64 = smallUint(48);

const requestCodec = struct({ sequence: uint64, kind: word32, sender: address, dataHash: word32 });

/** The hash by which the contract keeps a request: 0x and 64 digits. */
export function requestHash({ dataHash, ...request }: Omit<AppRequest, 'data'> & { dataHash: Hex }): Hex {
  return keccak(requestCodec.encode({ ...request, dataHash }));
}

/** The hash of a request's or a response's bytes, 0x hex. */
export const hashOf = (data: Hex): Hex => to0x(keccak256(fromHex(data.slice(2))));

/** A request's hash, from its data. */
export const hashOfRequest = ({ data, ...request }: AppRequest): Hex =>
  requestHash({ ...request, dataHash: hashOf(data) });

const attestedCodec = struct({
  chainId: smallUint(48),
  contract: address,
  hash: word32,
  blockNumber: uint64,
  blockHash: word32,
  code: word32,
  responseHash: word32,
});

/** What the app has attested of an answer, 32 bytes: chain and contract are in it, and by the hash the request. */
export function answerData({ chainId, contract }: AppDomain, answer: Answer): Hex {
  const { blockNumber, blockHash, code, response } = answer;
  const hash = requestHash(answer);
  const responseHash = hashOf(response);
  const attested = { chainId, contract, hash, blockNumber, blockHash, code: codeWord(code), responseHash };
  return bareHex(keccak(attestedCodec.encode(attested)));
}

const settleCodec = struct({
  answer: struct({
    sequence: uint64,
    kind: word32,
    sender: address,
    dataHash: word32,
    blockNumber: uint64,
    blockHash: word32,
    code: word32,
    response: bytes,
  }),
  v: smallUint(8),
  r: word32,
  s: word32,
});

/** Data of the transaction that settles a request. */
export function settleCall({ signature, code, ...answer }: Attested): string {
  const call = settleCodec.encode({
    answer: { ...answer, code: codeWord(code) },
    v: Number.parseInt(signature.slice(0, 2), 16),
    r: `0x${signature.slice(2, 66)}` as Hex,
    s: `0x${signature.slice(66)}` as Hex,
  });
  return `0xca631c46${call}`;
}

const progressCodec = struct({ requested: uint64, settled: uint64, next: word32 });

/** Data of the call that asks how far the contract is. */
export const PROGRESS_CALL = '0x577bd336';

/** @throws CONTRACT_DATA_INVALID */
export const decodeProgress = (data: string): Progress => decodeStrictly(progressCodec, data, 'progress');

const dataCodec = struct({ data: bytes });

/** The request of a `Requested` log. @throws CONTRACT_DATA_INVALID for another log */
export function decodeRequested({ topics, data }: Pick<ContractLog, 'topics' | 'data'>): AppRequest {
  const [topic, sequence, kind, sender] = topics;
  if (topic !== REQUESTED || sequence === undefined || kind === undefined || sender === undefined)
    throw new DstackError('CONTRACT_DATA_INVALID', 'the log is no request');
  const head = struct({ sequence: uint64, sender: address });
  return {
    ...decodeStrictly(head, sequence + sender.slice(2), 'request'),
    kind: kind as Hex,
    ...decodeStrictly(dataCodec, data, 'request'),
  };
}

/** One answer is one transaction; asked again, the enclave may have read it at another block. */
export const settlePurpose = ({ contract }: AppDomain, { sequence, blockHash }: Attested): string =>
  `settle:${addressKey(contract)}:${sequence}:${blockHash}`;

const codeWord = (code: string): Hex => (code === '' ? ZERO_WORD : asciiWord(code));

function asciiWord(text: string): Hex {
  const word = new Uint8Array(32);
  word.set(utf8(text));
  return to0x(word);
}

const keccak = (digits: string): Hex => to0x(keccak256(fromHex(digits)));
