/**
 * Hostile evidence, one case each, validly signed wherever a signature alone would give it away. The simulated platform
 * stands for Intel: same code, same checks.
 */
import { expect, test } from 'vitest';
import { fromHex, toHex, utf8 } from '../protocol/encoding.ts';
import { derInteger, derSequence } from './bytes/der-writer.ts';
import { parseCertificate } from './certificates/certificate.ts';
import { SIMULATED_ROOT } from './certificates/trust-roots.ts';
import { type Collateral, collateralOf, parseCollateral } from './collateral/collateral.ts';
import { judgeQuote } from './judge.ts';
import type { Policy } from './policy.ts';
import { parsePolicy } from './policy.ts';
import {
  authorityExtensions,
  extension,
  issue,
  pckExtensions,
  serialOf,
  signerExtensions,
  simulatedAuthorities,
  simulatedKey,
} from './simulated/certificates.ts';
import {
  type CollateralChanges,
  components,
  REVOKED_PPID,
  simulatedCollateral,
  simulatedQeIdentity,
  simulatedTcbInfo,
  simulatedTcbSigner,
} from './simulated/collateral.ts';
import {
  createSimulatedPlatform,
  type SimulatedPlatformOptions,
  type SimulatedQuoteRequest,
  sgxExtensionOf,
  simulatedPckKey,
} from './simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from './simulated/published.ts';
import { SIMULATED_ROLES } from './simulated/roles.ts';
import { codeOfRefusal, flipped, otherS, simulatedCase, TEST_NOW, TEST_PPID } from './testing.ts';

interface Case {
  platform?: Partial<SimulatedPlatformOptions>;
  quote?: Partial<SimulatedQuoteRequest>;
  collateral?: CollateralChanges;
  policy?: Policy;
  now?: Date;
}

function judge({ platform, quote, collateral, policy, now = TEST_NOW }: Case) {
  const { registers, reportData } = simulatedCase();
  const bytes = createSimulatedPlatform({ ppid: TEST_PPID, ...platform }).signQuote({
    registers,
    reportData,
    ...quote,
  });
  const inputs = {
    trustRoot: SIMULATED_ROOT,
    now,
    collateral: collateralOf(simulatedCollateral(collateral)),
  };
  return judgeQuote(bytes, inputs, policy);
}

/** The code; ACCEPTED and the status when there is none. */
function outcome(tried: Case): string {
  const { code, status } = judge(tried);
  return code ?? `ACCEPTED ${status}`;
}

const { root, rootKey, intermediate, intermediateKey } = simulatedAuthorities();
const stranger = simulatedKey(utf8('stranger'));
const signer = simulatedTcbSigner();
const pckKey = simulatedPckKey(TEST_PPID);
const platformCa = SIMULATED_ROLES.intermediates[0];
const info = simulatedTcbInfo();
const identity = simulatedQeIdentity();

const certificate = (subject: string, publicKey: Uint8Array, extensions: readonly Uint8Array[]) => ({
  subject,
  publicKey,
  issuer: SIMULATED_ROLES.root as string,
  issuerKey: rootKey,
  extensions,
});
const signerIssue = certificate(SIMULATED_ROLES.tcbSigner, signer.key.publicKey, signerExtensions());
const leaf = issue({
  ...certificate(SIMULATED_ROLES.leaf, pckKey.publicKey, pckExtensions(sgxExtensionOf(TEST_PPID))),
  issuer: platformCa,
  issuerKey: intermediateKey,
});
const svns = (...values: number[]) => Uint8Array.from({ length: 16 }, (_, index) => values[index] ?? 0);

test('the published collateral is what the generator makes, and accepts the usual platform', () => {
  expect(PUBLISHED_SIMULATED_COLLATERAL).toEqual(simulatedCollateral());
  expect(outcome({})).toBe('ACCEPTED UpToDate');
  const { registers, reportData, platform } = simulatedCase();
  const quote = platform.signQuote({ registers, reportData });
  // No root brings collateral with it.
  expect(judgeQuote(quote, { trustRoot: SIMULATED_ROOT, now: TEST_NOW }).code).toBe('COLLATERAL_MISSING');
});

