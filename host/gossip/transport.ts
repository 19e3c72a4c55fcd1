/** What the relay asks of gossip, whatever carries it. */
import type { GossipMessage } from '../../lib/protocol/onboarding-messages.ts';

/** A message and its place in this host's own log of messages. */
export interface GossipEntry {
  /** Grows with every message; what `since` is compared to. */
  sequence: number;
  /** SHA-256 of the message's canonical form, hex. */
  id: string;
  message: GossipMessage;
}

export interface GossipTransport {
  /**
   * Durable when it returns; delivery to others goes on in the background, across restarts. The same message again is
   * the same entry.
   * @throws GOSSIP_* when our own checks refuse it: nobody else would take it either
   */
  publish(message: GossipMessage): Promise<GossipEntry>;
  /**
   * Calls back for every message after `since` (0: all that are still held), in order, then for each new one.
   * Returns the way to stop. A callback that throws is logged, and does not see the message again.
   */
  subscribe(callback: (entry: GossipEntry) => void, since: number): () => void;
  close(): Promise<void>;
}
