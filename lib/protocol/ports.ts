/** The TCP ports of the guest. Host and guest agree on them; on the host they are forwarded to ports of its choice. */
export const guestPorts = {
  /** The website, for the world. */
  tls: 443,
  /** The replicator's, for this node's relay. */
  replicator: 7600,
  /** The agent API, on each app's own bridge only. */
  agent: 80,
} as const;
