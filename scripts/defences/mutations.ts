/**
 * Every defence that `npm run defences` removes, in the order of the points; then the replicator's, the image's, the audit's,
 * the owner's, the relay's, the website's, its front's, the apps', the agent's, the framework's, the signer's, the records' and the pages'; and apart from these,
 * what the contract's fuzz has to notice.
 */
import type { Mutation } from './mutation.ts';
import { agentRules } from './mutations/agent.ts';
import { appNetworkRules } from './mutations/app-network.ts';
import { appRules } from './mutations/apps.ts';
import { auditRules } from './mutations/audit.ts';
import { contractRules } from './mutations/contract.ts';
import { evidence } from './mutations/evidence.ts';
import { frameworkRules } from './mutations/framework.ts';
import { frameworkAuthorRules } from './mutations/framework-authors.ts';
import { frameworkDoorRules } from './mutations/framework-doors.ts';
import { frontRules } from './mutations/front.ts';
import { fuzzRules } from './mutations/fuzz.ts';
import { gossipRules } from './mutations/gossip.ts';
import { gossipCalldata } from './mutations/gossip-calldata.ts';
import { gossipPeers } from './mutations/gossip-peers.ts';
import { gossipRecords } from './mutations/gossip-records.ts';
import { imageRules } from './mutations/image.ts';
import { keysAndStrings } from './mutations/keys-and-strings.ts';
import { machineRules } from './mutations/machine.ts';
import { onboarding } from './mutations/onboarding.ts';
import { ownerRules } from './mutations/owner.ts';
import { pageRules } from './mutations/pages.ts';
import { recordNodeRules } from './mutations/record-nodes.ts';
import { recordServiceRules } from './mutations/record-service.ts';
import { recordWireRules } from './mutations/record-wire.ts';
import { recordRules } from './mutations/records.ts';
import { relayRules } from './mutations/relay.ts';
import { relayFiles } from './mutations/relay-files.ts';
import { appListRules, relayGrowthRules } from './mutations/relay-growth.ts';
import { replicatorRules } from './mutations/replicator.ts';
import { secretRules } from './mutations/secrets.ts';
import { signerRules } from './mutations/signer.ts';
import { siteRules } from './mutations/site.ts';
import { sitesRules } from './mutations/sites.ts';
import { storeBounds } from './mutations/store-bounds.ts';
import { storeClients } from './mutations/store-clients.ts';
import { storeDoor } from './mutations/store-door.ts';
import { storeLedger } from './mutations/store-ledger.ts';
import { storeNamespaces } from './mutations/store-namespaces.ts';

const ofPoints: readonly Mutation[] = [
  ...keysAndStrings,
  ...onboarding,
  ...contractRules,
  ...machineRules,
  ...evidence,
  ...gossipRules,
  ...gossipPeers,
  ...gossipCalldata,
  ...gossipRecords,
  ...relayFiles,
].sort((a, b) => Number(a.point) - Number(b.point));

/** Those that a test sees: the rows of docs/defences.md. */
export const mutations: readonly Mutation[] = [
  ...ofPoints,
  ...replicatorRules,
  ...imageRules,
  ...appNetworkRules,
  ...auditRules,
  ...ownerRules,
  ...relayRules,
  ...relayGrowthRules,
  ...siteRules,
  ...frontRules,
  ...sitesRules,
  ...appRules,
  ...appListRules,
  ...secretRules,
  ...agentRules,
  ...frameworkRules,
  ...frameworkAuthorRules,
  ...frameworkDoorRules,
  ...storeNamespaces,
  ...storeLedger,
  ...storeDoor,
  ...storeBounds,
  ...storeClients,
  ...signerRules,
  ...recordRules,
  ...recordNodeRules,
  ...recordServiceRules,
  ...recordWireRules,
  ...pageRules,
];

export const allMutations: readonly Mutation[] = [...mutations, ...fuzzRules];
