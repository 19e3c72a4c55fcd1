/** The configuration that `dstack signer init` writes. */
export interface TemplateFields {
  readonly chainId: string;
  readonly protocol: string;
  readonly address: string;
  readonly endpoint: string;
  readonly prefix: string;
}

export function configTemplate({ chainId, protocol, address, endpoint, prefix }: TemplateFields): string {
  const quoted = (text: string): string => JSON.stringify(text);
  return `# The configuration of dstack's signer: docs/signer.md explains it.

[store]
# Members of the store (etcd's API): unix:///path, http://host:port or https://host:port. Without a quorum nothing is signed.
endpoints = [${quoted(endpoint)}]
# For https: PEM files.
# ca = "/etc/dstack/store-ca.pem"
# certificate = "/etc/dstack/store.pem"
# key = "/etc/dstack/store.key"
# A store of one member does not protect from its disk being put back to an old copy, after which a validator can sign twice. The signer
# does not start on one unless this is true.
accept_host_rollback = false

[[chain]]
id = ${quoted(chainId)}
# v0.34, v0.37, v0.38, v1 or celestia: that of the node. It cannot be told from what a node asks, and a wrong one stops the node.
protocol_version = ${quoted(protocol)}
# network: derived from the network's secret by the chain's id. imported: see dstack signer import.
key = "network"
bech32_prefix = ${quoted(prefix)}
# 1.x only: answer SignBytes, which signs bytes that have no prefix.
# sign_bytes = true

# One for each validator and sentry that is to be dialled: its priv_validator_laddr. Of a chain with several, one is served by each node.
[[validator]]
chain_id = ${quoted(chainId)}
# tcp://host:port, tcp://NODE_ID@host:port or unix:///path. CometBFT's nodes make a new key at each start: no NODE_ID for them.
address = ${quoted(address)}

[status]
# unix:///path or tcp://127.0.0.1:port: GET /v1/status and /metrics.
listen = "tcp://127.0.0.1:26661"

[backup]
# Whom \`dstack signer backup\` encrypts to: recipients of age (age1…).
recipients = []
`;
}