const REVOCATION: [string, string, Case][] = [
  ['a revoked PCK', 'PCK_REVOKED', { platform: { ppid: REVOKED_PPID } }],
  [
    'a revoked intermediate',
    'CRL_CHAIN_REVOKED',
    { collateral: { rootCrl: { revoked: [parseCertificate(intermediate).serial] } } },
  ],
  [
    'a revoked TCB signer',
    'QE_CHAIN_REVOKED',
    { collateral: { rootCrl: { revoked: [serialOf(SIMULATED_ROLES.tcbSigner, signer.key.publicKey)] } } },
  ],
  [
    'a revoked root',
    'PCK_CHAIN_REVOKED',
    { collateral: { rootCrl: { revoked: [parseCertificate(root).serial] } } },
  ],
  [
    "a root CRL of a stranger's key",
    'ROOT_CRL_SIGNATURE',
    { collateral: { rootCrl: { issuerKey: stranger } } },
  ],
  [
    'a root CRL of the intermediate',
    'ROOT_CRL_ISSUER',
    { collateral: { rootCrl: { issuer: platformCa, issuerKey: intermediateKey } } },
  ],
  [
    'a PCK CRL of the root',
    'PCK_CRL_ISSUER',
    { collateral: { pckCrl: { issuer: SIMULATED_ROLES.root, issuerKey: rootKey, revoked: [] } } },
  ],
  ['a PCK CRL signed by the root', 'PCK_CRL_SIGNATURE', { collateral: { pckCrl: { issuerKey: rootKey } } }],
  [
    'an expired root CRL',
    'ROOT_CRL_EXPIRED',
    { collateral: { rootCrl: { validity: ['200101000000Z', '251231235959Z'] } } },
  ],
  [
    'an expired PCK CRL',
    'PCK_CRL_EXPIRED',
    { collateral: { pckCrl: { validity: ['200101000000Z', '251231235959Z'] } } },
  ],
  [
    'a root CRL of the future',
    'ROOT_CRL_NOT_YET',
    { collateral: { rootCrl: { validity: ['260101000001Z', '491231235959Z'] } } },
  ],
  [
    'a PCK CRL of the future',
    'PCK_CRL_NOT_YET',
    { collateral: { pckCrl: { validity: ['260101000001Z', '491231235959Z'] } } },
  ],
  [
    'a delta CRL',
    'PCK_CRL_FORMAT',
    {
      collateral: {
        pckCrl: {
          extensions: [
            extension('2.5.29.20', false, derInteger(Buffer.from([1]))),
            extension('2.5.29.27', true, derInteger(Buffer.from([1]))),
          ],
        },
      },
    },
  ],
  [
    'a CRL of limited scope',
    'ROOT_CRL_FORMAT',
    {
      collateral: {
        rootCrl: {
          extensions: [
            extension('2.5.29.20', false, derInteger(Buffer.from([1]))),
            extension('2.5.29.28', true, derSequence()),
          ],
        },
      },
    },
  ],
  ['a CRL without a number', 'PCK_CRL_FORMAT', { collateral: { pckCrl: { extensions: [] } } }],
];

const ROLES: [string, string, Case][] = [
  [
    'TCB info signed by a PCK',
    'TCB_CHAIN_FORMAT',
    {
      collateral: {
        signerKey: pckKey,
        qeChain: [signer.certificate, root],
        tcbChain: [leaf, intermediate, root],
      },
    },
  ],
  [
    'a PCK leaf as TCB signer',
    'QE_CHAIN_ROLE',
    { collateral: { signerKey: pckKey, tcbChain: [leaf, root], qeChain: [leaf, root] } },
  ],
  [
    'a TCB signer that is named so but is a PCK',
    'TCB_CHAIN_ROLE',
    {
      collateral: {
        tcbChain: [issue({ ...signerIssue, extensions: pckExtensions(sgxExtensionOf(TEST_PPID)) }), root],
      },
    },
  ],
  [
    'a TCB signer that is an authority',
    'TCB_CHAIN_ROLE',
    { collateral: { tcbChain: [issue({ ...signerIssue, extensions: authorityExtensions(0) }), root] } },
  ],
  [
    'a TCB signer under the intermediate',
    'TCB_CHAIN_ISSUER',
    {
      collateral: {
        tcbChain: [issue({ ...signerIssue, issuer: platformCa, issuerKey: intermediateKey }), root],
      },
    },
  ],
  [
    'a TCB signer of a stranger',
    'TCB_CHAIN_SIGNATURE',
    { collateral: { tcbChain: [issue({ ...signerIssue, issuerKey: stranger }), root] } },
  ],
  [
    'a QE identity signer of a stranger',
    'QE_CHAIN_SIGNATURE',
    { collateral: { qeChain: [issue({ ...signerIssue, issuerKey: stranger }), root] } },
  ],
  [
    'an expired TCB signer',
    'TCB_CHAIN_VALIDITY',
    {
      collateral: {
        tcbChain: [issue({ ...signerIssue, validity: ['200101000000Z', '251231235959Z'] }), root],
      },
    },
  ],
  [
    'a TCB chain to another root',
    'TCB_CHAIN_ROOT',
    { collateral: { tcbChain: [signer.certificate, signer.certificate] } },
  ],
  ['a TCB chain of one', 'TCB_CHAIN_FORMAT', { collateral: { tcbChain: [root] } }],
  [
    'a TCB signer as PCK CRL issuer',
    'CRL_CHAIN_ROLE',
    { collateral: { crlChain: [signer.certificate, root] } },
  ],
  [
    'a CRL issuer of a stranger',
    'CRL_CHAIN_SIGNATURE',
    {
      collateral: {
        crlChain: [
          issue({
            ...certificate(platformCa, stranger.publicKey, authorityExtensions(0)),
            issuerKey: stranger,
          }),
          root,
        ],
      },
    },
  ],
  [
    'a CRL issuer that did not issue the PCK',
    'PCK_CRL_ISSUER',
    {
      collateral: {
        crlChain: [issue(certificate(platformCa, stranger.publicKey, authorityExtensions(0))), root],
        pckCrl: { issuerKey: stranger, revoked: [] },
      },
    },
  ],
  [
    'a TCB signer as PCK',
    'PCK_CHAIN_ROLE',
    { platform: { chain: [signer.certificate, intermediate, root] } },
  ],
  [
    'a PCK under the root',
    'PCK_CHAIN_ROLE',
    {
      platform: {
        chain: [
          issue(
            certificate(SIMULATED_ROLES.leaf, pckKey.publicKey, pckExtensions(sgxExtensionOf(TEST_PPID))),
          ),
          signer.certificate,
          root,
        ],
      },
    },
  ],
  ['documents signed by a stranger', 'QE_IDENTITY_SIGNATURE', { collateral: { signerKey: stranger } }],
];

