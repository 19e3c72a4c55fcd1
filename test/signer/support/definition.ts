/**
 * privval as its definition has it (cometbft's `types.proto`, `canonical.proto` and Celestia's addition), for the validator's side of tests.
 * Encoded by @bufbuild/protobuf and not by lib/cometbft, which is what is tested.
 */
import { create, createFileRegistry, type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  FieldDescriptorProto_Label,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt';

type Fields = readonly (readonly [number: number, name: string, type: string])[];

const common: Readonly<Record<string, Fields>> = {
  Timestamp: [
    [1, 'seconds', 'int64'],
    [2, 'nanos', 'int32'],
  ],
  PartSetHeader: [
    [1, 'total', 'uint32'],
    [2, 'hash', 'bytes'],
  ],
  BlockId: [
    [1, 'hash', 'bytes'],
    [2, 'parts', 'PartSetHeader'],
  ],
  Vote: [
    [1, 'type', 'int32'],
    [2, 'height', 'int64'],
    [3, 'round', 'int32'],
    [4, 'block', 'BlockId'],
    [5, 'timestamp', 'Timestamp'],
    [6, 'address', 'bytes'],
    [7, 'index', 'int32'],
    [8, 'signature', 'bytes'],
    [9, 'extension', 'bytes'],
    [10, 'extsig', 'bytes'],
  ],
  Proposal: [
    [1, 'type', 'int32'],
    [2, 'height', 'int64'],
    [3, 'round', 'int32'],
    [4, 'pol', 'int32'],
    [5, 'block', 'BlockId'],
    [6, 'timestamp', 'Timestamp'],
    [7, 'signature', 'bytes'],
  ],
  CanonicalVote: [
    [1, 'type', 'int32'],
    [2, 'height', 'sfixed64'],
    [3, 'round', 'sfixed64'],
    [4, 'block', 'BlockId'],
    [5, 'timestamp', 'Timestamp'],
    [6, 'chain', 'string'],
  ],
  CanonicalProposal: [
    [1, 'type', 'int32'],
    [2, 'height', 'sfixed64'],
    [3, 'round', 'sfixed64'],
    [4, 'pol', 'int64'],
    [5, 'block', 'BlockId'],
    [6, 'timestamp', 'Timestamp'],
    [7, 'chain', 'string'],
  ],
  CanonicalExtension: [
    [1, 'extension', 'bytes'],
    [2, 'height', 'sfixed64'],
    [3, 'round', 'sfixed64'],
    [4, 'chain', 'string'],
  ],
  Failure: [
    [1, 'code', 'int32'],
    [2, 'description', 'string'],
  ],
  Key: [[1, 'ed25519', 'bytes']],
  PubKeyRequest: [[1, 'chain', 'string']],
  PubKeyResponse: [
    [1, 'key', 'Key'],
    [2, 'error', 'Failure'],
    [3, 'bytes', 'bytes'],
    [4, 'type', 'string'],
  ],
  SignVoteRequest: [
    [1, 'vote', 'Vote'],
    [2, 'chain', 'string'],
    [3, 'skip', 'bool'],
  ],
  SignedVoteResponse: [
    [1, 'vote', 'Vote'],
    [2, 'error', 'Failure'],
  ],
  SignProposalRequest: [
    [1, 'proposal', 'Proposal'],
    [2, 'chain', 'string'],
  ],
  SignedProposalResponse: [
    [1, 'proposal', 'Proposal'],
    [2, 'error', 'Failure'],
  ],
  Empty: [],
  SignBytesRequest: [[1, 'value', 'bytes']],
  SignRawBytesRequest: [
    [1, 'chain', 'string'],
    [2, 'raw', 'bytes'],
    [3, 'id', 'string'],
  ],
  SignatureResponse: [
    [1, 'signature', 'bytes'],
    [2, 'error', 'Failure'],
  ],
  Request: [
    [1, 'pubKey', 'PubKeyRequest'],
    [3, 'vote', 'SignVoteRequest'],
    [5, 'proposal', 'SignProposalRequest'],
    [7, 'ping', 'Empty'],
    [9, 'bytes', 'SignBytesRequest'],
  ],
  CelestiaRequest: [[9, 'raw', 'SignRawBytesRequest']],
  Response: [
    [2, 'pubKey', 'PubKeyResponse'],
    [4, 'vote', 'SignedVoteResponse'],
    [6, 'proposal', 'SignedProposalResponse'],
    [8, 'ping', 'Empty'],
    [10, 'bytes', 'SignatureResponse'],
  ],
};

const scalars: Readonly<Record<string, Type>> = {
  int32: Type.INT32,
  int64: Type.INT64,
  uint32: Type.UINT32,
  sfixed64: Type.SFIXED64,
  bool: Type.BOOL,
  string: Type.STRING,
  bytes: Type.BYTES,
};

const registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      create(FileDescriptorProtoSchema, {
        name: 'privval.proto',
        package: 'p',
        syntax: 'proto3',
        messageType: Object.entries(common).map(([name, fields]) => ({
          name,
          field: fields.map(([number, field, type]) => ({
            name: field,
            number,
            label: FieldDescriptorProto_Label.OPTIONAL,
            ...(scalars[type] === undefined
              ? { type: Type.MESSAGE, typeName: `.p.${type}` }
              : { type: scalars[type] }),
          })),
        })),
      }),
    ],
  }),
);

export type Plain = Record<string, unknown>;

function descOf(name: string): DescMessage {
  return registry.getMessage(`p.${name}`)!;
}

export function encode(name: string, value: Plain): Uint8Array {
  return toBinary(descOf(name), create(descOf(name), value as never));
}

export function decode(name: string, bytes: Uint8Array): Plain {
  return fromBinary(descOf(name), new Uint8Array(bytes)) as unknown as Plain;
}

/** With its length before it. */
export function delimit(bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  let rest = bytes.length;
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
  return new Uint8Array(Buffer.concat([Uint8Array.of(...length, rest), bytes]));
}

export interface Signable {
  readonly height: bigint;
  readonly round: number;
  readonly block?: Plain;
  readonly timestamp: Plain;
}

const parts = (block: Plain | undefined): Plain => (block === undefined ? {} : { block });

export function canonicalVote(chain: string, vote: Signable & { readonly type: number }): Uint8Array {
  const { type, height, round, timestamp } = vote;
  return delimit(
    encode('CanonicalVote', { type, height, round: BigInt(round), timestamp, chain, ...parts(vote.block) }),
  );
}

export function canonicalProposal(chain: string, proposal: Signable & { readonly pol: number }): Uint8Array {
  const { height, round, timestamp, pol } = proposal;
  return delimit(
    encode('CanonicalProposal', {
      type: 32,
      height,
      round: BigInt(round),
      pol: BigInt(pol),
      timestamp,
      chain,
      ...parts(proposal.block),
    }),
  );
}

export function canonicalExtension(
  chain: string,
  { height, round }: Signable,
  extension: Uint8Array,
): Uint8Array {
  return delimit(encode('CanonicalExtension', { extension, height, round: BigInt(round), chain }));
}
