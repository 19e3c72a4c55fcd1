/**
 * By which key an audit judges a log, and what was made sure of that key. With `--network` the contract says whose it has to be, and a quote says
 * on which machine it is; without, both are taken from the command line, and the audit says that nobody looked.
 */
import { simulatedSource } from '../../host/collateral/simulated.ts';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import type { Step } from '../../lib/attestation/trace.ts';
import type { Fetch } from '../../lib/ledger/audit.ts';
import { type NoteKey, parseVerifierKey } from '../../lib/ledger/note.ts';
import { bytesEqual, fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import {
  LEDGER_EVIDENCE_MAX_BYTES,
  LEDGER_EVIDENCE_PATH,
  parseLedgerEvidence,
} from '../../lib/protocol/ledger-evidence.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type Arguments, type Option, typed, UsageError } from '../command.ts';
import { flavourOf, flavourOption } from '../flavour.ts';
import { givenCollateral } from '../given-collateral.ts';
import { chainOptions, connectNetwork } from '../owner/connection.ts';
import { type JudgedLogKey, judgeLogKey } from './judge-log-key.ts';
import { evidenceIn, keyOptions, logKey } from './log-key.ts';

// An environment that is set for other commands must not turn an offline audit into one that asks the chain.
const { env: _, ...networkJson } = chainOptions['network-json'] as Option;

export const auditKeyOptions: Record<string, Option> = {
  ...keyOptions,
  evidence: {
    value: 'FILE',
    help: "a node's evidence of the key, which --network or --network-key judges; with --network, default: what lies beside the log",
  },
  network: {
    value: 'ADDRESS',
    help: "asks this contract whose key it is, and judges the node's quote; else that of network.json",
  },
  ...chainOptions,
  'network-json': networkJson,
  flavour: flavourOption,
  collateral: {
    value: 'FILE|URL',
    help: 'judge the quote by this collateral.json, or by what this PCS or PCCS has',
  },
};

/** What the contract and the quote showed. */
export interface Network extends Omit<JudgedLogKey, 'key'> {
  readonly chainId: number;
  readonly contract: Address;
  /** Whose word the contract's state was. */
  readonly sources: string;
  readonly steps: readonly Step[];
  /** The evidence as it was served. */
  readonly evidence: string;
}

export interface AuditKey {
  readonly key: NoteKey;
  /** Absent where no network was asked. */
  readonly network?: Network;
  /** In sentences, what was not. */
  readonly notChecked: readonly string[];
}

const ASK = 'give --network ADDRESS and --rpc URL (or --network-json FILE)';

/**
 * @param source where the log is, and so the node's evidence of its key
 * @throws USAGE, VKEY_INVALID, LEDGER_EVIDENCE_MISSING, LEDGER_OTHER_KEY, and what `judgeLogKey`, `connectNetwork` and `givenCollateral` throw
 */
export async function auditKey(args: Arguments, source: Fetch): Promise<AuditKey> {
  const given = (...names: string[]) => names.filter((name) => args.optional(name) !== undefined);
  if (given('network', 'network-json').length > 0) return ofNetwork(args, source);
  if (given('collateral').length > 0 || args.list('rpc').length > 0)
    throw new UsageError('--rpc and --collateral are for --network: say which network too');
  if (given('vkey', 'evidence').length === 0)
    throw new UsageError(
      `say by which key to judge: ${ASK}, --vkey KEY (or DSTACK_LEDGER_VKEY in the environment), or --evidence FILE with --network-key ADDRESS`,
    );
  const key = logKey(args);
  const quote = 'the quote that binds the key to an attested machine';
  const notChecked =
    given('vkey').length > 0
      ? [`whether a network has this key, and ${quote}: ${ASK}`]
      : [`whether the contract has that network key now, and ${quote}: ${ASK}`];
  return { key, notChecked };
}

async function ofNetwork(args: Arguments, source: Fetch): Promise<AuditKey> {
  if (args.optional('network-key') !== undefined)
    throw new UsageError('--network-key is what the contract says: leave it out with --network');
  const vkey = args.optional('vkey');
  const wanted = vkey === undefined ? undefined : typed(() => parseVerifierKey(vkey));
  const flavour = flavourOf(args);
  // Before the evidence: what was typed wrong is said first, whatever lies beside the log.
  const { chainId, contract, sources, reader } = await connectNetwork(args, 'network');
  const text = await evidenceOf(args, source);
  const evidence = parseLedgerEvidence(text);
  const { quoted } = evidence;
  const collateral = quoted && (await collateralFor(args, flavour, fromHex(quoted.quote)));
  const question = { evidence, network: { chainId, contract }, reader, flavour, collateral };
  const steps: Step[] = [];
  const { key, ...judged } = await judgeLogKey(question, (step) => void steps.push(step));
  if (wanted !== undefined && (wanted.name !== key.name || !bytesEqual(wanted.publicKey, key.publicKey)))
    throw new DstackError(
      'LEDGER_OTHER_KEY',
      `--vkey is of ${wanted.name}, and the evidence of ${key.name}${wanted.name === key.name ? ', with another key' : ''}: it is not the log that you know`,
    );
  return { key, network: { chainId, contract, sources, steps, evidence: text, ...judged }, notChecked: [] };
}

/** The simulated platform's collateral is a constant, which every machine has. */
async function collateralFor(
  args: Arguments,
  flavour: Flavour,
  quote: Uint8Array,
): Promise<Collateral | undefined> {
  const given = await givenCollateral(args, quote);
  if (given !== undefined || flavour === 'production') return given;
  return simulatedSource.find(platformKindOf(parseQuote(quote)));
}

/** @throws LEDGER_EVIDENCE_MISSING */
async function evidenceOf(args: Arguments, source: Fetch): Promise<string> {
  const file = args.optional('evidence');
  if (file !== undefined) return evidenceIn(file);
  try {
    return Buffer.from(await source(LEDGER_EVIDENCE_PATH, LEDGER_EVIDENCE_MAX_BYTES)).toString();
  } catch (cause) {
    if (!hasCode(cause, 'KV_REFUSED') && !hasCode(cause, 'LOG_FILE_MISSING')) throw cause;
    throw new DstackError(
      'LEDGER_EVIDENCE_MISSING',
      `beside the log there is no ${LEDGER_EVIDENCE_PATH}, which says whose its key is (${(cause as Error).message}): give --evidence FILE; a store that is no network's has none`,
      { cause },
    );
  }
}