const DOCUMENTS: [string, string, Case][] = [
  ['TCB info of version 2', 'TCB_INFO_VERSION', { collateral: { tcbInfo: { ...info, version: 2 } } }],
  ['TCB info of SGX', 'TCB_INFO_ID', { collateral: { tcbInfo: { ...info, id: 'SGX' } } }],
  ['TCB info of something else', 'TCB_INFO_ID', { collateral: { tcbInfo: { ...info, id: 'TDX2' } } }],
  ['a TCB type that nobody knows', 'TCB_INFO_TYPE', { collateral: { tcbInfo: { ...info, tcbType: 1 } } }],
  ['another FMSPC', 'TCB_INFO_FMSPC', { collateral: { tcbInfo: { ...info, fmspc: '53494d000001' } } }],
  ['another PCEID', 'TCB_INFO_PCEID', { collateral: { tcbInfo: { ...info, pceId: '0001' } } }],
  [
    'expired TCB info',
    'TCB_INFO_EXPIRED',
    { collateral: { tcbInfo: { ...info, nextUpdate: '2025-12-31T23:59:59Z' } } },
  ],
  [
    'TCB info of the future',
    'TCB_INFO_NOT_YET',
    { collateral: { tcbInfo: { ...info, issueDate: '2026-01-01T00:00:01Z' } } },
  ],
  [
    'an expired QE identity',
    'QE_IDENTITY_EXPIRED',
    { collateral: { qeIdentity: { ...identity, nextUpdate: '2025-12-31T23:59:59Z' } } },
  ],
  [
    'a QE identity of the future',
    'QE_IDENTITY_NOT_YET',
    { collateral: { qeIdentity: { ...identity, issueDate: '2026-01-01T00:00:01Z' } } },
  ],
  [
    'a QE identity of version 1',
    'QE_IDENTITY_VERSION',
    { collateral: { qeIdentity: { ...identity, version: 1 } } },
  ],
  ['the identity of the SGX QE', 'QE_IDENTITY_ID', { collateral: { qeIdentity: { ...identity, id: 'QE' } } }],
  ['the identity of the QVE', 'QE_IDENTITY_ID', { collateral: { qeIdentity: { ...identity, id: 'QVE' } } }],
  ['a QE identity in the place of TCB info', 'TCB_INFO_VERSION', { collateral: { tcbInfo: identity } }],
  ['TCB info in the place of a QE identity', 'QE_IDENTITY_VERSION', { collateral: { qeIdentity: info } }],
];

const levels = (change: object) => ({
  collateral: { tcbInfo: { ...info, tcbLevels: [{ ...info.tcbLevels[0], ...change }] } },
});
const tcb = (change: object) => levels({ tcb: { ...info.tcbLevels[0]!.tcb, ...change } });
const text = JSON.stringify(info);
const tcbText = (from: string, to: string): Case => {
  if (!text.includes(from)) throw new Error(`no ${from}`);
  return { collateral: { tcbInfo: text.replace(from, to) } };
};

/** All signed by the right key: only a strict reader refuses them. */
const MALFORMED: [string, Case][] = [
  ['a key that appears twice', tcbText('"tcbType":0', '"tcbType":0,"tcbType":0')],
  [
    'a status that appears twice',
    tcbText(
      '"tcbStatus":"OutOfDate","advisoryIDs"',
      '"tcbStatus":"OutOfDate","tcbStatus":"UpToDate","advisoryIDs"',
    ),
  ],
  ['white space', tcbText('{"id"', '{ "id"')],
  ['text behind it', { collateral: { tcbInfo: `${text} ` } }],
  ['no JSON', { collateral: { tcbInfo: text.slice(1) } }],
  ['NaN', tcbText('"tcbType":0', '"tcbType":NaN')],
  ['a number of another form', tcbText('"tcbType":0', '"tcbType":0.0')],
  ['minus zero', tcbText('"tcbType":0', '"tcbType":-0')],
  ['an endless number', tcbText('"tcbEvaluationDataNumber":1', '"tcbEvaluationDataNumber":1e999')],
  ['an escaped key', tcbText('"fmspc"', '"fm\\u0073pc"')],
  ['a list', { collateral: { tcbInfo: [info] } }],
  ['null', { collateral: { tcbInfo: 'null' } }],
  ['a null evaluation number', { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: null } } }],
  [
    'a missing evaluation number',
    { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: undefined } } },
  ],
  ['a negative evaluation number', { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: -1 } } }],
  ['a fractional evaluation number', { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: 1.5 } } }],
  ['an evaluation number as text', { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: '1' } } }],
  ['a date that is none', { collateral: { tcbInfo: { ...info, nextUpdate: 'never' } } }],
  ['a missing date', { collateral: { tcbInfo: { ...info, nextUpdate: undefined } } }],
  ['a null date', { collateral: { tcbInfo: { ...info, issueDate: null } } }],
  ['the 30th of February', { collateral: { tcbInfo: { ...info, nextUpdate: '2030-02-30T00:00:00Z' } } }],
  ['the 24th hour', { collateral: { tcbInfo: { ...info, nextUpdate: '2030-02-10T24:00:00Z' } } }],
  ['a date without a zone', { collateral: { tcbInfo: { ...info, nextUpdate: '2030-02-10T00:00:00' } } }],
  ['a TCB date that is none', levels({ tcbDate: '' })],
  ['no levels', { collateral: { tcbInfo: { ...info, tcbLevels: [] } } }],
  ['a level without a status', levels({ tcbStatus: undefined })],
  ['a status that nobody knows', levels({ tcbStatus: 'uptodate' })],
  ['advisories that are none', levels({ advisoryIDs: [null] })],
  ['a level without PCESVN', tcb({ pcesvn: undefined })],
  ['a null PCESVN', tcb({ pcesvn: null })],
  ['a negative PCESVN', tcb({ pcesvn: -1 })],
  ['15 components', tcb({ sgxtcbcomponents: components().slice(1) })],
  ['17 components', tcb({ sgxtcbcomponents: [...components(), { svn: 0 }] })],
  ['a component without SVN', tcb({ sgxtcbcomponents: components().map(() => ({})) })],
  ['a component above 255', tcb({ tdxtcbcomponents: components(256) })],
  ['no TDX components', tcb({ tdxtcbcomponents: undefined })],
  ['no TDX module', { collateral: { tcbInfo: { ...info, tdxModule: undefined } } }],
  ['an FMSPC too short', { collateral: { tcbInfo: { ...info, fmspc: '53494d0000' } } }],
  ['an FMSPC that is no hex', { collateral: { tcbInfo: { ...info, fmspc: '53494d00000g' } } }],
  ['an inherited field', tcbText('"tcbType":0', '"__proto__":{"tcbType":0}')],
];

