/**
 * Intel's rules: is this quote what it claims, and what is the security status of the platform under it? No opinion of
 * ours is in here (see policy.ts). `applyIntelRules` is the table of contents, in the order in which the checks are made.
 *
 * Source: Intel SGX DCAP Quote Verification Library, section 4.1.2.4. docs/attestation.md maps every step.
 */
import { bytesEqual, sha256, toHex } from '../protocol/encoding.ts';
import type { Certificate } from './certificates/certificate.ts';
import {
  type PckChain,
  readCrlIssuer,
  readPckChain,
  readTcbSigner,
  requireNotRevoked,
  requireValidAt,
} from './certificates/chains.ts';
import { type RevocationList, readCrl, requireCurrentCrl } from './certificates/crl.ts';
import { P256Key } from './certificates/p256.ts';
import type { SgxExtension } from './certificates/sgx-extension.ts';
import type { TrustRoot } from './certificates/trust-roots.ts';
import type { Collateral } from './collateral/collateral.ts';
import { matchQeIdentity, parseQeIdentity, type QeIdentity } from './collateral/qe-identity.ts';
import { requireCurrent } from './collateral/signed-json.ts';
import { type ComponentLevel, parseTcbInfo, type TcbInfo } from './collateral/tcb-info.ts';
import { AttestationError, type CrlName, type DocumentName } from './errors.ts';
import {
  type BoundedMap,
  noMemory,
  type ReadCollateral,
  type Signed,
  type VerifierMemory,
} from './memory.ts';
import { CERTIFICATION_PCK_CHAIN, type Quote } from './quote/quote.ts';
import { judgeTcb, requireTcbInfoOf, type TcbResult } from './tcb/tcb.ts';
import type { Trace } from './trace.ts';

export interface IntelInputs {
  readonly trustRoot: TrustRoot;
  /** Without it, evidence is refused. */
  readonly collateral?: Collateral | undefined;
  /** The instant to judge at. */
  readonly now: Date;
  /** How far `now` may be off, in milliseconds: certificates and collateral are judged within it. 0 when left out. */
  readonly skewMs?: number;
  /** What was checked before, for the same trust root. */
  readonly memory?: VerifierMemory | undefined;
}

/** What Intel's rules say of a quote that they do not refuse. */
export interface Appraisal {
  readonly quote: Quote;
  readonly sgx: SgxExtension;
  readonly tcb: TcbResult;
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
}

/**
 * @throws AttestationError whose code names the first check that failed; `trace` holds those that passed
 */
export function applyIntelRules(quote: Quote, inputs: IntelInputs, trace: Trace): Appraisal {
  const context = contextOf(inputs);
  const chain = verifyPckChain(quote, context);
  const { sgx } = chain;
  trace.passed('pck-chain', `serial ${toHex(chain.leaf.serial)}, to the ${context.trustRoot.name} root`);
  trace.passed('sgx-extension', `FMSPC ${toHex(sgx.fmspc)}, PCEID ${toHex(sgx.pceId)}, PCESVN ${sgx.pceSvn}`);

  const collateral = requireCollateral(inputs);
  const rootCrl = verifyCrl(collateral.root_ca_crl, 'ROOT_CRL', chain.root, context);
  trace.passed('root-crl', `${rootCrl.revoked.size} revoked`);
  const pckCrl = verifyPckCrl(collateral, chain, rootCrl, context);
  trace.passed('pck-crl', `${pckCrl.revoked.size} revoked`);
  requireUnrevokedChain(chain, rootCrl, pckCrl);
  trace.passed('revocation', 'PCK certificate, intermediate and root are on no list');

  const qeSigner = verifyTcbSigner(collateral.qe_identity_issuer_chain, 'QE_CHAIN', rootCrl, context);
  const tcbSigner = verifyTcbSigner(collateral.tcb_info_issuer_chain, 'TCB_CHAIN', rootCrl, context);
  trace.passed('collateral-signers', `serials ${toHex(qeSigner.serial)}, ${toHex(tcbSigner.serial)}`);

  const attestationKey = verifyAttestationKey(quote, chain.leaf, context);
  trace.passed('qe-report', 'signed by the PCK; binds the attestation key and the authentication data');
  const qeIdentity = verifyQeIdentity(collateral, qeSigner, context);
  trace.passed('qe-identity', `${qeIdentity.id}, evaluation ${qeIdentity.tcbEvaluationDataNumber}`);
  const qe = requireQeOf(quote, qeIdentity);
  trace.passed('qe-tcb', `ISVSVN ${quote.qeReport.isvSvn}: ${qe.status}`);

  requireQuoteSignature(quote, attestationKey);
  trace.passed('quote-signature', 'header and body are signed by the attestation key');

  const tcbInfo = verifyTcbInfo(collateral, tcbSigner, context);
  requireTcbInfoOf(quote, sgx, tcbInfo);
  trace.passed('tcb-info', `${tcbInfo.id}, evaluation ${tcbInfo.tcbEvaluationDataNumber}`);
  const tcb = judgeTcb(quote, sgx, tcbInfo, qe);
  trace.status = tcb.status;
  trace.advisories = tcb.advisories;
  trace.passed('tcb', describeTcb(tcb));
  return { quote, sgx, tcb, tcbInfo, qeIdentity };
}

