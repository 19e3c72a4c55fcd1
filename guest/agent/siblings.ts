/** The node's other daemons, as the agent asks them: always for one app, which the agent has identified. */
import type { TSchema } from 'typebox';
import { remembered } from '../../lib/daemon/remembered.ts';
import type { SigningAlgorithm } from '../../lib/protocol/app-keys.ts';
import type { AppKeyType } from '../../lib/protocol/keys.ts';
import {
  AppAuthorityReply,
  AppCertificateReply,
  type AppCertificateRequest,
  AppKeyReply,
  AppQuoteReply,
  AppSignatureReply,
  AttestReply,
  ChainCallReply,
  type ChainCallRequest,
  ChainHeadReply,
  ContainersReply,
  DiskStatusReply,
  InfoReply,
  JoinedReply,
  MachineReply,
  ManifestReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import { siblingCalls } from '../sibling-calls.ts';

export interface Siblings {
  containers(): Promise<ContainersReply>;
  manifest(manifestHash: string): Promise<ManifestReply>;
  appKey(app: string, tag: string, type?: AppKeyType, purpose?: string): Promise<AppKeyReply>;
  sign(
    app: string,
    asked: { tag: string; purpose: string; algorithm: SigningAlgorithm; data: string },
  ): Promise<AppSignatureReply>;
  attest(app: string, tag: string, data: string): Promise<AttestReply>;
  quote(app: string, manifestHash: string, data: string): Promise<AppQuoteReply>;
  rawQuote(app: string, reportData: string): Promise<AppQuoteReply>;
  certificate(asked: AppCertificateRequest): Promise<AppCertificateReply>;
  authority(app: string): Promise<AppAuthorityReply>;
  chainHead(): Promise<ChainHeadReply>;
  chainCall(asked: ChainCallRequest): Promise<ChainCallReply>;
  info(): Promise<InfoReply>;
  machine(): Promise<MachineReply>;
  status(): Promise<JoinedReply>;
  disk(): Promise<DiskStatusReply>;
}

/** A sibling that is still starting is waited for, but not for so long that an app's own time-out would hide the reason. Milliseconds. */
const CONNECT_WITHIN = 10_000;
/** On TDX a quote takes seconds, and others' may be before it. */
const QUOTE_WITHIN = 90_000;
/** Manifests that are remembered, up to 64 KiB each. */
const MANIFESTS = 64;

/** @param root prefix of every path */
export function siblingsAt(root: string): Siblings {
  const call = siblingCalls(root, CONNECT_WITHIN);
  const replicator = <T extends TSchema>(route: string, reply: T, body?: unknown, timeout?: number) =>
    call(sockets.replicatorForAgent, route, reply, body, timeout);
  // A node that has joined is the same until it ends.
  const machine = remembered(1, (route: string) => replicator(route, MachineReply, undefined, QUOTE_WITHIN));
  return {
    containers: () => call(sockets.kubernethesForAgent, '/v1/containers', ContainersReply),
    // To make it kubernethes looks at all of it again.
    manifest: remembered(MANIFESTS, (manifestHash: string) =>
      call(sockets.kubernethesForAgent, '/v1/manifest', ManifestReply, { manifestHash }),
    ),
    appKey: (app, tag, type, purpose) => replicator('/v1/app-key', AppKeyReply, { app, tag, type, purpose }),
    sign: (app, asked) => replicator('/v1/app-signature', AppSignatureReply, { app, ...asked }),
    attest: (app, tag, data) => replicator('/v1/attest', AttestReply, { app, tag, data }),
    quote: (app, manifestHash, data) =>
      replicator('/v1/app-quote', AppQuoteReply, { app, manifestHash, data }, QUOTE_WITHIN),
    rawQuote: (app, reportData) =>
      replicator('/v1/raw-quote', AppQuoteReply, { app, reportData }, QUOTE_WITHIN),
    certificate: (asked) => replicator('/v1/app-certificate', AppCertificateReply, asked, QUOTE_WITHIN),
    authority: (app) => replicator('/v1/app-authority', AppAuthorityReply, { app }),
    chainHead: () => replicator('/v1/chain-head', ChainHeadReply),
    chainCall: (asked) => replicator('/v1/chain-call', ChainCallReply, asked),
    info: () => replicator('/v1/info', InfoReply),
    machine: () => machine('/v1/machine'),
    status: () => replicator('/v1/status', JoinedReply),
    disk: () => call(sockets.diskStatus, '/v1/status', DiskStatusReply),
  };
}