test.each([...REVOCATION, ...ROLES, ...DOCUMENTS])('%s: %s', (_, code, tried) => {
  expect(outcome(tried)).toBe(code);
});

test.each(MALFORMED)('signed TCB info with %s is refused: TCB_INFO_JSON', (_, tried) => {
  expect(outcome(tried)).toBe('TCB_INFO_JSON');
});

test.each<[string, object]>([
  ['a null ISVPRODID', { isvprodid: null }],
  ['a mask too short', { miscselectMask: 'FFFFFF' }],
  ['no MRSIGNER', { mrsigner: undefined }],
  ['an empty MRSIGNER', { mrsigner: '' }],
  ['no levels', { tcbLevels: [] }],
  ['a level without SVN', { tcbLevels: [{ ...identity.tcbLevels[0], tcb: {} }] }],
  ['a date that is none', { nextUpdate: '2050' }],
])('a signed QE identity with %s is refused: QE_IDENTITY_JSON', (_, change) => {
  expect(outcome({ collateral: { qeIdentity: { ...identity, ...change } } })).toBe('QE_IDENTITY_JSON');
});

const alter = (offset: number, value: number): Case => ({
  platform: {
    alterQeReport: (report) => {
      report[offset] = value;
    },
  },
});

test.each<[string, string, Case]>([
  ['another MRSIGNER', 'QE_MRSIGNER', alter(128, 0)],
  ['another ISVPRODID', 'QE_ISVPRODID', alter(256, 1)],
  ['another MISCSELECT', 'QE_MISCSELECT', alter(16, 1)],
  ['the highest bit of MISCSELECT', 'QE_MISCSELECT', alter(19, 0x80)],
  [
    'the highest bit of MISCSELECT, which its identity has too',
    'ACCEPTED UpToDate',
    { ...alter(19, 0x80), collateral: { qeIdentity: { ...identity, miscselect: '80000000' } } },
  ],
  ['debug ATTRIBUTES', 'QE_ATTRIBUTES', alter(48, 0x07)],
  ['ATTRIBUTES outside the mask', 'ACCEPTED UpToDate', alter(48, 0x01)],
  ['an ISVSVN below every level', 'QE_TCB_NOT_SUPPORTED', alter(258, 0)],
  ["report data that is another key's", 'QE_REPORT_BINDING', alter(320, 0)],
  ['report data with a tail', 'QE_REPORT_BINDING', alter(383, 1)],
  ['no authentication data', 'ACCEPTED UpToDate', { platform: { qeAuthenticationData: new Uint8Array(0) } }],
  [
    'long authentication data',
    'ACCEPTED UpToDate',
    { platform: { qeAuthenticationData: new Uint8Array(4000).fill(7) } },
  ],
])('a QE with %s: %s', (_, code, tried) => {
  expect(outcome(tried)).toBe(code);
});

test('all of the authentication data is bound, whatever its length', () => {
  const { registers, reportData } = simulatedCase();
  const long = createSimulatedPlatform({ ppid: TEST_PPID, qeAuthenticationData: new Uint8Array(1000) });
  const quote = long.signQuote({ registers, reportData });
  const data = 48 + 584 + 4 + 128 + 6 + 384 + 64 + 2;
  for (const offset of [data, data + 32, data + 999]) {
    const inputs = { trustRoot: SIMULATED_ROOT, now: TEST_NOW, collateral: PUBLISHED_SIMULATED_COLLATERAL };
    const { code } = judgeQuote(flipped(quote, offset), inputs);
    expect(code).toBe('QE_REPORT_BINDING');
  }
});

