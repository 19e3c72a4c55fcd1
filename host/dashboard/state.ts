/**
 * What the dashboard shows, as one JSON value: `GET /dashboard/state`. The page's own stream sends the same value once, and
 * after that the parts of a network that changed (`PatchSchema`).
 *
 * Texts in it come from peers, apps, endpoints and the chain: they may hold any character, and are bounded. Whoever shows them
 * shows them as text. Nothing in it is secret. Times are Unix seconds by the chain where nothing else is said; amounts of ether
 * are decimal strings of wei.
 */
import { type Static, Type } from 'typebox';
import { Count, OneOf, Strict } from '../../lib/protocol/schema.ts';

/** Characters of any text. */
export const TEXT_MAX = 600;
const Text = Type.String({ maxLength: TEXT_MAX });
const Maybe = <T extends Parameters<typeof Type.Optional>[0]>(schema: T) => Type.Union([schema, Type.Null()]);
/** An address or a hash, 0x-prefixed. */
const Hex0x = Type.String({ pattern: '^0x[0-9a-fA-F]*$', maxLength: 66 });
const Wei = Type.String({ pattern: '^[0-9]{1,78}$', maxLength: 78 });

/** The most of each list that is shown; of further ones the number is said. */
export const most = {
  nodes: 500,
  onboardings: 100,
  apps: 250,
  rollouts: 200,
  allowed: 500,
  pending: 100,
  transactions: 50,
  peers: 100,
  warnings: 20,
  logLines: 20,
} as const;

const NodeSchema = Strict({
  /** The one-time address that it asked with; null for the first node, which never asked. */
  node: Maybe(Hex0x),
  request: Maybe(Hex0x),
  measurement: Hex0x,
  platform: Hex0x,
  /** The block in which it got in. */
  block: Count,
  /** What the owner's lists say of it today. */
  standing: OneOf(['allowed', 'measurement revoked', 'platform revoked', 'other epoch']),
  /** Whether it is this host's own. */
  own: Type.Boolean(),
});
export type NodeRow = Static<typeof NodeSchema>;

const OwnNodeSchema = Strict({
  state: OneOf(['starting', 'bootstrapping', 'requesting', 'joined', 'failed', 'unreachable']),
  /** The rest is not known while it is unreachable. */
  flavour: Maybe(Text),
  epoch: Maybe(Count),
  config: Maybe(Hex0x),
  networkKey: Maybe(Hex0x),
  code: Maybe(Text),
  message: Maybe(Text),
  /** One sentence; empty when it waits for nothing. */
  waitingFor: Text,
});
export type OwnNode = Static<typeof OwnNodeSchema>;

const OnboardingSchema = Strict({
  request: Hex0x,
  node: Hex0x,
  state: OneOf(['asked', 'answered', 'expired']),
  askedBlock: Count,
  answeredBlock: Maybe(Count),
  /** The last block in which it may be answered. */
  until: Count,
  own: Type.Boolean(),
  /** What this host does about it, or why it does nothing. */
  note: Text,
});
export type Onboarding = Static<typeof OnboardingSchema>;

const AppSchema = Strict({
  app: Text,
  /** By the contract: what is in force, and what is to come and when. */
  manifest: Maybe(Hex0x),
  next: Maybe(Strict({ manifest: Hex0x, from: Count })),
  /** By this host's own node; null while it does not say. */
  node: Maybe(
    Strict({
      state: Text,
      serving: Maybe(Hex0x),
      trouble: Maybe(
        Strict({
          code: Text,
          message: Text,
          manifest: Hex0x,
          attempts: Count,
          /** Of containers with public logs, the container's name before each. */
          logs: Type.Array(Text, { maxItems: most.logLines }),
        }),
      ),
    }),
  ),
});
export type AppRow = Static<typeof AppSchema>;

const RolloutSchema = Strict({
  app: Text,
  manifest: Maybe(Hex0x),
  what: OneOf([
    'rolled out',
    'rolled back',
    'withdrawn by the owner',
    'deployed',
    'refused',
    'ended',
    'withdrawn',
  ]),
  /** `contract`: what the owner did; `node`: what became of it on this host. */
  by: OneOf(['contract', 'node']),
  block: Maybe(Count),
  /** When it takes effect, or ended this way; null where the chain does not say it. */
  at: Maybe(Count),
  code: Maybe(Text),
});
export type RolloutRow = Static<typeof RolloutSchema>;

const AllowedSchema = Strict({
  kind: OneOf(['measurement', 'config', 'platform', 'FMSPC']),
  value: Hex0x,
  state: OneOf(['allowed', 'pending', 'revoked']),
  /** Since or from when; null for what was revoked. */
  from: Maybe(Count),
  block: Count,
});
export type AllowedRow = Static<typeof AllowedSchema>;

