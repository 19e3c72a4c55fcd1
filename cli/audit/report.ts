/** What an audit reports. */
import type { Address } from '../../lib/protocol/hex.ts';
import type { SourceReport } from './archives.ts';
import type { Proof } from './evidence.ts';
import type { Kind, Pending, Standing } from './replay.ts';
import type { StateProof } from './state.ts';

/** `failure`: the history or its evidence contradicts itself. `gap`: something can't be checked. `warning`: true, and to be known. */
export type Severity = 'failure' | 'gap' | 'warning';

export interface Finding {
  readonly severity: Severity;
  /** Stable; programs match on it. */
  readonly code: string;
  /** Where in the history: `block 12`, or what it is about. */
  readonly where: string;
  readonly message: string;
}

/** A node that was given the secret of its epoch. Hex without 0x; config is undefined when no record says it. */
export interface Holder {
  readonly role: 'bootstrap' | 'onboarded';
  /** Its one-time address, or the network key for the first node. */
  readonly node: Address | 'unknown';
  readonly epoch: number;
  readonly block: number;
  /** Unix seconds. */
  readonly time: number;
  readonly measurement: string;
  readonly platform: string;
  readonly config: string | undefined;
  readonly proof: Proof;
  /** Whether what let it in is still allowed today. */
  readonly standing: Partial<Record<Kind, Standing>>;
}

/**
 * The state of a request at the audited block. Open: it can still be answered. Expired: its window is over. None: it was
 * never registered.
 */
export type RequestStanding = 'open' | 'expired' | 'answered' | 'none';

/** A request without an answer on chain. */
export interface Unanswered {
  readonly requestHash: string;
  readonly node: Address;
  readonly epoch: number;
  readonly block: number;
  /** Unix seconds. */
  readonly time: number;
  readonly standing: RequestStanding;
}

/** The network's key signed an answer that the contract does not have. */
export interface Unposted {
  readonly requestHash: string;
  readonly node: Address;
  readonly answerHash: string;
  /** `answered` means: by another answer than this one. */
  readonly standing: RequestStanding;
  /** Whether its request can't be answered on chain any more, whatever happens. */
  readonly final: boolean;
  /** Whether a record has the sealed secret itself, which a node gives out only once the answer is on chain. */
  readonly sealedFound: boolean;
}

export interface AuditReport {
  readonly verdict: 'sound' | 'sound-with-warnings' | 'unproven' | 'failed';
  readonly chainId: number;
  readonly contract: Address;
  /** The block as of which all of this is true. Compare its hash with a source of your own: all endpoints together can hide what came later. */
  readonly head: {
    readonly number: number;
    readonly hash: string;
    readonly timestamp: number;
    /** The auditor's own clock when the head was read, Unix seconds, and how far the block was behind it. */
    readonly seenAt: number;
    readonly age: number;
    /** Whether the auditor named the block. */
    readonly chosen: boolean;
    /** How many endpoints were asked; all of them agreed. */
    readonly endpoints: number;
  };
  /** Whether the contract's whole storage was proven, and is what the events add up to. */
  readonly storage: StateProof & { readonly explained: boolean };
  readonly owner: string;
  /** How long loosening takes now, in seconds. */
  readonly delay: number;
  readonly epoch: number;
  readonly timeline: readonly { readonly block: number; readonly time: number; readonly text: string }[];
  /** Every node that was given the secret of the current epoch. */
  readonly holders: readonly Holder[];
  readonly unanswered: readonly Unanswered[];
  readonly unposted: readonly Unposted[];
  readonly pending: readonly Pending[];
  readonly apps: readonly { readonly app: string; readonly manifest: string | undefined }[];
  /** Where the public files came from, and what was wrong there. */
  readonly sources: readonly SourceReport[];
  /** What is kept for the next audit; undefined without a checkpoint. */
  readonly checkpoint?: CheckpointReport;
  readonly findings: readonly Finding[];
}

export interface CheckpointReport {
  /** What stands for the file as this audit leaves it: give it to the next one. Undefined when there is no run in it. */
  readonly hash: string | undefined;
  /** The block up to which earlier audits were built on; undefined when there were none. */
  readonly from: number | undefined;
  /** Quotes that earlier audits had accepted, and those that this one accepted. */
  readonly known: number;
  readonly added: number;
}
