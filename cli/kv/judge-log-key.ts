/**
 * What a node's evidence of its log's key is held against, in the order in which it is refused: the contract, read at one block, for whose
 * network key has to have signed it; Intel's rules and the contract's policy for the quote; and the quote's own words, which name the log and
 * the key. docs/ledger.md says what that proves.
 */
import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import type { Collateral } from '../../lib/attestation/collateral/collateral.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import type { TcbStatus } from '../../lib/attestation/tcb/tcb-status.ts';
import type { Step } from '../../lib/attestation/trace.ts';
import { verifyAsking } from '../../lib/attestation/verify.ts';
import { contractAsRelyingParty } from '../../lib/chain/network-policy.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { originOf } from '../../lib/ledger/checkpoint.ts';
import type { NoteKey } from '../../lib/ledger/note.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { type LedgerEvidence, ledgerKeyOf, reportDataOfLedger } from '../../lib/protocol/ledger-evidence.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { ownClock } from '../own-clock.ts';

export interface LogKeyQuestion {
  readonly evidence: LedgerEvidence;
  readonly network: Domain;
  readonly reader: NetworkReader;
  /** Whose trust root to judge by; the asker says it, the evidence does not. */
  readonly flavour: Flavour;
  readonly collateral: Collateral | undefined;
}

/** The log's key, and of which machine it is. Binary fields are hex. */
export interface JudgedLogKey {
  /** Its name is the log's origin. */
  readonly key: NoteKey;
  readonly networkKey: Address;
  readonly epoch: number;
  readonly measurement: string;
  readonly config: string;
  readonly platform: string;
  readonly status: TcbStatus | null;
}

/**
 * Returns only when every check passed.
 * @param onStep told of each step that passed
 * @throws DstackError LEDGER_OTHER_NETWORK, LEDGER_EPOCH, LEDGER_KEY_UNSIGNED, LEDGER_UNQUOTED, MEASUREMENT_NOT_ALLOWED,
 *   CONFIG_NOT_ALLOWED, PLATFORM_NOT_ALLOWED, CLOCK_DISAGREES, CHAIN_*, or the quote verifier's codes
 */
export async function judgeLogKey(
  { evidence, network, reader, flavour, collateral }: LogKeyQuestion,
  onStep: (step: Step) => void = () => {},
): Promise<JudgedLogKey> {
  const head = await reader.chain.head();
  const { epoch, networkKey } = await reader.network(head);
  requireEpoch(evidence, epoch);
  const publicKey = ledgerKeyOf(evidence, network, networkKey);
  const signed = `by network key ${networkKey}, the contract's in epoch ${epoch}`;
  onStep({ name: 'signature', outcome: 'passed', detail: signed });

  const { quoted } = evidence;
  if (quoted === undefined)
    throw new DstackError(
      'LEDGER_UNQUOTED',
      "the evidence has no quote: nothing says on which machine the log's key is",
    );
  const config = fromHex(quoted.config, 32);
  const expected = {
    trustRoot: trustRootOf(flavour),
    now: new Date(ownClock(head.timestamp) * 1000),
    collateral,
    // Of a node that has joined: whoever is on its way has no log yet.
    rtmr3: replay(expectedJoinedLog(flavour, config)),
    reportData: reportDataOfLedger(evidence, config, fromHex(quoted.blockHash, 32)),
  };
  const relyingParty = contractAsRelyingParty(reader, config, head);
  const { evidence: found, tcb } = await verifyAsking(fromHex(quoted.quote), expected, relyingParty, onStep);
  return {
    key: { name: originOf(network, fromHex(evidence.log, 16)), publicKey },
    networkKey,
    epoch,
    measurement: toHex(found.measurement),
    config: quoted.config,
    platform: toHex(found.platform),
    status: tcb?.status ?? null,
  };
}

/** Each epoch has a network key of its own, and a node starts again when one begins. @throws LEDGER_EPOCH */
function requireEpoch(evidence: LedgerEvidence, epoch: number): void {
  if (evidence.epoch === epoch) return;
  throw new DstackError(
    'LEDGER_EPOCH',
    `the evidence is of epoch ${evidence.epoch}, the contract is in epoch ${epoch}: get the node's evidence of now (/ledger/evidence.json)`,
  );
}
