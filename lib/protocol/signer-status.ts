/** What a node's signer says of itself. It leaves the VM and has no secret in it; texts may be a validator's, and who prints them escapes them. */
import { type Static, Type } from 'typebox';
import { AppName, Count, HexOf, OneOf, Strict } from './schema.ts';
import { ChainId, PROTOCOL_VERSIONS, SIGNER_CHAINS } from './signer-part.ts';

/** Validators and sentries that one node dials, of all chains. */
export const SIGNER_VALIDATORS = 16;

const Problem = Strict({
  code: Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_]{0,63}$', maxLength: 64 }),
  message: Type.String({ maxLength: 500 }),
});
export type SignerProblem = Static<typeof Problem>;

/** The code while the daemon that reads the contract has not read it since it was started: what was ordered before may still be so. */
export const CONTRACT_UNREAD = 'CONTRACT_UNREAD';

/**
 * `queued`: the node has another signer now, and takes this one when that has gone. `connected`: nothing was asked yet. `serving`: the
 * node asks. `standby`: another signer on the same store dials.
 */
export const CONNECTION_STATES = [
  'standby',
  'dialling',
  'handshake',
  'queued',
  'connected',
  'serving',
] as const;

export const SignerStatusSchema = Strict({
  /** The app whose manifest in force names the signer, and that manifest's hash; absent while there is none. */
  app: Type.Optional(AppName),
  manifest: Type.Optional(HexOf(32)),
  /** The id of this node's data disk, which a manifest has to name for this node to sign. */
  disk: Type.Optional(HexOf(16)),
  /** Why nothing is signed. */
  stopped: Type.Optional(Problem),
  /** False with a store of one member; absent while no store was reached. */
  rollbackProtected: Type.Optional(Type.Boolean()),
  /** What follows is empty while the signer is not up. */
  dials: Type.Boolean(),
  chains: Type.Array(
    Strict({
      id: ChainId,
      protocol: OneOf(PROTOCOL_VERSIONS),
      /** Base64, and the validator's address as logs of nodes have it. */
      publicKey: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$', maxLength: 44 }),
      address: Type.String({ pattern: '^[0-9A-F]{40}$', maxLength: 40 }),
      /** What was signed last, as the store said when it was asked last; absent where its answer is not known. */
      height: Type.Optional(Type.String({ pattern: '^\\d{1,19}$', maxLength: 19 })),
      round: Type.Optional(Count),
      step: Type.Optional(Type.Integer({ minimum: 0, maximum: 3 })),
      /** Since the daemon was started. */
      signatures: Count,
      refusals: Count,
    }),
    { maxItems: SIGNER_CHAINS },
  ),
  connections: Type.Array(
    Strict({
      chain: ChainId,
      address: Type.String({ maxLength: 400 }),
      state: OneOf(CONNECTION_STATES),
      /** Seconds in this state. */
      seconds: Count,
      /** Connected, and nothing was asked for a while. */
      quiet: Type.Boolean(),
      /** Requests of this connection. */
      requests: Count,
      problem: Type.Optional(Problem),
    }),
    { maxItems: SIGNER_VALIDATORS },
  ),
});
export type SignerStatus = Static<typeof SignerStatusSchema>;