const qeStatus = (status: string, isvsvn = 1) => ({
  ...identity,
  tcbLevels: [{ ...identity.tcbLevels[0], tcb: { isvsvn }, tcbStatus: status, advisoryIDs: ['Q-1'] }],
});
const withStatus = (tcbStatus: string, more: object = {}) => ({
  ...info,
  tcbLevels: [{ ...info.tcbLevels[0], tcbStatus, advisoryIDs: ['L-1'] }],
  ...more,
});
const moduleLevel = (tcbStatus: string, isvsvn = 1) => ({
  tdxModuleIdentities: [
    {
      ...info.tdxModuleIdentities[0],
      tcbLevels: [{ tcb: { isvsvn }, tcbDate: info.issueDate, tcbStatus, advisoryIDs: ['M-1'] }],
    },
  ],
});

test.each<[string, string, string, string]>([
  // platform, module, QE, converged
  ['UpToDate', 'UpToDate', 'UpToDate', 'ACCEPTED UpToDate'],
  ['SWHardeningNeeded', 'UpToDate', 'UpToDate', 'ACCEPTED SWHardeningNeeded'],
  ['ConfigurationNeeded', 'UpToDate', 'UpToDate', 'ACCEPTED ConfigurationNeeded'],
  ['ConfigurationAndSWHardeningNeeded', 'UpToDate', 'UpToDate', 'ACCEPTED ConfigurationAndSWHardeningNeeded'],
  ['OutOfDate', 'UpToDate', 'UpToDate', 'ACCEPTED OutOfDate'],
  ['OutOfDateConfigurationNeeded', 'UpToDate', 'UpToDate', 'ACCEPTED OutOfDateConfigurationNeeded'],
  ['Revoked', 'UpToDate', 'UpToDate', 'TCB_REVOKED'],
  ['UpToDate', 'OutOfDate', 'UpToDate', 'ACCEPTED OutOfDate'],
  ['SWHardeningNeeded', 'OutOfDate', 'UpToDate', 'ACCEPTED OutOfDate'],
  ['ConfigurationNeeded', 'OutOfDate', 'UpToDate', 'ACCEPTED OutOfDateConfigurationNeeded'],
  ['ConfigurationAndSWHardeningNeeded', 'OutOfDate', 'UpToDate', 'ACCEPTED OutOfDateConfigurationNeeded'],
  ['OutOfDateConfigurationNeeded', 'OutOfDate', 'OutOfDate', 'ACCEPTED OutOfDateConfigurationNeeded'],
  ['UpToDate', 'UpToDate', 'OutOfDate', 'ACCEPTED OutOfDate'],
  ['ConfigurationNeeded', 'UpToDate', 'OutOfDate', 'ACCEPTED OutOfDateConfigurationNeeded'],
  ['UpToDate', 'Revoked', 'UpToDate', 'TDX_MODULE_REVOKED'],
  ['UpToDate', 'UpToDate', 'Revoked', 'QE_TCB_REVOKED'],
])('platform %s, module %s, QE %s: %s', (platform, module, qe, expected) => {
  const collateral = { tcbInfo: withStatus(platform, moduleLevel(module)), qeIdentity: qeStatus(qe) };
  expect(outcome({ collateral })).toBe(expected);
  const judged = judge({ collateral });
  if (judged.verdict === 'accept') expect(judged.advisories).toEqual(['L-1', 'M-1', 'Q-1']);
});

test("SVNs are the certificate's and the TD's, each compared", () => {
  const low = (index: number): Case => {
    const lower = Array.from({ length: 16 }, (_, other) => (other === index ? 0 : 1));
    return { platform: { sgx: { components: lower } } };
  };
  for (let index = 0; index < 16; index++) expect(outcome(low(index))).toBe('ACCEPTED OutOfDate');
  expect(outcome({ platform: { sgx: { pceSvn: 0 } } })).toBe('ACCEPTED OutOfDate');
  // The raw CPUSVN of the certificate and of the QE report play no part.
  expect(outcome({ platform: { sgx: { cpuSvn: svns() } } })).toBe('ACCEPTED UpToDate');
  expect(outcome(alter(0, 0))).toBe('ACCEPTED UpToDate');
  const only = { tcbInfo: { ...info, tcbLevels: info.tcbLevels.slice(0, 1) } };
  expect(outcome({ ...low(15), collateral: only })).toBe('TCB_NOT_SUPPORTED');
  expect(outcome({ quote: { teeTcbSvn: svns(1, 1, 0) }, collateral: only })).toBe('TCB_NOT_SUPPORTED');
});

test("TEE_TCB_SVN: the first two components are the module's when it has a version", () => {
  const first = {
    ...info.tcbLevels[0]!,
    tcb: { ...info.tcbLevels[0]!.tcb, tdxtcbcomponents: components(9, 9, 1) },
  };
  const tcbInfo = { ...info, tcbLevels: [first, info.tcbLevels[1]] };
  expect(outcome({ collateral: { tcbInfo } })).toBe('ACCEPTED UpToDate');
  // Version 0: all sixteen count, and there is no module identity to look at.
  expect(outcome({ collateral: { tcbInfo }, quote: { teeTcbSvn: svns(1, 0, 1) } })).toBe(
    'ACCEPTED OutOfDate',
  );
  expect(outcome({ quote: { teeTcbSvn: svns(1, 0, 1) } })).toBe('ACCEPTED UpToDate');
});

