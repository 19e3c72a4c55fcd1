/**
 * TCB info: what Intel says of the security of one kind of platform (FMSPC).
 * Source: Intel PCS API, version 4, "Get TCB Info"; version 3 of the document.
 */

import { AttestationError } from '../errors.ts';
import {
  COMPONENT_STATUSES,
  type ComponentStatus,
  LEVEL_STATUSES,
  type LevelStatus,
} from '../tcb/tcb-status.ts';
import { type JsonObject, parseSignedJson } from './signed-json.ts';

export interface TcbLevel {
  /** The 16 SGX component SVNs that a platform of this level has at least. */
  readonly sgxComponents: Uint8Array;
  readonly pceSvn: number;
  /** The 16 TDX component SVNs; TDX only. */
  readonly tdxComponents: Uint8Array | undefined;
  readonly status: LevelStatus;
  /** Milliseconds since 1970. */
  readonly date: number;
  readonly advisories: readonly string[];
}

/** A level of a TDX module or of a quoting enclave. */
export interface ComponentLevel {
  readonly isvSvn: number;
  readonly status: ComponentStatus;
  readonly date: number;
  readonly advisories: readonly string[];
}

/** Who may have signed a TDX module, and with which attributes. */
export interface ModuleSigner {
  /** 48 bytes. */
  readonly mrSigner: Uint8Array;
  /** 8 bytes each. */
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
}

export interface ModuleIdentity extends ModuleSigner {
  /** Upper case, such as TDX_03. */
  readonly id: string;
  readonly levels: readonly ComponentLevel[];
}

export interface TcbInfo {
  readonly id: 'SGX' | 'TDX';
  readonly issueDate: number;
  readonly nextUpdate: number;
  /** 6 and 2 bytes. */
  readonly fmspc: Uint8Array;
  readonly pceId: Uint8Array;
  readonly tcbEvaluationDataNumber: number;
  /** TDX only: the signer of modules of version 0. */
  readonly module: ModuleSigner | undefined;
  readonly moduleIdentities: readonly ModuleIdentity[];
  /** Highest first. */
  readonly levels: readonly TcbLevel[];
}

const MAX_LEVELS = 256;

/** @throws AttestationError TCB_INFO_JSON, TCB_INFO_VERSION, TCB_INFO_ID, TCB_INFO_TYPE */
export function parseTcbInfo(text: string): TcbInfo {
  const root = parseSignedJson(text, 'TCB_INFO');
  const version = root.integer('version', 0xffff);
  if (version !== 3)
    throw new AttestationError('TCB_INFO_VERSION', `TCB info must be of version 3, not ${version}`);
  const id = root.text('id');
  if (id !== 'SGX' && id !== 'TDX')
    throw new AttestationError('TCB_INFO_ID', `TCB info is of ${id}, not SGX or TDX`);
  const tcbType = root.integer('tcbType', 0xffff);
  if (tcbType !== 0)
    throw new AttestationError('TCB_INFO_TYPE', `TCB type ${tcbType} has no known comparison rules`);
  return {
    id,
    issueDate: root.date('issueDate'),
    nextUpdate: root.date('nextUpdate'),
    fmspc: root.hex('fmspc', 6),
    pceId: root.hex('pceId', 2),
    tcbEvaluationDataNumber: root.integer('tcbEvaluationDataNumber', 0xffffffff),
    module: id === 'TDX' ? parseSigner(root.object('tdxModule')) : undefined,
    moduleIdentities: root.has('tdxModuleIdentities')
      ? root.objects('tdxModuleIdentities', 0, MAX_LEVELS).map(parseModuleIdentity)
      : [],
    levels: root.objects('tcbLevels', 1, MAX_LEVELS).map((level) => parseLevel(level, id === 'TDX')),
  };
}

function parseLevel(level: JsonObject, isTdx: boolean): TcbLevel {
  const tcb = level.object('tcb');
  return {
    sgxComponents: parseComponents(tcb, 'sgxtcbcomponents'),
    pceSvn: tcb.integer('pcesvn', 0xffff),
    tdxComponents: isTdx ? parseComponents(tcb, 'tdxtcbcomponents') : undefined,
    status: level.one('tcbStatus', LEVEL_STATUSES),
    date: level.date('tcbDate'),
    advisories: level.texts('advisoryIDs', MAX_LEVELS),
  };
}

function parseComponents(tcb: JsonObject, name: string): Uint8Array {
  return tcb.bytesOf(name, 'svn', 16);
}

function parseModuleIdentity(identity: JsonObject): ModuleIdentity {
  return {
    id: identity.text('id').toUpperCase(),
    ...parseSigner(identity),
    levels: identity.objects('tcbLevels', 1, MAX_LEVELS).map(parseComponentLevel),
  };
}

function parseSigner(signer: JsonObject): ModuleSigner {
  return {
    mrSigner: signer.hex('mrsigner', 48),
    attributes: signer.hex('attributes', 8),
    attributesMask: signer.hex('attributesMask', 8),
  };
}

/** The form that levels of modules and of quoting enclaves share. */
export function parseComponentLevel(level: JsonObject): ComponentLevel {
  return {
    isvSvn: level.object('tcb').integer('isvsvn', 0xffff),
    status: level.one('tcbStatus', COMPONENT_STATUSES),
    date: level.date('tcbDate'),
    advisories: level.texts('advisoryIDs', MAX_LEVELS),
  };
}