/**
 * The part that needs no collateral: every signature between the quote and the root.
 * @returns what the PCK certificate says of the platform
 * @throws AttestationError
 */
export function verifySignatures(
  quote: Quote,
  inputs: Omit<IntelInputs, 'collateral'>,
  trace: Trace,
): SgxExtension {
  const context = contextOf(inputs);
  const chain = verifyPckChain(quote, context);
  trace.passed('pck-chain', `serial ${toHex(chain.leaf.serial)}, to the ${context.trustRoot.name} root`);
  requireQuoteSignature(quote, verifyAttestationKey(quote, chain.leaf, context));
  trace.passed('quote-signature', 'header and body are signed by the attestation key');
  return chain.sgx;
}

/** Collateral that holds by itself. Whether it is of some quote's platform is another question. */
export interface CheckedCollateral {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly rootCrl: RevocationList;
  readonly pckCrl: RevocationList;
  /** Issuer of PCK certificates. */
  readonly crlIssuer: Certificate;
}

/**
 * Collateral without a quote, for programs that store it or pass it on.
 * @throws AttestationError with the code that a verdict by it would have
 */
export function verifyCollateral(inputs: IntelInputs): CheckedCollateral {
  const context = contextOf(inputs);
  const collateral = requireCollateral(inputs);
  const rootCrl = verifyCrl(collateral.root_ca_crl, 'ROOT_CRL', context.trustRoot.root, context);
  const crlIssuer = verifyCrlIssuer(collateral, rootCrl, context);
  const pckCrl = verifyCrl(collateral.pck_crl, 'PCK_CRL', crlIssuer, context);
  const qeSigner = verifyTcbSigner(collateral.qe_identity_issuer_chain, 'QE_CHAIN', rootCrl, context);
  const tcbSigner = verifyTcbSigner(collateral.tcb_info_issuer_chain, 'TCB_CHAIN', rootCrl, context);
  const qeIdentity = verifyQeIdentity(collateral, qeSigner, context);
  const tcbInfo = verifyTcbInfo(collateral, tcbSigner, context);
  return { tcbInfo, qeIdentity, rootCrl, pckCrl, crlIssuer };
}

interface Context {
  readonly trustRoot: TrustRoot;
  readonly now: number;
  readonly skewMs: number;
  readonly memory: VerifierMemory;
  /** What was read of this collateral. */
  readonly read: ReadCollateral;
}

function contextOf(inputs: IntelInputs): Context {
  const { trustRoot, now, skewMs = 0, memory = noMemory(trustRoot), collateral } = inputs;
  const time = now.getTime();
  // Comparisons with an invalid date are all false, which would accept anything.
  if (!Number.isFinite(time) || !Number.isFinite(skewMs) || skewMs < 0) {
    throw new AttestationError('TIME_INVALID', 'the time to judge at is not a date');
  }
  // What was remembered under one root says nothing under another.
  if (memory.trustRoot !== trustRoot) throw new TypeError('the memory belongs to another trust root');
  return { trustRoot, now: time, skewMs, memory, read: readOf(collateral, memory) };
}

/** Only a frozen object is known by its identity. */
function readOf(collateral: Collateral | undefined, memory: VerifierMemory): ReadCollateral {
  if (collateral === undefined || !Object.isFrozen(collateral)) return {};
  const known = memory.collateral.get(collateral);
  if (known !== undefined) return known;
  const read: ReadCollateral = {};
  memory.collateral.set(collateral, read);
  return read;
}

function requireCollateral({ collateral, trustRoot }: IntelInputs): Collateral {
  if (collateral === undefined) {
    throw new AttestationError(
      'COLLATERAL_MISSING',
      `a quote under the ${trustRoot.name} root is judged with collateral only, and none was given: npx dstack quote collateral QUOTE gets it, and --collateral takes it`,
    );
  }
  return collateral;
}

