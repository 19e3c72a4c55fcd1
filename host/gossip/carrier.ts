/** What carries messages between hosts, and what it may do with this host's log of them. README.md says how to add one. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Message } from './message-kind.ts';
import type { SharedParts } from './shared-parts.ts';
import type { Sought } from './sought.ts';

/** A message and its place in this host's own log of messages. */
export interface Entry {
  /** Grows with every message; what `after` is compared to. */
  sequence: number;
  /** SHA-256 of the message's canonical form, hex. */
  id: string;
  message: Message;
}

/** An entry of the log, and who brought it. */
export interface SourcedEntry extends Entry {
  source: string;
}

/** An entry without its message. */
export interface Place {
  sequence: number;
  id: string;
  source: string;
}

/** The log as a carrier sees it. */
export interface Exchange {
  /** Names the log: positions in it mean nothing once it was lost. 32 hex digits. */
  readonly identity: string;
  /** The newest entry's sequence; 0 for an empty log. */
  readonly last: number;
  /** Entries after a sequence, oldest first. */
  after(sequence: number, limit: number): SourcedEntry[];
  /** The same, without the messages. */
  idsAfter(sequence: number, limit: number): Place[];
  get(id: string): Entry | undefined;
  /** Whether the message with this id is held now. */
  holds(id: string): boolean;
  /**
   * Whether the message with this id would add nothing: it is held, or was refused. @param source who says that it has it: its
   * word counts as its copy
   */
  knows(id: string, source: string): boolean;
  /** Ids of what is held about a subject. */
  idsAbout(subject: string): string[];
  /** Subjects that are known to be on chain, each with the last block at which messages about it are of use. */
  onChain(): [subject: string, until: number][];
  /** What a message is about. @throws GOSSIP_MALFORMED for what is of none of the kinds that are taken */
  subjectOf(value: unknown): string;
  /** Subjects of which something should be held, and nothing is. */
  readonly sought: Pick<Sought, 'all' | 'onNew'>;
  /** Parts that messages have in common. */
  readonly parts: SharedParts;
  /** Whether what refused this message with this code may turn into its admission, once another message has come. */
  isEarly(value: unknown, code: string): boolean;
  /** Whether no honest relay passes on what is refused with this code. */
  isFault(value: unknown, code: string): boolean;
  /**
   * Checks what a carrier brought, stores it and tells everyone; `fresh` is false for what adds nothing, which is found out
   * before any check. One bad message
   * is no reason to drop others: a DstackError that is not Retryable is the last word on this one alone.
   * @param value unchecked: of any form and size that the carrier lets through
   * @param source who sent it: it is bounded by source. No two carriers may use the same name for different sources
   * @throws GOSSIP_* for good, Retryable when it can't be judged yet
   */
  accept(value: unknown, source: string): Promise<{ entry: Entry; fresh: boolean }>;
  /** Resolves once there is an entry after `sequence`, when gossip ends, or after `wait` milliseconds. */
  change(sequence: number, wait: number): Promise<void>;
}

/** A peer as the operator sees it. */
export interface PeerStatus {
  peer: string;
  reachable: boolean;
}

/** A peer of the operator's choice that can be asked for what is no message. */
export interface AskablePeer {
  readonly peer: string;
  /**
   * What it says; empty where it has nothing to say. Nothing is believed of it.
   * @param what a question of lib/protocol/relay-questions.ts @throws WIRE_* when there is no answer
   */
  ask(what: Uint8Array): Promise<Uint8Array>;
}

/** A gauge, in the words of Prometheus. */
export interface Figure {
  readonly name: string;
  readonly help: string;
  readonly value: number;
}

/** A way for messages to travel. Several may feed one log; each takes from it what the others brought. */
export interface Carrier {
  /** Sources that this host's operator chose, by the names that `accept` is given: strangers never push theirs out. */
  readonly peers: readonly string[];
  /** Called once, before all else. */
  attach(exchange: Exchange): void;
  /**
   * Opens what other hosts reach it by, where that is not the port for all of them; before `start`.
   * @throws what the system refuses it with
   */
  listen?(): Promise<void>;
  /** What the operator of another host writes into its settings to reach it; undefined where it has no address of its own. */
  address?(): string | undefined;
  /** Begins to exchange messages; errors of the outside are logged and tried again, never thrown. */
  start(): void;
  /** Serves on the port for other hosts, where it needs one. */
  routes?(app: FastifyInstance): void;
  /** Which of `peers` makes a request to that port; undefined for anyone else. */
  callerOf?(request: FastifyRequest): string | undefined;
  status(): readonly PeerStatus[];
  /** Those of `peers` that can be asked for files now. */
  askable?(): readonly AskablePeer[];
  /** For the metrics: what it is doing now. */
  figures?(): readonly Figure[];
  /** Milliseconds that a message takes to one of the peers; undefined while none was seen. */
  latency?(): number | undefined;
  /** Resolves when nothing of it runs any more. */
  close(): Promise<void>;
}