const seam = new Uint8Array(48).fill(1);
test.each<[string, string, Case]>([
  ['of an unknown version', 'TDX_MODULE_UNKNOWN', { quote: { teeTcbSvn: svns(1, 3, 1) } }],
  [
    'without any identities',
    'TDX_MODULE_UNKNOWN',
    { collateral: { tcbInfo: { ...info, tdxModuleIdentities: undefined } } },
  ],
  ['of another signer', 'TDX_MODULE_MRSIGNER', { quote: { mrSignerSeam: seam } }],
  [
    'of another signer, version 0',
    'TDX_MODULE_MRSIGNER',
    { quote: { mrSignerSeam: seam, teeTcbSvn: svns(1, 0, 1) } },
  ],
  ['with attributes', 'TDX_MODULE_ATTRIBUTES', { quote: { seamAttributes: fromHex('0100000000000000') } }],
  [
    'with attributes outside the mask',
    'TDX_MODULE_ATTRIBUTES',
    {
      quote: { seamAttributes: fromHex('0100000000000000') },
      collateral: {
        tcbInfo: {
          ...info,
          tdxModuleIdentities: [{ ...info.tdxModuleIdentities[0], attributesMask: '0000000000000000' }],
        },
      },
    },
  ],
  [
    'below every level',
    'TDX_MODULE_NOT_SUPPORTED',
    { collateral: { tcbInfo: { ...info, ...moduleLevel('UpToDate', 2) } } },
  ],
  ['out of date', 'ACCEPTED OutOfDate', { quote: { teeTcbSvn: svns(0, 1, 1) } }],
])('a TDX module %s: %s', (_, code, tried) => {
  expect(outcome(tried)).toBe(code);
});

test('TD relaunch: advised when only the TD is older than the module that runs now', () => {
  const tcbInfo = {
    ...info,
    tdxModuleIdentities: [
      {
        ...info.tdxModuleIdentities[0],
        tcbLevels: [
          { tcb: { isvsvn: 5 }, tcbDate: info.issueDate, tcbStatus: 'UpToDate' },
          { tcb: { isvsvn: 1 }, tcbDate: info.issueDate, tcbStatus: 'OutOfDate' },
        ],
      },
    ],
  };
  const td = (now: Uint8Array, changes: CollateralChanges = {}, layout: '5/1.0' | '5/1.5' = '5/1.5') =>
    outcome({ collateral: { tcbInfo, ...changes }, quote: { layout, teeTcbSvn2: now } });
  expect(td(svns(5, 1, 1))).toBe('ACCEPTED TDRelaunchAdvised');
  expect(td(svns(6, 1, 2))).toBe('ACCEPTED TDRelaunchAdvised');
  expect(td(svns(4, 1, 1))).toBe('ACCEPTED OutOfDate');
  expect(td(svns(5, 1, 0))).toBe('ACCEPTED OutOfDate');
  expect(td(svns(5, 2, 1))).toBe('TDX_MODULE_UNKNOWN');
  expect(td(svns(1, 0, 1))).toBe('ACCEPTED TDRelaunchAdvised');
  expect(td(svns(0, 0, 1))).toBe('ACCEPTED OutOfDate');
  // TD report 1.0 does not say which module runs now.
  expect(td(svns(5, 1, 1), {}, '5/1.0')).toBe('ACCEPTED OutOfDate');
  expect(td(svns(5, 1, 1), { qeIdentity: qeStatus('OutOfDate') })).toBe('ACCEPTED OutOfDate');
  const configuration = {
    ...tcbInfo,
    tcbLevels: [{ ...info.tcbLevels[0], tcbStatus: 'ConfigurationNeeded' }],
  };
  expect(td(svns(5, 1, 1), { tcbInfo: configuration })).toBe('ACCEPTED TDRelaunchAdvisedConfigurationNeeded');
  const old = { ...tcbInfo, tcbLevels: [{ ...info.tcbLevels[0], tcbStatus: 'OutOfDate' }] };
  expect(td(svns(5, 1, 1), { tcbInfo: old })).toBe('ACCEPTED OutOfDate');
});

const attribute = (hex: string): Case => ({ quote: { tdAttributes: fromHex(hex) } });
const outOfDate: Case = { platform: { sgx: { pceSvn: 0 } } };
const { registers, reportData } = simulatedCase();

