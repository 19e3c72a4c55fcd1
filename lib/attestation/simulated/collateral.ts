/**
 * Collateral of the simulated platform, in Intel's formats: TCB info, QE identity, both CRLs, and the certificates that
 * sign them. Like everything simulated it is a function of published constants. `simulatedCollateral()` gives what
 * simulated-published.ts holds; with arguments it gives collateral that differs, validly signed: to test verifiers.
 *
 * Host and tests only: it signs, and a guest needs no more of it than simulated-published.ts.
 */
import { toHex, utf8 } from '../../protocol/encoding.ts';
import { encodePem } from '../bytes/pem.ts';
import type { Collateral } from '../collateral/collateral.ts';
import {
  type CrlIssue,
  issue,
  issueCrl,
  SIMULATED_PLATFORM_CA,
  type SimulatedKey,
  serialOf,
  signerExtensions,
  simulatedAuthorities,
  simulatedKey,
} from './certificates.ts';
import { SIMULATED_FMSPC, SIMULATED_QE_SIGNER, simulatedPckKey } from './platform.ts';
import { SIMULATED_ROLES } from './roles.ts';

const ISSUED = '2020-01-01T00:00:00Z';
const NEXT = '2049-12-31T23:59:59Z';

/** The platform with this PPID is revoked in the published collateral, so that everyone can meet one that is. */
export const REVOKED_PPID = new Uint8Array(16).fill(0xff);

/** The key and certificate that sign TCB info and QE identity. */
export function simulatedTcbSigner() {
  const key = simulatedKey(utf8('tcb-signer'));
  const certificate = issue({
    subject: SIMULATED_ROLES.tcbSigner,
    publicKey: key.publicKey,
    issuer: SIMULATED_ROLES.root,
    issuerKey: simulatedAuthorities().rootKey,
    extensions: signerExtensions(),
  });
  return { key, certificate };
}

/** Sixteen components with these SVNs first, then zeros. */
export function components(...svns: number[]): { svn: number }[] {
  return Array.from({ length: 16 }, (_, index) => ({ svn: svns[index] ?? 0 }));
}

/** TCB info of the simulated platform: the usual level is up to date, anything lower is out of date. */
export function simulatedTcbInfo() {
  const signer = {
    mrsigner: '00'.repeat(48),
    attributes: '0000000000000000',
    attributesMask: 'FFFFFFFFFFFFFFFF',
  };
  return {
    id: 'TDX',
    version: 3,
    issueDate: ISSUED,
    nextUpdate: NEXT,
    fmspc: toHex(SIMULATED_FMSPC),
    pceId: '0000',
    tcbType: 0,
    tcbEvaluationDataNumber: 1,
    tdxModule: signer,
    tdxModuleIdentities: [
      {
        id: 'TDX_01',
        ...signer,
        tcbLevels: [
          { tcb: { isvsvn: 1 }, tcbDate: ISSUED, tcbStatus: 'UpToDate' },
          { tcb: { isvsvn: 0 }, tcbDate: '2019-01-01T00:00:00Z', tcbStatus: 'OutOfDate' },
        ],
      },
    ],
    tcbLevels: [
      {
        tcb: {
          sgxtcbcomponents: components(...Array.from({ length: 16 }, () => 1)),
          pcesvn: 1,
          tdxtcbcomponents: components(1, 0, 1),
        },
        tcbDate: ISSUED,
        tcbStatus: 'UpToDate',
      },
      {
        tcb: { sgxtcbcomponents: components(), pcesvn: 0, tdxtcbcomponents: components() },
        tcbDate: '2019-01-01T00:00:00Z',
        tcbStatus: 'OutOfDate',
        advisoryIDs: ['DSTACK-SIM-00001'],
      },
    ],
  };
}

/** QE identity of the simulated quoting enclave. */
export function simulatedQeIdentity() {
  return {
    id: 'TD_QE',
    version: 2,
    issueDate: ISSUED,
    nextUpdate: NEXT,
    tcbEvaluationDataNumber: 1,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: `01${'00'.repeat(15)}`,
    attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: toHex(SIMULATED_QE_SIGNER).toUpperCase(),
    isvprodid: 2,
    tcbLevels: [{ tcb: { isvsvn: 1 }, tcbDate: ISSUED, tcbStatus: 'UpToDate' }],
  };
}

/** How collateral differs from the published. A text is signed as it is, anything else as JSON. */
export interface CollateralChanges {
  readonly tcbInfo?: unknown;
  readonly qeIdentity?: unknown;
  readonly rootCrl?: Partial<CrlIssue>;
  readonly pckCrl?: Partial<CrlIssue>;
  /** Who signs the two documents. */
  readonly signerKey?: SimulatedKey;
  /** Certificates, DER, in place of the usual ones. */
  readonly tcbChain?: readonly Uint8Array[];
  readonly qeChain?: readonly Uint8Array[];
  readonly crlChain?: readonly Uint8Array[];
}

export function simulatedCollateral(changes: CollateralChanges = {}): Collateral {
  const { root, rootKey, intermediate, intermediateKey } = simulatedAuthorities();
  const { key, certificate } = simulatedTcbSigner();
  const { signerKey = key, tcbInfo = simulatedTcbInfo(), qeIdentity = simulatedQeIdentity() } = changes;
  const {
    tcbChain = [certificate, root],
    qeChain = [certificate, root],
    crlChain = [intermediate, root],
  } = changes;
  const text = (document: unknown) => (typeof document === 'string' ? document : JSON.stringify(document));
  const pem = (chain: readonly Uint8Array[]) => chain.map(encodePem).join('');
  const sign = (document: unknown) => toHex(signerKey.sign(utf8(text(document)), 'r-s'));
  const rootCrl = { issuer: SIMULATED_ROLES.root, issuerKey: rootKey, ...changes.rootCrl };
  const pckCrl = {
    issuer: SIMULATED_PLATFORM_CA,
    issuerKey: intermediateKey,
    revoked: [serialOf(SIMULATED_ROLES.leaf, simulatedPckKey(REVOKED_PPID).publicKey)],
    ...changes.pckCrl,
  };
  return {
    pck_crl_issuer_chain: pem(crlChain),
    root_ca_crl: toHex(issueCrl(rootCrl)),
    pck_crl: toHex(issueCrl(pckCrl)),
    tcb_info_issuer_chain: pem(tcbChain),
    tcb_info: text(tcbInfo),
    tcb_info_signature: sign(tcbInfo),
    qe_identity_issuer_chain: pem(qeChain),
    qe_identity: text(qeIdentity),
    qe_identity_signature: sign(qeIdentity),
  };
}
