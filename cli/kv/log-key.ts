/** By which key a log is judged: a verifier key that the caller has, or the store's evidence, which the network key vouches for. */
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { originOf } from '../../lib/ledger/checkpoint.ts';
import { type NoteKey, parseVerifierKey } from '../../lib/ledger/note.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import {
  LEDGER_EVIDENCE_MAX_BYTES,
  ledgerKeyOf,
  parseLedgerEvidence,
} from '../../lib/protocol/ledger-evidence.ts';
import { type Arguments, type Option, typed, UsageError } from '../command.ts';
import { requireAddress } from '../owner/connection.ts';

export const keyOptions: Record<string, Option> = {
  vkey: { value: 'KEY', help: "the log's verifier key, NAME+HASH+KEY", env: 'DSTACK_LEDGER_VKEY' },
  evidence: { value: 'FILE', help: "instead: a node's evidence of the key, which --network-key judges" },
  'network-key': { value: 'ADDRESS', help: "the contract's networkKey" },
};

/** The key, whose name is the log's origin. @throws USAGE, VKEY_INVALID, LEDGER_* */
export function logKey(args: Arguments): NoteKey {
  const [vkey, file, networkKey] = ['vkey', 'evidence', 'network-key'].map((name) => args.optional(name));
  if ((vkey === undefined) === (file === undefined)) {
    throw new UsageError(
      'say by which key to judge: --vkey KEY (or DSTACK_LEDGER_VKEY in the environment), or --evidence FILE with --network-key ADDRESS',
    );
  }
  if (vkey !== undefined && networkKey !== undefined)
    throw new UsageError('--network-key judges --evidence: leave it out with --vkey');
  if (vkey !== undefined) return typed(() => parseVerifierKey(vkey));
  if (networkKey === undefined)
    throw new UsageError("--network-key is missing: the address that the contract's networkKey shows");
  const signer = requireAddress('network-key', networkKey);
  const evidence = parseLedgerEvidence(evidenceIn(file!));
  return {
    name: originOf(evidence, fromHex(evidence.log, 16)),
    publicKey: ledgerKeyOf(evidence, evidence, signer),
  };
}

/** @throws FILE_KIND, FILE_TOO_LARGE, and the file system's own errors */
export const evidenceIn = (file: string): string =>
  readBounded(file, { maxBytes: LEDGER_EVIDENCE_MAX_BYTES, pipes: true }).toString();