function verifyPckChain(quote: Quote, { memory, trustRoot, now, skewMs }: Context): PckChain {
  const { type, data } = quote.certification;
  if (type !== CERTIFICATION_PCK_CHAIN) {
    throw new AttestationError(
      'QUOTE_CERTIFICATION_TYPE',
      `the quote names its PCK by certification data of type ${type}; a verdict needs the chain itself (type 5)`,
    );
  }
  const pem = Buffer.from(data.buffer, data.byteOffset, data.length).toString('latin1');
  const chain = remembered(memory.pckChains, pem, () => readPckChain(pem, trustRoot, memory.issued));
  for (const certificate of [chain.root, chain.intermediate, chain.leaf]) {
    requireValidAt(certificate, now, skewMs, 'PCK_CHAIN');
  }
  return chain;
}

/** The list must be of the authority that issued the PCK certificate of this quote. */
function verifyPckCrl(
  collateral: Collateral,
  { intermediate }: PckChain,
  rootCrl: RevocationList,
  context: Context,
): RevocationList {
  const issuer = verifyCrlIssuer(collateral, rootCrl, context);
  const same =
    bytesEqual(issuer.subject, intermediate.subject) &&
    bytesEqual(issuer.publicKey.point, intermediate.publicKey.point);
  if (!same) {
    throw new AttestationError(
      'PCK_CRL_ISSUER',
      `the PCK CRL is of ${issuer.commonName}, the PCK certificate of ${intermediate.commonName}`,
    );
  }
  return verifyCrl(collateral.pck_crl, 'PCK_CRL', intermediate, context);
}

function verifyCrlIssuer(
  { pck_crl_issuer_chain: pem }: Collateral,
  rootCrl: RevocationList,
  { memory, trustRoot, now, skewMs, read }: Context,
): Certificate {
  const issuer = read.crlIssuer ?? readCrlIssuer(pem, trustRoot, memory.issued);
  read.crlIssuer = issuer;
  requireValidAt(issuer, now, skewMs, 'CRL_CHAIN');
  requireNotRevoked(issuer, rootCrl, 'CRL_CHAIN_REVOKED');
  return issuer;
}

function verifyCrl(
  hex: string,
  name: CrlName,
  issuer: Certificate,
  { memory, now, skewMs, read }: Context,
): RevocationList {
  // The PCK CRL is asked for with the key of the collateral's own CRL issuer only.
  const place = name === 'ROOT_CRL' ? 'rootCrl' : 'pckCrl';
  const list = read[place] ?? readSignedCrl(hex, name, issuer, memory);
  read[place] = list;
  requireCurrentCrl(list, now, skewMs);
  return list;
}

function readSignedCrl(
  hex: string,
  name: CrlName,
  issuer: Certificate,
  memory: VerifierMemory,
): RevocationList {
  const known = memory.crls.get(hex);
  let list = known?.value;
  // A list that was read for one place is read again for another: only the pair of list and issuer was checked.
  if (list === undefined || list.name !== name || !sameKey(known?.signer, issuer.publicKey)) {
    list = readCrl(new Uint8Array(Buffer.from(hex, 'hex')), issuer, name);
    memory.crls.set(hex, { signer: issuer.publicKey, signature: '', value: list });
  }
  return list;
}

function requireUnrevokedChain(chain: PckChain, rootCrl: RevocationList, pckCrl: RevocationList): void {
  requireNotRevoked(chain.root, rootCrl, 'PCK_CHAIN_REVOKED');
  requireNotRevoked(chain.intermediate, rootCrl, 'PCK_CHAIN_REVOKED');
  requireNotRevoked(chain.leaf, pckCrl, 'PCK_REVOKED');
}

function verifyTcbSigner(
  pem: string,
  name: 'TCB_CHAIN' | 'QE_CHAIN',
  rootCrl: RevocationList,
  { memory, trustRoot, now, skewMs, read }: Context,
): Certificate {
  const place = name === 'TCB_CHAIN' ? 'tcbSigner' : 'qeSigner';
  const signer = read[place] ?? readTcbSigner(pem, trustRoot, memory.issued, name);
  read[place] = signer;
  requireValidAt(signer, now, skewMs, name);
  requireNotRevoked(signer, rootCrl, `${name}_REVOKED`);
  return signer;
}

