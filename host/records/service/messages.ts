/** What is asked of a node over HTTP, and what it answers. Both sides check what comes by these. Identities and keys are lower-case hex without 0x, records and values base64, times milliseconds since 1970. */
import { type Static, type TSchema, Type } from 'typebox';
import { MAX_RECORD_BYTES } from '../../../lib/protocol/records/codec.ts';
import {
  MAX_LINKS,
  MAX_SELECTORS,
  MAX_TIMESTAMP,
  MAX_VALUE_BYTES,
} from '../../../lib/protocol/records/format.ts';
import { MAX_NAME_BYTES } from '../../../lib/protocol/records/names.ts';
import { MAX_PULSE_MINUTE } from '../../../lib/protocol/records/pulse.ts';
import { Count, HexOf, Strict } from '../../../lib/protocol/schema.ts';
import { PeerAddress } from './home.ts';

export const paths = {
  status: '/v1/status',
  query: '/v1/query',
  post: '/v1/post',
  links: '/v1/links',
  record: '/v1/record',
  rawRecord: '/v1/record/raw',
  owner: '/v1/owner',
  makeRecord: '/v1/makerecord',
  connect: '/v1/connect',
  pulse: '/v1/pulse',
} as const;

const MAX_TAG_RANGES = 512;
const Base64 = (bytes: number) =>
  Type.String({
    pattern: '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$',
    maxLength: Math.ceil(bytes / 3) * 4,
    description: `base64 of up to ${bytes} bytes`,
  });
const Time = Type.Integer({ minimum: 0, maximum: MAX_TIMESTAMP });
const Share = Type.Number({ minimum: 0, maximum: 1 });
const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

/** Records that have all of these: of each name an ordinal in one of its ranges of tags. The node learns no name and no ordinal. */
export const QueryRequest = Strict({
  names: Type.Optional(
    Type.Array(
      Strict({
        claimKey: HexOf(32),
        tags: Type.Array(Strict({ from: HexOf(8), to: HexOf(8) }), { minItems: 1, maxItems: MAX_TAG_RANGES }),
      }),
      { maxItems: MAX_SELECTORS },
    ),
  ),
  owners: Type.Optional(Type.Array(HexOf(32), { maxItems: 256 })),
  from: Type.Optional(Time),
  to: Type.Optional(Time),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
  oracles: Type.Optional(Type.Array(HexOf(32), { maxItems: 64 })),
});
export type QueryRequest = Static<typeof QueryRequest>;

const PulseSaid = { minute: Type.Integer({ minimum: 0, maximum: MAX_PULSE_MINUTE }), signature: HexOf(64) };

/** By the owner of the record: it still holds. @property minute since 1970 */
export const PulseRequest = Strict({ id: HexOf(32), ...PulseSaid });
export const PulseReply = Strict({ isNew: Type.Boolean() });

const Candidate = Strict({
  record: Base64(MAX_RECORD_BYTES),
  trust: Share,
  isCollider: Type.Boolean(),
  isRevoked: Type.Boolean(),
  suspectedBy: Type.Array(HexOf(32)),
  weight: Type.Optional(Type.Number({ minimum: 0 })),
  since: Type.Optional(Time),
  /** The latest pulse of the record. */
  pulse: Type.Optional(Strict(PulseSaid)),
});
export type CandidateReply = Static<typeof Candidate>;

export const QueryReply = Strict({
  /** In each, the one to believe first. */
  sets: Type.Array(Type.Array(Candidate, { minItems: 1 })),
  isCut: Type.Boolean(),
});
export type QueryReply = Static<typeof QueryReply>;

export const PostRequest = Strict({ record: Base64(MAX_RECORD_BYTES) });
export const PostReply = Strict({ id: HexOf(32), isNew: Type.Boolean() });

export const LinksReply = Strict({
  /** The node's clock. */
  time: Time,
  links: Type.Array(HexOf(32), { maxItems: MAX_LINKS }),
});

export const OwnerReply = Strict({
  owner: HexOf(32),
  isFounder: Type.Boolean(),
  isAuthority: Type.Boolean(),
  /** For now and not taken back, the one that ends last first. */
  certificates: Type.Array(
    Strict({
      id: HexOf(32),
      authority: HexOf(32),
      serial: Type.String({ pattern: '^\\d{1,20}$' }),
      notBefore: Time,
      notAfter: Time,
    }),
  ),
});
export type OwnerReply = Static<typeof OwnerReply>;

/** For programs on the node's own machine, which leave the format to it. */
export const MakeRequest = Strict({
  /** The seed of its owner. */
  ownerSeed: HexOf(32),
  names: Type.Array(
    Strict({
      name: Type.String({ minLength: 1, maxLength: MAX_NAME_BYTES }),
      ordinal: Type.Optional(Type.String({ pattern: '^\\d{1,20}$', description: 'a number, as text' })),
    }),
    { maxItems: MAX_SELECTORS },
  ),
  value: Base64(MAX_VALUE_BYTES),
  /** Whether everybody may read it; else who knows the first name. */
  public: Type.Optional(Type.Boolean()),
  noWork: Type.Optional(Type.Boolean()),
});
export const MakeReply = Strict({ id: HexOf(32) });

export const ConnectRequest = PeerAddress;
export const ConnectReply = Strict({});

const Peer = Strict({
  key: HexOf(32),
  address: Type.String({ maxLength: 300 }),
  isDialled: Type.Boolean(),
  since: Time,
  /** What the last comparison found, null before the first. */
  last: orNull(Strict({ age: Type.Number(), missingHere: Count, missingThere: Count })),
});

export const StatusReply = Strict({
  version: Type.Literal(1),
  network: HexOf(32),
  /** As amended. */
  name: Type.String({ maxLength: 64 }),
  contact: Type.String({ maxLength: 256 }),
  comment: Type.String({ maxLength: 1024 }),
  records: Count,
  isPrivate: Type.Boolean(),
  isSynchronised: Type.Boolean(),
  /** Records that somebody offers and that are not here yet. */
  lacking: Count,
  /** Records that wait for what they stand on. */
  waiting: Count,
  /** Why nothing is taken any more. */
  stopped: orNull(Strict({ code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 500 }) })),
  /** Where other nodes connect; null where none can. */
  wire: orNull(Strict({ key: HexOf(32), port: Count })),
  peers: Count,
  /** For who has the token. */
  connections: Type.Optional(Type.Array(Peer)),
  dialled: Type.Optional(Type.Array(PeerAddress)),
});
export type StatusReply = Static<typeof StatusReply>;

export const RecordReply = Strict({
  id: HexOf(32),
  type: Type.String({ maxLength: 20 }),
  owner: HexOf(32),
  timestamp: Time,
  links: Type.Array(HexOf(32)),
  /** What stands on it, up to 100. */
  children: Type.Array(HexOf(32)),
  /** Claim key and tag of the ordinal. */
  selectors: Type.Array(Strict({ claimKey: HexOf(32), ordinalTag: HexOf(8) })),
  permit: Type.String({ maxLength: 20 }),
  isMasked: Type.Boolean(),
  /** Null where it was thrown away. */
  value: orNull(Base64(MAX_VALUE_BYTES)),
  isCollider: Type.Boolean(),
  isRevoked: Type.Boolean(),
  /** Minutes since 1970, of its latest pulse; null without any. */
  pulse: orNull(Count),
  bytes: Count,
});