/** Something that the owner did and that the network's delay still holds back. */
const PendingSchema = Strict({ what: Text, value: Text, from: Count });
export type PendingRow = Static<typeof PendingSchema>;

const TransactionSchema = Strict({
  purpose: Text,
  state: Text,
  hash: Maybe(Hex0x),
  code: Maybe(Text),
  message: Maybe(Text),
});

/** Of mined transactions since the relay was started. */
const SpentSchema = Strict({ kind: Text, transactions: Count, gas: Count, wei: Wei });
export type SpentRow = Static<typeof SpentSchema>;

const listOf = <T extends Parameters<typeof Type.Array>[0]>(schema: T, maxItems: number) =>
  Strict({ list: Type.Array(schema, { maxItems }), more: Count });

/** The parts of a network, each of which the page shows by itself. */
export const partSchemas = {
  pulse: Strict({
    /** The newest block that was seen, and its time. */
    head: Maybe(Count),
    time: Maybe(Count),
    /** The last block whose events the relay has acted on. */
    block: Maybe(Count),
    /** Why the relay is not healthy; null when it is. */
    unhealthy: Maybe(Text),
  }),
  network: Strict({
    networkKey: Hex0x,
    epoch: Count,
    /** Seconds that loosening takes. */
    delay: Count,
    /** Blocks. */
    requestWindow: Count,
    platformsOpen: Type.Boolean(),
  }),
  /** How far the contract's events are read: from `from` on; `complete` from its deployment on. */
  history: Strict({
    from: Maybe(Count),
    complete: Type.Boolean(),
    /** Newer blocks that are still to be read. */
    behind: Count,
    /** Of this block and earlier ones not all requests and answers are shown; null: all are. */
    cutAt: Maybe(Count),
    problem: Maybe(Text),
  }),
  warnings: Type.Array(Text, { maxItems: most.warnings }),
  own: OwnNodeSchema,
  nodes: listOf(NodeSchema, most.nodes),
  peers: listOf(Strict({ peer: Text, reachable: Type.Boolean() }), most.peers),
  onboardings: listOf(OnboardingSchema, most.onboardings),
  apps: listOf(AppSchema, most.apps),
  rollouts: listOf(RolloutSchema, most.rollouts),
  certificate: Strict({ serial: Text, names: Type.Array(Text, { maxItems: 32 }), notAfter: Count }),
  gas: Strict({
    address: Hex0x,
    wei: Maybe(Wei),
    lowWei: Wei,
    low: Type.Boolean(),
    spent: Type.Array(SpentSchema, { maxItems: 16 }),
    transactions: listOf(TransactionSchema, most.transactions),
  }),
  allowed: listOf(AllowedSchema, most.allowed),
  pending: listOf(PendingSchema, most.pending),
} as const;
export type PartName = keyof typeof partSchemas;
export type Parts = { [Name in PartName]: Static<(typeof partSchemas)[Name]> | null };

const parts = Object.fromEntries(
  Object.entries(partSchemas).map(([name, schema]) => [name, Maybe(schema)]),
) as { [Name in PartName]: ReturnType<typeof Maybe<(typeof partSchemas)[Name]>> };

/** A part is null while it is not known. */
export const NetworkStateSchema = Strict({ contract: Hex0x, chainId: Count, ...parts });
export type NetworkState = { contract: string; chainId: number } & Parts;

export const LogLineSchema = Strict({
  /** Counts up; a page that was away knows by it which lines it has. */
  n: Count,
  /** Unix milliseconds, by this machine's clock. */
  at: Count,
  level: OneOf(['debug', 'info', 'warn', 'error']),
  text: Type.String({ maxLength: 2 * TEXT_MAX }),
});
export type LogLine = Static<typeof LogLineSchema>;

/** What `GET /dashboard/state` answers. */
export const DashboardStateSchema = Strict({
  version: Type.Literal(1),
  /** Unix milliseconds, by this machine's clock. */
  now: Count,
  startedAt: Count,
  networks: Type.Array(NetworkStateSchema, { maxItems: 33 }),
  log: Type.Array(LogLineSchema),
});
export interface DashboardState {
  readonly version: 1;
  readonly now: number;
  readonly startedAt: number;
  readonly networks: readonly NetworkState[];
  readonly log: readonly LogLine[];
}

/** What the stream sends after the state: the parts of one network that changed. */
export type Patch = { readonly contract: string; readonly chainId: number } & Partial<Parts>;

/** At most so many of a list, and how many more there are. */
export function firstOf<T>(
  all: readonly T[],
  limit: number,
): { readonly list: readonly T[]; readonly more: number } {
  return { list: all.slice(0, limit), more: Math.max(0, all.length - limit) };
}

/** Cut to length. No half of a surrogate pair is left, which JSON could not carry as text. */
export function text(value: string, limit = TEXT_MAX): string {
  return value.length <= limit ? value : `${value.slice(0, limit - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}
