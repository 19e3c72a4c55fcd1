/** `quote …`: what a quote says, and whether it is true. All offline, except the command that fetches collateral. */
import { readFileSync, writeFileSync } from 'node:fs';
import { inspectCollateral } from '../../host/collateral/inspect.ts';
import { pcsSource } from '../../host/collateral/pcs.ts';
import { kindName } from '../../host/collateral/source.ts';
import { parseCertificate } from '../../lib/attestation/certificates/certificate.ts';
import {
  defineTrustRoot,
  INTEL_ROOT,
  SIMULATED_ROOT,
  type TrustRoot,
} from '../../lib/attestation/certificates/trust-roots.ts';
import {
  type Collateral,
  MAX_COLLATERAL_CHARACTERS,
  parseCollateral,
} from '../../lib/attestation/collateral/collateral.ts';
import { AttestationError } from '../../lib/attestation/errors.ts';
import { type Judgement, judgeQuote } from '../../lib/attestation/judge.ts';
import { parsePolicy } from '../../lib/attestation/policy.ts';
import { platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import { MAX_QUOTE_BYTES, parseQuote, type Quote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { tdAttributeNames } from '../../lib/attestation/quote/td-attributes.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { bytesEqual, toHex } from '../../lib/protocol/encoding.ts';
import { type Arguments, type Command, narrationOptions, UsageError } from '../command.ts';

const verify: Command = {
  name: 'quote verify',
  summary: "judges a quote by Intel's rules, and by a policy if there is one; exits 1 when it is refused",
  positionals: ['QUOTE|-'],
  options: {
    collateral: { value: 'FILE', help: 'collateral.json: TCB info, QE identity, CRLs and their issuers' },
    at: { value: 'TIME', help: 'the instant to judge at: ISO 8601 or seconds since 1970; default: now' },
    root: { value: 'FILE', help: "the root certificate to trust, DER or PEM; default: Intel's" },
    policy: { value: 'FILE', help: "policy.json (docs/attestation.md); without, only Intel's rules apply" },
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  run(args) {
    const [file] = args.positionals as [string];
    const bytes = readBytes(file, 4 * MAX_QUOTE_BYTES);
    const trustRoot = args.optional('root') === undefined ? INTEL_ROOT : rootFrom(args.text('root'));
    const policyFile = args.optional('policy');
    const policy =
      policyFile === undefined ? undefined : ownInput(() => parsePolicy(readText(policyFile, 1_048_576)));
    const now = instant(args.optional('at'));
    const judgement = judgeWith(args, (collateral) =>
      judgeQuote(quoteBytes(bytes), { trustRoot, now, collateral }, policy),
    );
    if (args.flag('json')) printJson(asJson(judgement));
    else print(...asText(judgement));
    if (judgement.verdict === 'reject') process.exitCode = 1;
    return Promise.resolve();
  },
};

const show: Command = {
  name: 'quote show',
  summary: 'prints what a quote says; checks nothing but its structure',
  positionals: ['QUOTE|-'],
  options: { json: { help: 'prints one JSON object: the same names and texts' } },
  run(args) {
    const [file] = args.positionals as [string];
    const quote = parseQuote(quoteBytes(readBytes(file, 4 * MAX_QUOTE_BYTES)));
    const described = describe(quote);
    if (args.flag('json')) printJson(Object.fromEntries(described));
    else for (const [name, value] of described) print(`${name.padEnd(20)} ${value}`);
    return Promise.resolve();
  },
};

const collateral: Command = {
  name: 'quote collateral',
  summary:
    "gets the collateral of a quote's platform from a service, for quote verify or a folder of a relay",
  positionals: ['QUOTE|-'],
  options: {
    pcs: {
      value: 'URL',
      help: "Intel's Provisioning Certification Service, or a PCCS",
      env: 'DSTACK_PCS_URL',
      default: 'https://api.trustedservices.intel.com',
    },
    'root-crl': {
      value: 'URL',
      help: "the CRL of Intel's root, if it is not where Intel or a PCCS has it",
      env: 'DSTACK_PCS_ROOT_CRL_URL',
    },
    out: { value: 'FILE', help: 'where to write it; printed by default' },
  },
  async run(args) {
    const [file] = args.positionals as [string];
    const kind = platformKindOf(parseQuote(quoteBytes(readBytes(file, 4 * MAX_QUOTE_BYTES))));
    const source = pcsSource({ url: urlOf(args, 'pcs')!, rootCrlUrl: urlOf(args, 'root-crl') });
    const found = (await source.find(kind))!;
    const { nextUpdate, tcbEvaluationDataNumber } = inspectCollateral(found, kind, Date.now());
    const out = args.optional('out');
    if (out === undefined) printJson(found, 1);
    else writeFileSync(out, `${JSON.stringify(found, null, 1)}\n`);
    const until = new Date(nextUpdate).toISOString();
    printError(`${kindName(kind)}, TCB evaluation ${tcbEvaluationDataNumber}, current until ${until}`);
  },
};

function urlOf(args: Arguments, name: string): string | undefined {
  const text = args.optional(name);
  if (text !== undefined && !/^https?:\/\/[^\s]+$/.test(text)) {
    throw new UsageError(`--${name} takes an http or https URL, not ${text}`);
  }
  return text;
}

/** Collateral is evidence too: a fault in it is part of the verdict, not a usage error. */
function judgeWith(args: Arguments, judge: (collateral: Collateral | undefined) => Judgement): Judgement {
  const file = args.optional('collateral');
  if (file === undefined) return judge(undefined);
  const text = readText(file, MAX_COLLATERAL_CHARACTERS);
  let collateral: Collateral;
  try {
    collateral = parseCollateral(text);
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    const { code, message } = error;
    return {
      verdict: 'reject',
      code,
      status: null,
      advisories: [],
      message,
      steps: [],
      appraisal: undefined,
    };
  }
  return judge(collateral);
}

/** A quote as bytes, or as the hex or base64 in which many tools print it. A quote's own bytes begin with its version, which is no text. */
function quoteBytes(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').replace(/\s/g, '').replace(/^0x/i, '');
  if (/^(?:[0-9a-fA-F]{2})+$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  return /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) ? new Uint8Array(Buffer.from(text, 'base64')) : bytes;
}

/** Intel's, the simulated one, or any other that names its certificates as Intel does. */
function rootFrom(file: string): TrustRoot {
  const bytes = readBytes(file, 65_536);
  const pem = /-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/.exec(
    Buffer.from(bytes).toString('latin1'),
  );
  const certificate = pem === null ? bytes : new Uint8Array(Buffer.from(pem[1] ?? '', 'base64'));
  const known = [INTEL_ROOT, SIMULATED_ROOT].find((root) => bytesEqual(root.certificate, certificate));
  if (known !== undefined) return known;
  const { isAuthority, commonName } = ownInput(() => parseCertificate(certificate));
  if (!isAuthority) throw new UsageError(`--root ${file} is not a certificate authority`);
  return defineTrustRoot({
    name: 'given',
    certificate,
    roles: { ...INTEL_ROOT.roles, root: commonName },
  });
}

function instant(text: string | undefined): Date {
  if (text === undefined) return new Date();
  const iso = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/;
  const time = /^\d{1,12}$/.test(text) ? Number(text) * 1000 : iso.test(text) ? Date.parse(text) : Number.NaN;
  // Date.parse reads the 30th of February as the 2nd of March.
  const shifted = text.endsWith('Z') && new Date(time || 0).toISOString().slice(0, 10) !== text.slice(0, 10);
  if (Number.isNaN(new Date(time).getTime()) || shifted) {
    throw new UsageError(`--at takes 2026-01-31T12:00:00Z or seconds since 1970, not ${text}`);
  }
  return new Date(time);
}

/** The caller wrote it, so a mistake in it is a usage error. */
function ownInput<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (error instanceof AttestationError) throw new UsageError(error.message);
    throw error;
  }
}

function readBytes(file: string, limit: number): Uint8Array {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file === '-' ? 0 : file);
  } catch (error) {
    throw new UsageError(`can't read ${file}: ${(error as Error).message}`);
  }
  if (bytes.length === 0) throw new UsageError(`${file === '-' ? 'standard input' : file} is empty`);
  if (bytes.length > limit) throw new UsageError(`${file} has ${bytes.length} bytes, more than ${limit}`);
  return new Uint8Array(bytes);
}

