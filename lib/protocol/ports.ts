/** The TCP ports of the guest. Host and guest agree on them; on the host they are forwarded to ports of its choice. */
export const guestPorts = {
  /** The website, for the world. */
  tls: 443,
  /** The website too, where each connection begins with a header of the PROXY protocol that says where it comes from. */
  proxied: 8443,
  /** Without TLS, for the world: what certificate authorities ask, and where the website is. The host's port 80 leads here. */
  http: 8080,
  /** The replicator's, for this node's relay. */
  replicator: 7600,
  /** The agent API, on each app's own bridge only. */
  agent: 80,
  /** The store, etcd's API, on each app's own bridge only. */
  store: 2379,
  /** The store, for clients outside of the VM that network.json names an authority of. Their TLS ends in the store's daemon. */
  storeClients: 2381,
  /** Of the store's engine, which wants an address for peers: on the loopback only. */
  storePeers: 2380,
  /** Images, for the guest's own container engine: on the loopback only. */
  images: 7650,
} as const;
