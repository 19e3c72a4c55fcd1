/**
 * Evidence of a log's key by one who has the network's secret, with any lie in it. What is true of a lie that even the network key signed, is true
 * of all others.
 */
import { expectedJoinedLog, expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { logId, secret, signer } from '../../lib/ledger/log.fixture.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import {
  type LedgerEvidence,
  type LedgerStatement,
  reportDataOfLedger,
  signLedgerEvidence,
} from '../../lib/protocol/ledger-evidence.ts';
import { sign } from '../../lib/protocol/secp256k1.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { registersOf } from './network.ts';

/** That of the log which lib/ledger/log.fixture.ts makes. */
export const logNetwork: Domain = { chainId: 31337, contract: parseAddress(`0x${'ab'.repeat(20)}`) };

export interface LogKeyLies {
  epoch?: number;
  debug?: boolean;
  /** False: a machine on its way. */
  joined?: boolean;
  /** What the quote is over, in place of the evidence's own words. */
  reportData?: Uint8Array;
  /** The configuration that the evidence names, in place of the machine's own. */
  config?: Uint8Array;
  /** Changes the words after the quote, before the signature. */
  signed?: Partial<LedgerStatement>;
  unquoted?: boolean;
}

/** As a node would give it, but for the lies. */
export function forgeLogKey(lies: LogKeyLies = {}): LedgerEvidence {
  const { epoch = 1 } = lies;
  const key = networkKey(secret, epoch);
  const said: LedgerStatement = {
    ...logNetwork,
    networkKey: key.address,
    epoch,
    log: toHex(logId),
    publicKey: toHex(signer.publicKey),
  };
  const [config, block] = ['a network.json', 'a block'].map((text) => sha256(utf8(text))) as [
    Uint8Array,
    Uint8Array,
  ];
  const logOf = lies.joined === false ? expectedRequestLog : expectedJoinedLog;
  const quote = createSimulatedPlatform({ ppid: new Uint8Array(16).fill(4) }).signQuote({
    registers: { ...registersOf(), rtmr3: replay(logOf('sim', config)) },
    reportData: lies.reportData ?? reportDataOfLedger(said, lies.config ?? config, block),
    ...(lies.debug === undefined ? {} : { debug: lies.debug }),
  });
  const quoted = {
    config: toHex(lies.config ?? config),
    blockHash: toHex(block),
    quote: toHex(quote),
  };
  return signLedgerEvidence(
    { ...said, ...(lies.unquoted === true ? {} : { quoted }), ...lies.signed },
    (digest) => sign(digest, key.privateKey),
  );
}

/** Another value of that many bytes. */
export const otherWord = (bytes: number) => parseHex('77'.repeat(bytes));