function readText(file: string, limit: number): string {
  return Buffer.from(readBytes(file, limit)).toString('utf8');
}

function asJson({ appraisal, ...judgement }: Judgement) {
  if (appraisal === undefined) return judgement;
  const { quote, sgx } = appraisal;
  return {
    ...judgement,
    quoteHash: toHex(quoteHash(quote)),
    fmspc: toHex(sgx.fmspc),
    quote: Object.fromEntries(describe(quote)),
  };
}

function asText({ verdict, code, message, steps }: Judgement): readonly string[] {
  const lines = steps.map(
    ({ name, outcome, detail }) =>
      `${outcome === 'passed' ? 'ok     ' : 'WARNING'} ${name.padEnd(22)} ${detail}`,
  );
  lines.push(verdict === 'accept' ? `ACCEPT  ${message}` : `REJECT  ${code}: ${message}`);
  return lines;
}

/** The fields of a quote, for people. */
function describe(quote: Quote): [string, string][] {
  const { header, body, qeReport, certification } = quote;
  const common: [string, string][] = [
    ['version', `${header.version}`],
    ['tee', body.kind === 'sgx' ? 'SGX enclave' : `TD, report ${body.kind === 'td10' ? '1.0' : '1.5'}`],
    ['quote hash', toHex(quoteHash(quote))],
    ['length', `${quote.length}`],
  ];
  const last: [string, string][] = [
    ['report data', toHex(body.reportData)],
    ['QE MRENCLAVE', toHex(qeReport.mrEnclave)],
    ['QE ISVSVN', `${qeReport.isvSvn}`],
    ['certification data', `type ${certification.type}, ${certification.data.length} bytes`],
  ];
  if (body.kind === 'sgx') {
    return [
      ...common,
      ['MRENCLAVE', toHex(body.mrEnclave)],
      ['MRSIGNER', toHex(body.mrSigner)],
      ['ISVPRODID', `${body.isvProdId}`],
      ['ISVSVN', `${body.isvSvn}`],
      ['ATTRIBUTES', toHex(body.attributes)],
      ...last,
    ];
  }
  return [
    ...common,
    ['measurement', toHex(measurementOf(body))],
    ['MRTD', toHex(body.mrtd)],
    ['RTMR0', toHex(body.rtmr0)],
    ['RTMR1', toHex(body.rtmr1)],
    ['RTMR2', toHex(body.rtmr2)],
    ['RTMR3', toHex(body.rtmr3)],
    ['TDATTRIBUTES', `${toHex(body.tdAttributes)} ${tdAttributeNames(body.tdAttributes).join(', ')}`.trim()],
    ['XFAM', toHex(body.xfam)],
    ['TEE_TCB_SVN', toHex(body.teeTcbSvn)],
    ...(body.teeTcbSvn2 === undefined
      ? []
      : ([['TEE_TCB_SVN_2', toHex(body.teeTcbSvn2)]] as [string, string][])),
    ['MRSEAM', toHex(body.mrSeam)],
    ['MRSIGNERSEAM', toHex(body.mrSignerSeam)],
    ['MRCONFIGID', toHex(body.mrConfigId)],
    ['MROWNER', toHex(body.mrOwner)],
    ['MROWNERCONFIG', toHex(body.mrOwnerConfig)],
    ...(body.mrServiceTd === undefined
      ? []
      : ([['MRSERVICETD', toHex(body.mrServiceTd)]] as [string, string][])),
    ...last,
  ];
}

export const quoteCommands: readonly Command[] = [verify, show, collateral];
