/**
 * The `signer` of a manifest: for which chains the network's nodes sign as their validator, and what has to be so for it. The owner says all
 * of it by the manifest's hash; where the validators are is the host's to say (network-config.ts), since it could lead connections elsewhere
 * anyway.
 */
import { type Static, Type } from 'typebox';
import { DstackError } from './errors.ts';
import { Count, HexOf, OneOf, SecretName, Strict } from './schema.ts';

/** Versions of the protocol between a validator and its signer: a request does not tell. `celestia`: 0.38 with the signing of raw bytes. */
export const PROTOCOL_VERSIONS = ['v0.34', 'v0.37', 'v0.38', 'v1', 'celestia'] as const;
export type ProtocolVersion = (typeof PROTOCOL_VERSIONS)[number];

/** CometBFT allows 50 characters; these can stand in a key of the store as they are. */
export const ChainId = Type.String({
  pattern: '^[A-Za-z0-9._~+-]{1,50}$',
  maxLength: 50,
  description: 'up to 50 letters, digits and . _ ~ + -',
});

/** The most chains of one signer. */
export const SIGNER_CHAINS = 16;

const SignedChainSchema = Strict({
  id: ChainId,
  protocol: OneOf(PROTOCOL_VERSIONS),
  /** `derived` from the network's secret by the chain's id; or one that a validator had before, sealed as a secret of the app. */
  key: Type.Union([Type.Literal('derived'), Strict({ secret: SecretName })]),
  /** Nothing at this height, or before it, is ever signed: what the key signed elsewhere, on another disk too, was not after it. */
  afterHeight: Count,
  /** 1.x: answer `SignBytes`, which signs bytes without a prefix, though never those that have the form of a vote. */
  signBytes: Type.Optional(Type.Boolean()),
});
export type SignedChain = Static<typeof SignedChainSchema>;

export const SignerSchema = Strict({
  /**
   * The id of the one data disk on whose store the records are. Each node has a store of its own, and two that sign with one key by records
   * of their own would sign twice.
   */
  disk: HexOf(16),
  /** That an old copy of that disk, which its host can put back, makes the validator sign twice. A store of one member is used only so. */
  acceptHostRollback: Type.Optional(Type.Boolean()),
  /** Nodes that must have been given the secret before anything is signed; 2 when left out. The contract tells one from more. */
  minimumNodes: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 })),
  chains: Type.Array(SignedChainSchema, { minItems: 1, maxItems: SIGNER_CHAINS }),
});
export type SignerPart = Static<typeof SignerSchema>;

/** Names of the app's secrets that its signer uses. */
export const secretsOfSigner = (signer: SignerPart | undefined): readonly string[] =>
  (signer?.chains ?? []).flatMap(({ key }) => (key === 'derived' ? [] : [key.secret]));

/** @param secrets names of those that the manifest has. @throws MANIFEST_SIGNER */
export function assertSigner({ chains }: SignerPart, secrets: readonly string[]): void {
  const refuse = (why: string) => {
    throw new DstackError('MANIFEST_SIGNER', why);
  };
  for (const [at, { id, protocol, key, signBytes }] of chains.entries()) {
    if (chains.findIndex((chain) => chain.id === id) !== at) refuse(`the signer has chain ${id} twice`);
    if (signBytes === true && protocol !== 'v1')
      refuse(`chain ${id} of the signer: signBytes is of protocol v1 only, and it has ${protocol}`);
    if (key !== 'derived' && !secrets.includes(key.secret))
      refuse(
        `chain ${id} of the signer wants the secret ${key.secret}, which is not among the manifest's secrets`,
      );
  }
}
