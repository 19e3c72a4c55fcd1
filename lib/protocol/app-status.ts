/**
 * What a node says of its apps: what the contract wants of it, what serves, and what went wrong.
 *
 * It leaves the VM, so nothing of a container with private logs is in it. All of it is bounded: what an app writes fills no more
 * of it than its share. Texts may hold any character; who prints them escapes them.
 */
import { type Static, Type } from 'typebox';
import { APP_NAME, AppName, Count, HexOf, Strict } from './schema.ts';

/** The largest status, in bytes of JSON. */
export const APPS_STATUS_MAX_BYTES = 512 * 1024;
export const appsStatusLimits = {
  /** Apps in the contract's order; of further ones only the number is said. */
  apps: 64,
  rollouts: 64,
  rolloutsPerApp: 8,
  message: 500,
  logLines: 20,
  /** Characters of a line. */
  logLine: 300,
  /** Bytes of logs, of one app and of all. */
  logBytes: 8 * 1024,
  allLogBytes: 64 * 1024,
} as const;

const Code = Type.String({ pattern: '^[A-Z][A-Z0-9_]{0,63}$', maxLength: 64 });
const Message = Type.String({ maxLength: appsStatusLimits.message });

/**
 * `serving` the manifest in force, or the one that was when the contract was read last; `behind`: another one serves; `replacing`:
 * the old one is down and the new one not up; `starting` for the first time; `down`: nothing serves, after a refusal; `ended`: what
 * served was superseded, or the chain not read, for too long; `waiting` for its first manifest to take effect.
 */
const StateSchema = Type.Union([
  Type.Literal('serving'),
  Type.Literal('behind'),
  Type.Literal('replacing'),
  Type.Literal('starting'),
  Type.Literal('down'),
  Type.Literal('ended'),
  Type.Literal('waiting'),
]);
export type AppState = Static<typeof StateSchema>;

const TroubleSchema = Strict({
  code: Code,
  message: Message,
  /** Which manifest it is about. */
  manifest: HexOf(32),
  attempts: Count,
  /** Seconds until it is tried again. */
  nextTry: Count,
  /** The last lines of its containers with public logs, by the container's name. */
  logs: Type.Record(
    Type.String({ pattern: APP_NAME }),
    Type.Array(Type.String({ maxLength: appsStatusLimits.logLine }), {
      maxItems: appsStatusLimits.logLines,
    }),
    { additionalProperties: false, maxProperties: 8 },
  ),
});
export type AppTrouble = Static<typeof TroubleSchema>;

/** Times are Unix seconds by the chain's clock; manifests are hashes. */
export const AppStatusSchema = Strict({
  app: AppName,
  state: StateSchema,
  /** What the contract named when it was read last. */
  inForce: Type.Optional(HexOf(32)),
  pending: Type.Optional(HexOf(32)),
  serving: Type.Optional(HexOf(32)),
  /** Since when the contract names another manifest than the one that serves, and when that ends. */
  supersededSince: Type.Optional(Count),
  endsAt: Type.Optional(Count),
  /** What went wrong last with the manifest in force, with the next one, or with what serves. */
  trouble: Type.Optional(TroubleSchema),
});
export type AppStatus = Static<typeof AppStatusSchema>;

const RolloutSchema = Strict({
  app: AppName,
  manifest: HexOf(32),
  /** When it ended this way last. */
  at: Count,
  outcome: Type.Union([
    Type.Literal('deployed'),
    Type.Literal('refused'),
    Type.Literal('ended'),
    Type.Literal('withdrawn'),
  ]),
  code: Type.Optional(Code),
});
export type Rollout = Static<typeof RolloutSchema>;

export const AppsStatusSchema = Strict({
  /** The chain's clock, and the time of the block at which the contract was read last. */
  now: Type.Optional(Count),
  readAt: Type.Optional(Count),
  /** Why the contract is not followed. */
  problem: Type.Optional(Strict({ code: Code, message: Message })),
  apps: Type.Array(AppStatusSchema, { maxItems: appsStatusLimits.apps }),
  /** Apps that are not in the list. */
  more: Count,
  /** Since the daemon was started, oldest first. */
  rollouts: Type.Array(RolloutSchema, { maxItems: appsStatusLimits.rollouts }),
});
export type AppsStatus = Static<typeof AppsStatusSchema>;