/** PCK → QE report → attestation key. All three are the same bytes in every quote of a platform, until it is provisioned again. */
function verifyAttestationKey(quote: Quote, pck: Certificate, { memory }: Context): P256Key {
  const { qeReport, qeReportSignature, attestationKey, qeAuthenticationData } = quote;
  // The parts but the last have one length each, so this is unambiguous.
  const parts = [qeReport.raw, qeReportSignature, attestationKey, qeAuthenticationData];
  const id = memory.attestationKeys.keeps ? Buffer.concat(parts).toString('latin1') : '';
  const known = memory.attestationKeys.get(id);
  if (known !== undefined && bytesEqual(known.pck.raw, pck.raw)) return known.key;

  if (!pck.publicKey.verify(qeReport.raw, qeReportSignature, 'r-s')) {
    throw new AttestationError(
      'QE_REPORT_SIGNATURE',
      'the QE report is not signed by the PCK certificate of the quote',
    );
  }
  const expected = new Uint8Array(64);
  expected.set(sha256(attestationKey, qeAuthenticationData));
  if (!bytesEqual(qeReport.reportData, expected)) {
    throw new AttestationError(
      'QE_REPORT_BINDING',
      'the QE report does not vouch for the attestation key of the quote',
    );
  }
  // A copy: the quote's buffer is the caller's.
  const key = new P256Key(Uint8Array.from(attestationKey));
  memory.attestationKeys.set(id, { pck, key });
  return key;
}

function verifyQeIdentity(
  collateral: Collateral,
  signer: Certificate,
  { memory, now, skewMs, read }: Context,
): QeIdentity {
  const { qe_identity: text, qe_identity_signature: signature } = collateral;
  const identity =
    read.qeIdentity ??
    signedDocument(memory.qeIdentities, text, signature, signer, 'QE_IDENTITY', parseQeIdentity);
  read.qeIdentity = identity;
  requireCurrent('QE_IDENTITY', identity, now, skewMs);
  return identity;
}

function verifyTcbInfo(
  collateral: Collateral,
  signer: Certificate,
  { memory, now, skewMs, read }: Context,
): TcbInfo {
  const { tcb_info: text, tcb_info_signature: signature } = collateral;
  const info =
    read.tcbInfo ?? signedDocument(memory.tcbInfos, text, signature, signer, 'TCB_INFO', parseTcbInfo);
  read.tcbInfo = info;
  requireCurrent('TCB_INFO', info, now, skewMs);
  return info;
}

function requireQeOf(quote: Quote, identity: QeIdentity): ComponentLevel {
  const expected = quote.body.kind === 'sgx' ? 'QE' : 'TD_QE';
  if (identity.id !== expected) {
    throw new AttestationError(
      'QE_IDENTITY_ID',
      `the identity is of ${identity.id}, the quote needs ${expected}`,
    );
  }
  return matchQeIdentity(quote.qeReport, identity);
}

function requireQuoteSignature(quote: Quote, attestationKey: P256Key): void {
  if (!attestationKey.verify(quote.signedBytes, quote.signature, 'r-s')) {
    throw new AttestationError(
      'QUOTE_SIGNATURE',
      'header and body are not signed by the attestation key of the quote',
    );
  }
}

/** Signature first, over the exact bytes; only signed text is parsed. */
function signedDocument<Value>(
  store: BoundedMap<Signed<Value>>,
  text: string,
  signature: string,
  signer: Certificate,
  name: DocumentName,
  parse: (text: string) => Value,
): Value {
  const known = store.get(text);
  if (known?.signature === signature && sameKey(known.signer, signer.publicKey)) return known.value;
  if (!signer.publicKey.verify(Buffer.from(text, 'utf8'), Buffer.from(signature, 'hex'), 'r-s')) {
    throw new AttestationError(`${name}_SIGNATURE`, `${name} is not signed by ${signer.commonName}`);
  }
  const value = parse(text);
  store.set(text, { signer: signer.publicKey, signature, value });
  return value;
}

function sameKey(a: P256Key | undefined, b: P256Key): boolean {
  return a === b || (a !== undefined && bytesEqual(a.point, b.point));
}

function remembered<Value>(store: BoundedMap<Value>, key: string, read: () => Value): Value {
  const known = store.get(key);
  if (known !== undefined) return known;
  const value = read();
  store.set(key, value);
  return value;
}

function describeTcb({ status, platform, module, qe, advisories }: TcbResult): string {
  const parts = `platform ${platform.status}, module ${module?.status ?? 'without levels'}, QE ${qe.status}`;
  return advisories.length === 0 ? `${status} (${parts})` : `${status} (${parts}): ${advisories.join(', ')}`;
}
