/**
 * `dstack/framework`: what an author has for a contract whose requests are answered in an enclave. docs/framework.md goes through it.
 *
 * - In the enclave: `Enclave`, `Router` with `RequestHandler`s, `Refusal`, `Tables` of `TypedStore`s, `chainReader`.
 * - On the host: `runHost`, which is `serve` with settings; the `Host` that it stands on, with handlers of any events; `EvmChain` (a `ChainClient`), `enclaveAt`.
 * - On both: the codecs of Solidity's ABI, schemas (`Type`), errors.
 *
 * The contract's side is `dstack/contracts/EnclaveApp.sol`.
 */
export { Type } from 'typebox';
export {
  type ChainClient as ChainReader,
  type ChainClientOptions as ChainReaderOptions,
  chainClient as chainReader,
  type Head,
} from '../lib/chain/chain-client.ts';
export type { Log } from '../lib/daemon/log.ts';
export { Metrics } from '../lib/daemon/metrics.ts';
export { stopSignal } from '../lib/daemon/stop-signal.ts';
export {
  type AppDomain,
  type AppRequest,
  AppRequestSchema,
  type Attested,
  AttestedSchema,
  answerData,
  decodeProgress,
  hashOfRequest,
  kindName,
  kindWord,
  PROGRESS_CALL,
  type Progress,
  REQUESTED,
  settleCall,
} from '../lib/framework/app/answer.ts';
export {
  type Answering,
  type Attestor,
  type BytesCodec,
  type Chain,
  type Enclave,
  type Keys,
  Refusal,
  type RequestContext,
  type RequestHandler,
} from '../lib/framework/app/enclave.ts';
export { type EtcdPlace, etcdBacking } from '../lib/framework/app/etcd-backing.ts';
export {
  type Existence,
  type ExistenceProof,
  ExistenceProofSchema,
  verifyExistence,
} from '../lib/framework/app/existence.ts';
export { lineLog } from '../lib/framework/app/line-log.ts';
export { type ChainAgent, nodeChain } from '../lib/framework/app/node-chain.ts';
export { signerOf } from '../lib/framework/app/personal-signature.ts';
export { ANSWER_PATH, type RouteOptions, Router } from '../lib/framework/app/router.ts';
export { open, seal, sealingPublicKey } from '../lib/framework/app/sealing.ts';
export {
  type EnclaveSettings,
  enclaveSettings,
  type HostSettings,
  hostSettings,
} from '../lib/framework/app/settings.ts';
export { eventTopic, functionCall } from '../lib/framework/app/solidity.ts';
export {
  type Backing,
  fileBacking,
  memoryBacking,
  type StoreKey,
  Tables,
  type TypedStore,
} from '../lib/framework/app/typed-store.ts';
export type { EventProgress, OpenJob } from '../lib/framework/event-loop.ts';
export type { LogSource } from '../lib/framework/event-reader.ts';
export {
  type ContractLog,
  type Effect,
  type Enclave as EnclaveClient,
  type EventContext,
  type EventHandler,
  NotYet,
  type TransactionRequest,
  type UnreadBlock,
  type Verdict,
} from '../lib/framework/handler.ts';
export type { Assemble, LineStatus } from '../lib/framework/host/app-line.ts';
export { type ChainClient, EvmChain, type EvmChainOptions } from '../lib/framework/host/chain-client.ts';
export { enclaveAt } from '../lib/framework/host/enclave-client.ts';
export {
  type ContractHandler,
  type Gossiping,
  Host,
  type HostOptions,
  type StartBlock,
} from '../lib/framework/host/host.ts';
export { type HostParts, runHost, type Served, type Serves } from '../lib/framework/host/run.ts';
export {
  type EnclaveAppOptions,
  type ServeOptions,
  type ServeStatus,
  type Serving,
  serve,
} from '../lib/framework/host/serve.ts';
export { openStore, partOf, type Store, Table } from '../lib/framework/store.ts';
export type { TransactionState, TransactionStatus } from '../lib/framework/transactions/transactions.ts';
export type { Codec, Decoded } from '../lib/protocol/abi.ts';
export * as abi from '../lib/protocol/abi.ts';
export { fromHex, lengthPrefixed, to0x, toHex, utf8 } from '../lib/protocol/encoding.ts';
export { codeOf, DstackError, hasCode, Retryable } from '../lib/protocol/errors.ts';
export {
  type Address,
  addressKey,
  bareHex,
  chainHex,
  type Hex,
  parseAddress,
  parseHex,
  sameAddress,
  sameHex,
} from '../lib/protocol/hex.ts';
export { Address0x, Count, check, HexOf, Strict, Word0x } from '../lib/protocol/schema.ts';
export { keccak256 } from '../lib/protocol/secp256k1.ts';
