/**
 * What relays say to each other over HTTP. README.md tells the whole exchange; here are its paths, forms and bounds.
 *
 * A relay of before knows `GET /v1/gossip` and `POST /v1/gossip` alone. It is served when it calls; it can't be called, because
 * it does not know ids.
 */
import { Type } from 'typebox';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { Count, HexOf, Strict } from '../../lib/protocol/schema.ts';

export const GOSSIP_PROTOCOL = 2;

export const gossipPaths = {
  /** GET -> whole messages: for tools, and for relays of before. POST a message: what was wanted, or anything at all. */
  messages: '/v1/gossip',
  /** GET -> Announced, long-polled. POST Announcement -> AnnouncementReply. */
  ids: '/v1/gossip/ids',
  /** POST BodiesRequest -> BodiesReply */
  bodies: '/v1/gossip/bodies',
  /** POST AboutRequest -> AboutReply */
  about: '/v1/gossip/about',
} as const;

/** Ids in one reply to a poll. */
export const IDS = 256;
/** Ids in one announcement. */
export const ANNOUNCED = 64;
/** Bodies asked for at once. */
export const BODIES = 16;
/** Subjects asked about at once. */
export const SUBJECTS = 64;
/** Hashes of parts that a reader says it has. */
export const PARTS = 16;
export const WAIT_MAX_SECONDS = 25;
/** A reply of ours ends with the message that goes beyond this: a reader who never reads it holds that much of our memory. */
export const REPLY_FULL_BYTES = 512 * 1024;
/** More than such a reply has. */
export const BODIES_MAX_BYTES = REPLY_FULL_BYTES + 2 * MESSAGE_MAX_BYTES;

const Id = HexOf(32);
const Ids = (maxItems: number) => Type.Array(Id, { maxItems });

/** A reply's form is open: a later relay may say more. */
export const AnnouncedSchema = Type.Object({
  protocol: Count,
  /** Of the one who answers: peer-keys.ts. */
  key: HexOf(32),
  /** That it has that key, for the one who asked. */
  proof: Type.Optional(HexOf(32)),
  /** Names the log that `next` is a position in. */
  log: HexOf(16),
  next: Count,
  ids: Ids(IDS),
});

export const AnnouncementSchema = Strict({ ids: Type.Array(Id, { minItems: 1, maxItems: ANNOUNCED }) });
export const AnnouncementReplySchema = Type.Object({
  /** To be sent now, by `POST /v1/gossip`. */
  wanted: Ids(ANNOUNCED),
  /** Asked of another at present: to be announced again in a while, in case that one does not deliver. */
  later: Ids(ANNOUNCED),
});

/** The beginning of a part's hash: enough to name it, since the message's own id is compared in the end. */
export const PartName = HexOf(8);
export const BodiesRequestSchema = Strict({
  ids: Type.Array(Id, { minItems: 1, maxItems: BODIES }),
  knows: Type.Array(PartName, { maxItems: PARTS }),
});
export const BodiesReplySchema = Type.Object({
  /** Some of those asked for, oldest first; `without`: the parts that are left out, by field, because the reader has them. */
  messages: Type.Array(
    Type.Object({
      message: Type.Unknown(),
      without: Type.Optional(Type.Record(Type.String({ maxLength: 32 }), PartName, { maxProperties: 4 })),
    }),
    { maxItems: BODIES },
  ),
  /** What is not held any more. What is in neither list did not fit. */
  missing: Ids(BODIES),
});

export const AboutRequestSchema = Strict({ subjects: Type.Array(Id, { minItems: 1, maxItems: SUBJECTS }) });
export const AboutReplySchema = Type.Object({ ids: Ids(IDS) });

export const PollQuerySchema = Type.Object({
  log: Type.Optional(HexOf(16)),
  after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  wait: Type.Optional(Type.Integer({ minimum: 0, maximum: WAIT_MAX_SECONDS })),
});
