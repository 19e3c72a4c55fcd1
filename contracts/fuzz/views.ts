/** The contract's views as the fuzz asks for them, and its calldata; both cached, since the same ones recur. */
import { DstackError } from '../../lib/protocol/errors.ts';
import * as contract from '../../lib/protocol/network-contract.ts';
import { networkInterface } from '../interface.ts';

export type Arguments = Readonly<Record<string, unknown>>;

export interface View {
  readonly name: ViewName;
  readonly args: Arguments;
  readonly data: string;
  /** What it must show, according to the model. */
  readonly expected: unknown;
}

const DECODERS = {
  network: contract.decodeNetwork,
  owner: contract.decodeOwner,
  pendingOwner: contract.decodePendingOwner,
  nextDelay: contract.decodeNextDelay,
  platformsOpenFrom: contract.decodePlatformsOpenFrom,
  tcbPolicy: contract.decodeTcbPolicy,
  nextTcbPolicy: contract.decodeNextTcbPolicy,
  deniedFmspcs: contract.decodeDeniedFmspcs,
  fmspcDenied: contract.decodeFmspcDenied,
  appsAfter: contract.decodeAppsAfter,
  appOf: contract.decodeAppOf,
  manifestOf: contract.decodeManifestOf,
  isAllowed: contract.decodeIsAllowed,
  measurementAllowedFrom: contract.decodeMeasurementAllowedFrom,
  configAllowedFrom: contract.decodeConfigAllowedFrom,
  platformAllowedFrom: contract.decodePlatformAllowedFrom,
  request: contract.decodeRequest,
  requestsByHash: contract.decodeRequestsByHash,
  verifyAttestation: contract.decodeVerifyAttestation,
  eip712Domain: contract.decodeEip712Domain,
} as const;
type ViewName = keyof typeof DECODERS;

export function view(name: ViewName, args: object, expected: unknown): View {
  return { name, args: args as Arguments, data: encoded(name, args as Arguments), expected };
}

/** Most calldata and most answers recur, and ethers is slow at both. */
const MEMORY = 20_000;
const answers = new Map<string, unknown>();
const calldata = new Map<string, string>();

function remembered<T>(memory: Map<string, T>, key: string, make: () => T): T {
  const known = memory.get(key);
  if (known !== undefined) return known;
  if (memory.size > MEMORY) memory.clear();
  const made = make();
  memory.set(key, made);
  return made;
}

export function decoded(name: ViewName, answer: string): unknown {
  return remembered(answers, `${name} ${answer}`, () => DECODERS[name](answer));
}

/** Calldata by the names of the arguments; those that the function does not take are left out. */
export function encoded(name: string, args: Arguments): string {
  return remembered(calldata, `${name} ${Object.values(args).join()}`, () => {
    const fragment = networkInterface.getFunction(name);
    if (!fragment) throw new DstackError('FUZZ_CALL', `the contract has no ${name}`);
    const values = fragment.inputs.map((input) => args[input.name]);
    return networkInterface.encodeFunctionData(fragment, values);
  });
}