test.each<[string, string, Case, object]>([
  ['nothing', 'ACCEPTED UpToDate', {}, {}],
  ['an old platform', 'TCB_STATUS_NOT_ACCEPTED', outOfDate, {}],
  ['an old platform', 'ACCEPTED OutOfDate', outOfDate, { statuses: ['OutOfDate'] }],
  ['an old platform', 'ACCEPTED OutOfDate', outOfDate, { gracePeriodDays: 2600 }],
  ['an old platform', 'TCB_STATUS_NOT_ACCEPTED', outOfDate, { gracePeriodDays: 2500 }],
  ['no status at all', 'TCB_STATUS_NOT_ACCEPTED', {}, { statuses: [] }],
  ['an advisory', 'TCB_ADVISORY_NOT_ACCEPTED', outOfDate, { statuses: ['OutOfDate'], advisories: [] }],
  [
    'an advisory',
    'ACCEPTED OutOfDate',
    outOfDate,
    { statuses: ['OutOfDate'], advisories: ['DSTACK-SIM-00001'] },
  ],
  ['evaluation 1', 'TCB_EVALUATION_NUMBER', {}, { minimumTcbEvaluationDataNumber: 2 }],
  [
    'evaluation 1 of the QE',
    'TCB_EVALUATION_NUMBER',
    { collateral: { tcbInfo: { ...info, tcbEvaluationDataNumber: 2 } } },
    { minimumTcbEvaluationDataNumber: 2 },
  ],
  ['evaluation 1', 'ACCEPTED UpToDate', {}, { minimumTcbEvaluationDataNumber: 1 }],
  ['six years of age', 'COLLATERAL_STALE', {}, { maximumCollateralAgeDays: 2191 }],
  ['six years of age', 'ACCEPTED UpToDate', {}, { maximumCollateralAgeDays: 2192 }],
  ['debug', 'TD_DEBUG', attribute('0100001000000000'), {}],
  ['profiling', 'TD_DEBUG', attribute('1000001000000000'), {}],
  ['every kind of profiling', 'ACCEPTED UpToDate', attribute('7100001000000000'), { allowDebug: true }],
  ['debug', 'ACCEPTED UpToDate', attribute('0100001000000000'), { allowDebug: true }],
  ['no SEPT_VE_DISABLE', 'TD_SEPT_VE', attribute('0000000000000000'), {}],
  ['no SEPT_VE_DISABLE', 'ACCEPTED UpToDate', attribute('0000000000000000'), { allowSeptVeEnabled: true }],
  ['migratable', 'TD_MIGRATABLE', attribute('0000003000000000'), {}],
  ['migratable', 'ACCEPTED UpToDate', attribute('0000003000000000'), { allowMigratable: true }],
  ['PKS', 'TD_PKS', attribute('0000005000000000'), {}],
  ['PKS', 'ACCEPTED UpToDate', attribute('0000005000000000'), { allowPks: true }],
  ['Key Locker', 'TD_KEY_LOCKER', attribute('0000009000000000'), {}],
  ['Key Locker', 'ACCEPTED UpToDate', attribute('0000009000000000'), { allowKeyLocker: true }],
  ['perfmon', 'TD_PERFMON', attribute('0000001000000080'), {}],
  ['perfmon', 'ACCEPTED UpToDate', attribute('0000001000000080'), { allowPerfmon: true }],
  ['a bit that nobody knows', 'TD_RESERVED', attribute('0001001000000000'), { allowDebug: true }],
  ['a bit of TUD that nobody knows', 'TD_RESERVED', attribute('0400001000000000'), { allowDebug: true }],
  [
    'a bit that nobody knows, by its mask',
    'ACCEPTED UpToDate',
    attribute('0001001000000040'),
    { reservedTdAttributes: '0001000000000000' },
  ],
  [
    "another bit than the mask's",
    'TD_RESERVED',
    attribute('0002001000000000'),
    { reservedTdAttributes: '0001000000000000' },
  ],
  [
    'a bit of TUD, by its mask alone',
    'TD_DEBUG',
    attribute('0400001000000000'),
    { reservedTdAttributes: '0400000000000000' },
  ],
  [
    'a bit of TUD, by its mask',
    'ACCEPTED UpToDate',
    attribute('0400001000000000'),
    { reservedTdAttributes: '0400000000000000', allowDebug: true },
  ],
  ['a service TD', 'TD_SERVICE_TD', { quote: { layout: '5/1.5', mrServiceTd: seam } }, {}],
  [
    'a service TD',
    'ACCEPTED UpToDate',
    { quote: { layout: '5/1.5', mrServiceTd: seam } },
    { mrServiceTds: [toHex(seam)] },
  ],
  ['other report data', 'REPORT_DATA_MISMATCH', {}, { reportData: '00'.repeat(64) }],
  ['its report data', 'ACCEPTED UpToDate', {}, { reportData: toHex(reportData) }],
  ['no set', 'MEASUREMENT_NOT_ALLOWED', {}, { measurements: [] }],
  ['a set that names nothing', 'MEASUREMENT_NOT_ALLOWED', {}, { measurements: [{ name: 'empty' }] }],
  [
    'a set that only asks for an SVN',
    'MEASUREMENT_NOT_ALLOWED',
    {},
    { measurements: [{ name: 'x', minimumIsvSvn: 0 }] },
  ],
  [
    'one of two sets',
    'ACCEPTED UpToDate',
    {},
    {
      measurements: [
        { name: 'a', mrtd: '00'.repeat(48) },
        { name: 'b', mrtd: toHex(registers.mrtd), rtmr3: toHex(registers.rtmr3) },
      ],
    },
  ],
  [
    'half of a set',
    'MEASUREMENT_NOT_ALLOWED',
    {},
    { measurements: [{ name: 'a', mrtd: toHex(registers.mrtd), rtmr0: '00'.repeat(48) }] },
  ],
  [
    'a set of an enclave',
    'MEASUREMENT_NOT_ALLOWED',
    {},
    { measurements: [{ name: 'a', mrEnclave: '00'.repeat(32) }] },
  ],
  ['a platform', 'PLATFORM_NOT_ALLOWED', {}, { platforms: [] }],
  [
    'a denied platform',
    'PLATFORM_NOT_ALLOWED',
    {},
    { deniedPlatforms: [toHex(simulatedCase().platform.platformId)] },
  ],
  [
    'an allowed platform',
    'ACCEPTED UpToDate',
    {},
    { platforms: [toHex(simulatedCase().platform.platformId)] },
  ],
  ['a denied FMSPC', 'FMSPC_NOT_ALLOWED', {}, { deniedFmspcs: ['53494d000000'] }],
  ['an FMSPC', 'FMSPC_NOT_ALLOWED', {}, { fmspcs: ['53494d000001'] }],
])('policy: %s: %s', (_, code, tried, policy) => {
  expect(outcome({ ...tried, policy })).toBe(code);
});

const NAMED = [0, 4, 5, 6, 16, 27, 28, 29, 30, 31, 62, 63];
const RESERVED = [...Array(64).keys()].filter((bit) => !NAMED.includes(bit));
test.each(RESERVED)('without a policy, reserved TD attribute %i is refused', (bit) => {
  const attributes = new Uint8Array(8);
  new DataView(attributes.buffer).setBigUint64(0, (1n << BigInt(bit)) | (1n << 28n), true);
  expect(outcome(attribute(toHex(attributes)))).toBe('TD_RESERVED');
});

test('without a policy, attributes that have a name are warned of alone', () => {
  for (const named of ['7100001000000000', '00000000000000c0', '000001f800000000']) {
    expect(outcome(attribute(named))).toBe('ACCEPTED UpToDate');
  }
});

test.each([
  '{"statuses":["Revoked"]}',
  '{"reservedTdAttributes":"01"}',
  '{"reservedTdAttributes":256}',
  '{"statuses":["uptodate"]}',
  '{"debug":true}',
  '{"gracePeriodDays":-1}',
  '{"gracePeriodDays":null}',
  '{"reportData":"00"}',
  '[]',
  'x',
])('%s is no policy', (json) => {
  expect(codeOfRefusal(() => parsePolicy(json))).toBe('POLICY_FORMAT');
});

test('the time to judge at is a date', () => {
  expect(outcome({ now: new Date('never') })).toBe('TIME_INVALID');
  const { quote } = simulatedCase();
  for (const skewMs of [Number.NaN, -1, Number.POSITIVE_INFINITY]) {
    expect(judgeQuote(quote, { trustRoot: SIMULATED_ROOT, now: TEST_NOW, skewMs }).code).toBe('TIME_INVALID');
  }
});

test('a collateral file is read strictly', () => {
  const fields = simulatedCollateral();
  const json = JSON.stringify(fields);
  const code = (value: string) => codeOfRefusal(() => parseCollateral(value));
  expect(code(json)).toBe('ACCEPTED');
  expect(code(JSON.stringify(fields, null, 2))).toBe('ACCEPTED');
  expect(code(JSON.stringify({ ...fields, pck_certificate_chain: 'x' }))).toBe('ACCEPTED');
  expect(code(json.replace('"tcb_info":', '"tcb_info":"x","tcb_info":'))).toBe('COLLATERAL_FORMAT');
  expect(code('null')).toBe('COLLATERAL_FORMAT');
  expect(code('[]')).toBe('COLLATERAL_FORMAT');
  expect(code('{')).toBe('COLLATERAL_FORMAT');
  for (const name of Object.keys(fields) as (keyof Collateral)[]) {
    for (const value of [undefined, null, 1, '', {}, 'x'.repeat(3_000_000)]) {
      expect(code(JSON.stringify({ ...fields, [name]: value }))).toBe('COLLATERAL_FORMAT');
    }
  }
  expect(code(JSON.stringify({ ...fields, more: '' }))).toBe('COLLATERAL_FORMAT');
  for (const hex of ['0', 'AB', '0g', '00 ']) {
    expect(code(JSON.stringify({ ...fields, root_ca_crl: hex }))).toBe('COLLATERAL_FORMAT');
  }
});

test('high and low s are the same evidence, in every signature of a quote and of collateral', () => {
  const { quote } = simulatedCase();
  const collateral = simulatedCollateral();
  const accepted = (bytes: Uint8Array, changed: Collateral) =>
    judgeQuote(bytes, { trustRoot: SIMULATED_ROOT, now: TEST_NOW, collateral: changed }).verdict;
  const twin = quote.slice();
  for (const at of [636, 636 + 128 + 6 + 384]) twin.set(otherS(quote.subarray(at, at + 64)), at);
  const other = (hex: string) => toHex(otherS(fromHex(hex)));
  const twins = {
    ...collateral,
    tcb_info_signature: other(collateral.tcb_info_signature),
    qe_identity_signature: other(collateral.qe_identity_signature),
  };
  expect(accepted(twin, twins)).toBe('accept');
  const { tcb_info_signature: tcbSignature } = collateral;
  for (const hex of [
    '00'.repeat(64),
    tcbSignature.slice(2),
    `${tcbSignature}00`,
    `${'00'.repeat(32)}${tcbSignature.slice(64)}`,
  ]) {
    expect(accepted(quote, { ...collateral, tcb_info_signature: hex })).toBe('reject');
  }
});
